"""Settings: file < environment < flags, checked as a whole, secrets masked, nothing heavy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from consistent_gen.config import from_mapping, to_json
from consistent_gen.errors import InputError
from services.keys import create_key
from services.settings import MASK, Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789012345"


def test_flags_win_over_environment_wins_over_file(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("server: {port: 1, host: localhost}\nlimits: {frames: 3, steps: 9}\n")
    environ = {
        "CONSISTENT_GEN_SERVER_PORT": "2",
        "CONSISTENT_GEN_LIMITS_FRAMES": "4",
        "CONSISTENT_GEN_WEIGHTS": "/elsewhere",
        "CONSISTENT_GEN_SERVER": "http://for.the.client",
        "HOME": "/root",
    }
    found = load_settings(file, environ, ["server.port=3"])
    assert (found.server.port, found.limits.frames, found.limits.steps) == (3, 4, 9)
    assert found.server.host == "localhost"
    assert load_settings(None, None) == Settings()
    assert from_mapping(Settings, to_json(found)) == found


@pytest.mark.parametrize(
    ("variable", "text", "group", "name", "value"),
    [
        ("CONSISTENT_GEN_AUTH_WORKER_TOKEN", TOKEN, "auth", "worker_token", TOKEN),
        ("CONSISTENT_GEN_AUTH_ANONYMOUS", "false", "auth", "anonymous", False),
        ("CONSISTENT_GEN_AUTH_KEYS_FILE", "1", "auth", "keys_file", Path("1")),
        ("CONSISTENT_GEN_AUTH_KEYS_FILE", "", "auth", "keys_file", None),
        ("CONSISTENT_GEN_ENGINE_BUCKET", "4", "engine", "bucket", 4),
        ("CONSISTENT_GEN_ENGINE_BUCKET", "null", "engine", "bucket", None),
        ("CONSISTENT_GEN_ENGINE_DTYPE", "bfloat16", "engine", "dtype", "bfloat16"),
        ("CONSISTENT_GEN_STORAGE_RETENTION_DAYS", "0.5", "storage", "retention_days", 0.5),
        ("CONSISTENT_GEN_SERVER_TRUSTED_PROXIES", "[a]", "server", "trusted_proxies", ("a",)),
    ],
)  # fmt: skip
def test_variables_have_the_type_of_their_field(
    variable: str, text: str, group: str, name: str, value: object
) -> None:
    assert getattr(getattr(load_settings(None, {variable: text}), group), name) == value


@pytest.mark.parametrize(
    ("environ", "overrides", "said"),
    [
        ({"CONSISTENT_GEN_SERVER_PROT": "1"}, [], "CONSISTENT_GEN_SERVER_PORT"),
        ({"CONSISTENT_GEN_SERVER_PORT": "many"}, [], "server.port"),
        ({"CONSISTENT_GEN_SERVER_PORT": "{"}, [], "YAML"),
        ({}, ["server.prot=1"], "port"),
        ({}, ["serve.port=1"], "server"),
        ({}, ["server.port=70000"], "65535"),
        ({}, ["limits.queue=0"], "more than 0"),
        ({}, ["engine.lease_s=-1"], "lease_s"),
        ({}, ["engine.bucket=0"], "bucket"),
        ({}, ["engine.dtype=float8"], "dtype is 'float8'; expected float32"),
        ({}, ["engine.preview_every=-1"], "preview_every"),
        ({}, ["storage.reserve_bytes=-1"], "reserve_bytes"),
        ({}, ["storage.retention_days=0"], "retention_days"),
        ({}, ["auth.worker_token=short"], "worker_token"),
        ({}, ["auth.former_worker_token=short"], "former_worker_token"),
        ({}, ["safety.threshold=0"], "threshold is 0"),
        ({}, ["telemetry.log_format=xml"], "log_format is 'xml'; expected text or json"),
        ({}, ["telemetry.traces_url=collector:4318"], "traces_url is 'collector:4318'"),
        ({}, ["language.model=gpt"], "model is 'gpt'; expected card"),
        ({}, ["language.model=transformers", "language.folder=/nowhere"], "needs its folder"),
        ({}, ["language.model=endpoint", "language.name=m", "language.url=ftp://x"], "address"),
    ],
)
def test_a_mistake_is_named(environ: dict[str, str], overrides: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_settings(None, environ, overrides)


def test_a_mistake_in_a_file_is_named_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    for text in ("server: 3", "- a", "server: {prot: 1}", "{", "limits: {steps: no}"):
        file.write_text(text)
        with pytest.raises(InputError, match=r"serve\.yaml"):
            load_settings(file)
    with pytest.raises(InputError, match=r"none\.yaml"):
        load_settings(tmp_path / "none.yaml")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", ""])
def test_other_machines_need_keys(tmp_path: Path, host: str) -> None:
    with pytest.raises(InputError, match="keys"):
        load_settings(overrides=[f"server.host='{host}'"]).check()
    file = tmp_path / "keys.json"
    with_keys = [f"server.host='{host}'", f"auth.keys_file={file}"]
    with pytest.raises(InputError, match="not a file"):
        load_settings(overrides=with_keys).check()
    create_key(file, "alice")
    settings = load_settings(overrides=with_keys)
    settings.check()
    assert not settings.allows_anonymous


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_needs_none(host: str) -> None:
    settings = load_settings(overrides=[f"server.host='{host}'"])
    settings.check()
    assert settings.allows_anonymous
    with pytest.raises(InputError, match="nobody"):
        load_settings(overrides=["auth.anonymous=false"]).check()


def test_secrets_are_masked() -> None:
    settings = load_settings(overrides=[f"auth.worker_token={TOKEN!r}"])
    assert TOKEN not in str(settings.shown()) and settings.shown()["auth"]["worker_token"] == MASK
    assert Settings().shown()["auth"]["worker_token"] == ""
    settings = load_settings(None, {"CONSISTENT_GEN_STORE_URL": "postgresql://me:hunter2@db/store"})
    assert settings.shown()["store"]["url"] == MASK and "hunter2" not in repr(settings)
    with pytest.raises(InputError, match="address of a PostgreSQL") as error:
        load_settings(overrides=["store.url=mysql://me:hunter2@db/store"])
    assert "hunter2" not in str(error.value)


def test_settings_errors_and_keys_load_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "pydantic", "PIL", "fastapi", "diffusers", "sqlite3")
    program = (
        "import sys, services.errors, services.settings, services.keys\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr


def test_every_documented_setting_is_read() -> None:
    """And every setting is documented. Code reads one as an attribute of its section, which it may
    have given a name of its own (`limits = state.settings.limits`).
    """
    page = (ROOT / "docs" / "serving.md").read_text()
    told = set(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", page, re.MULTILINE))
    sections = {f.name: f.default_factory for f in fields(Settings) if callable(f.default_factory)}
    known = {f"{name}.{f.name}" for name, kind in sections.items() for f in fields(kind)}  # type: ignore[arg-type]
    assert told == known
    code = "\n".join(path.read_text() for path in (ROOT / "services").rglob("*.py"))
    unread = [n for n in known if not re.search(rf"\b_?{n.replace('.', '[.]')}\b", code)]
    assert unread == []
