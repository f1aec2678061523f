"""What pods start is what the programs take, with settings that load."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import serve, worker_process
from services.launch.options import settings_of
from tests.deploy.manifests import (
    BASE,
    TOKEN,
    documents,
    environment,
    of_kind,
    parsed,
    pods,
)


@pytest.mark.parametrize("name", ["gateway", "generation"])
def test_pods_start_with_commands_and_settings_that_the_programs_take(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    container = pods()[name]["spec"]["containers"][0]
    options = parsed(container["args"], monkeypatch)
    assert options.config.startswith("/etc/consistent-gen/settings/")
    options.config = str(BASE / "settings" / Path(options.config).name)
    for variable, value in environment(container).items():
        monkeypatch.setenv(variable, value)
    if name == "gateway":
        assert options.gateway_only
        keys = tmp_path / "keys.json"
        keys.write_text('{"schema": 1, "keys": {}}')
        options.keys = str(keys)
    settings = settings_of(options)
    assert settings.storage.data_dir == Path("/data")
    assert settings.auth.worker_token == TOKEN
    if name == "gateway":
        declared = documents(BASE / "settings/server.yaml")[0]["auth"]["keys_file"]
        mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
        assert declared == f"{mounts['keys']}/keys.json"
        assert settings.server.host == "0.0.0.0"
        assert settings.server.port == container["ports"][0]["containerPort"]
        claim = of_kind("PersistentVolumeClaim")["gateway-data"]["spec"]["resources"]["requests"]
        assert settings.storage.quota_bytes < int(claim["storage"].removesuffix("Gi")) << 30


def test_gateway_and_workers_agree_about_the_engine() -> None:
    server, worker = (documents(BASE / f"settings/{n}.yaml")[0] for n in ("server", "worker"))
    assert server["engine"] == worker["engine"] and server["engine"]["bucket"] is not None


def test_names_of_variables_and_addresses_are_those_of_the_code() -> None:
    env = environment(pods()["generation"]["spec"]["containers"][0])
    assert set(env) == {worker_process.URL_VARIABLE, worker_process.TOKEN_VARIABLE}
    port = of_kind("Service")["gateway"]["spec"]["ports"][0]["port"]
    assert env[worker_process.URL_VARIABLE] == f"http://gateway:{port}"
    from services.scores import URL_VARIABLE

    gateway = environment(pods()["gateway"]["spec"]["containers"][0])
    port = of_kind("Service")["scoring"]["spec"]["ports"][0]["port"]
    assert gateway[URL_VARIABLE] == f"http://scoring:{port}"
    assert serve.UI_KEY_VARIABLE in gateway
