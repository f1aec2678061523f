"""The Compose file and the image: names meet, one door, nobody is root."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from services.launch.options import settings_of
from tests.deploy.manifests import DEPLOY, ROOT, TOKEN, compose, parsed


def test_compose_names_meet() -> None:
    file = compose()
    services = file["services"]
    for name, service in services.items():
        for other, wish in service.get("depends_on", {}).items():
            assert other in services, name
            if wish["condition"] == "service_healthy":
                assert services[other]["healthcheck"]["test"][0] == "CMD"
        assert set(service["networks"]) <= file["networks"].keys(), name
        assert {c["source"] for c in service.get("configs", ())} <= file["configs"].keys(), name
        for volume in service.get("volumes", ()):
            assert volume.split(":")[0] in file["volumes"], name
    for config in file["configs"].values():
        assert (DEPLOY / config["file"]).is_file()
    for service in services.values():
        if "build" in service:
            context = DEPLOY / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).is_file()


def test_compose_opens_one_door_on_this_machine() -> None:
    file = compose()
    published = {n: s["ports"] for n, s in file["services"].items() if "ports" in s}
    assert set(published) == {"proxy", "prometheus"}
    for ports in published.values():
        assert all(re.match(r"(\$\{PUBLISH:-)?127\.0\.0\.1:", port) for port in ports)
    assert file["networks"]["back"]["internal"] is True
    for name, service in file["services"].items():
        # Who calls webhooks has to reach them.
        opened = name in published or name == "alertmanager"
        assert ("front" in service["networks"]) == opened, name
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "mem_limit" in service, name
        assert "privileged" not in service and "/var/run" not in str(service), name


def test_compose_starts_what_the_programs_take(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    services = compose()["services"]
    keys = tmp_path / "keys.json"
    keys.write_text('{"schema": 1, "keys": {}}')
    for name in ("gateway", "worker", "worker-gpu"):
        options = parsed(services[name]["command"], monkeypatch)
        with monkeypatch.context() as patch:
            for variable, value in services[name]["environment"].items():
                assert not re.search("TOKEN|UI_KEY", variable) or value.startswith("${")
                patch.setenv(variable, TOKEN if value.startswith("${") else value)
            if name == "gateway":
                patch.setenv("CONSISTENT_GEN_AUTH_KEYS_FILE", str(keys))
            settings = settings_of(options)
        assert settings.engine.bucket == 8 and settings.auth.worker_token == TOKEN
        if name == "gateway":
            assert options.gateway_only and settings.server.port == 8000
            assert settings.server.trusted_proxies == (
                compose()["networks"]["back"]["ipam"]["config"][0]["subnet"],
            )
        else:
            assert options.url == "http://gateway:8000"


def test_a_token_that_is_not_set_stops_compose() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert text.count("CONSISTENT_GEN_AUTH_WORKER_TOKEN: ${CONSISTENT_GEN_AUTH_WORKER_TOKEN:?") == 2


def has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True)
    return asked.returncode == 0


@pytest.mark.skipif(not has_compose(), reason="needs docker compose")
def test_docker_compose_reads_it() -> None:
    subprocess.run(
        [
            "docker",
            "compose",
            "-f",
            str(DEPLOY / "compose.yaml"),
            "--profile",
            "gpu",
            "config",
            "-q",
        ],
        check=True,
        env={"CONSISTENT_GEN_AUTH_WORKER_TOKEN": TOKEN, "PATH": "/usr/local/bin:/usr/bin:/bin"},
    )


def instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2]) for line in lines]


def test_the_image_is_pinned_small_and_not_root() -> None:
    found = instructions()
    bases = [value.split()[0] for word, value in found if word == "FROM"]
    assert all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases) and len(bases) == 2
    users = [value for word, value in found if word == "USER"]
    assert users and all(not user.startswith(("0", "root")) for user in users)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for word, value in found:
        if word == "COPY" and "--from" not in value:
            for source in shlex.split(value)[:-1]:
                assert (ROOT / source).exists() and f"!{source}" in ignored, source
    assert next(value for word, value in found if word == "ENTRYPOINT") == '["python", "-m"]'
    assert "*" in ignored
