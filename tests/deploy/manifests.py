"""The files of deploy/ as values, and what the code says of the same things."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services import serve, worker_process
from services.settings import Settings, StorageSettings
from services.web import open_state

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
TEXTS = sorted(p for p in DEPLOY.rglob("*") if p.is_file())
TOKEN = "0123456789abcdef0123456789abcdef"


def documents(*files: Path) -> list[dict[str, Any]]:
    return [d for f in files for d in yaml.safe_load_all(f.read_text(encoding="utf-8")) if d]


@functools.cache
def kubernetes() -> list[dict[str, Any]]:
    listed = documents(BASE / "kustomization.yaml")[0]["resources"]
    return documents(*(BASE / name for name in listed))


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {d["metadata"]["name"]: d for d in kubernetes() if d["kind"] == kind}


def pods() -> dict[str, dict[str, Any]]:
    return {name: d["spec"]["template"] for name, d in of_kind("Deployment").items()}


def containers() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for name, pod in pods().items():
        for container in pod["spec"]["containers"]:
            yield f"{name}/{container['name']}", container, pod["spec"]


def compose() -> dict[str, Any]:
    return documents(DEPLOY / "compose.yaml")[0]


def parsed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The options that the program named first makes of the other words."""
    module = {"services.serve": serve, "services.worker_process": worker_process}[words[0]]
    found: list[Any] = []
    monkeypatch.setattr(module, "run", lambda options: found.append(options) or 0)
    assert module.main(words[1:]) == 0
    return found[0]


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {v["name"]: v.get("value", TOKEN) for v in container.get("env", ())}


def metric_names(folder: Path) -> set[str]:
    """The names that a gateway's /metrics has, families and samples."""
    state = open_state(Settings(storage=StorageSettings(data_dir=folder)))
    try:
        state.metrics.observe("GET", "/v1/jobs/{job}", 500, 0.1)
        text = state.metrics.text().decode()
    finally:
        state.close()
    families = re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)
    samples = re.findall(r"^([a-z_]+)[{ ]", text, re.MULTILINE)
    return {*families, *samples}
