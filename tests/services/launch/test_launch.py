"""Starting and stopping: options, refusals, one process, several processes."""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from consistent_gen.client import Client
from consistent_gen.client.types import JobState
from consistent_gen.errors import InputError
from consistent_gen.models.backbone import Backbone
from services import serve
from services.keys import create_key
from services.launch.options import (
    add_common_options,
    add_serve_options,
    common_arguments,
    drawing_threads,
    settings_of,
)
from services.launch.topology import Child, ProcessGroup
from tests.services.small_model import story
from tests.services.worker.servers import TOKEN, gateway, settings_for, until

STEADY = "import time; time.sleep(600)"


def options_of(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_serve_options(parser)
    return parser.parse_args(arguments)


def test_options_become_settings(tmp_path: Path) -> None:
    options = options_of(
        "--port", "0", "--data", str(tmp_path / "a: b"), "--bucket", "4", "--set",
        "limits.frames=9",
    )  # fmt: skip
    settings = settings_of(options)
    assert settings.server.port == 0 and settings.storage.data_dir == tmp_path / "a: b"
    assert settings.engine.bucket == 4 and settings.limits.frames == 9
    assert settings_of(options_of(*common_arguments(options))).limits.frames == 9


def test_half_of_the_processors_draw_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    assert drawing_threads(options_of()) == 4
    assert drawing_threads(options_of("--processes", "3")) == 1
    assert drawing_threads(options_of("--threads", "6", "--processes", "3")) == 6
    assert drawing_threads(options_of("--threads", "0")) is None
    for given in (options_of(), options_of("--threads", "0")):
        passed = options_of(*common_arguments(given))
        assert drawing_threads(passed) == drawing_threads(given)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    assert drawing_threads(options_of()) == 1
    for wrong in ("-1", "two", "1e3", "99999"):
        with pytest.raises(SystemExit):
            options_of("--threads", wrong)
        assert "not a number from 0 to" in capsys.readouterr().err


def test_other_machines_are_let_in_with_keys_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keys"):
        settings_of(options_of("--host", "0.0.0.0"))
    create_key(tmp_path / "keys.json", "alice")
    settings = settings_of(options_of("--host", "0.0.0.0", "--keys", str(tmp_path / "keys.json")))
    assert not settings.allows_anonymous


def test_no_option_is_lost_on_the_way_to_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys.json"
    create_key(keys, "alice")
    (tmp_path / "file.yaml").write_text("limits: {frames: 9}")
    said = {
        "host": "0.0.0.0", "port": "0", "keys": str(keys), "processes": "2", "gpus": "1",
        "data": str(tmp_path), "model": str(tmp_path), "bucket": "4", "dtype": "bfloat16",
        "threads": "3", "config": str(tmp_path / "file.yaml"), "set": "limits.steps=7",
    }  # fmt: skip
    given = [part for name, value in said.items() for part in (f"--{name}", value)]
    options = options_of(*given, "--no-ui", "--no-late-join")
    gateway = options_of(*serve.gateway_options(options, "0.0.0.0", 5))
    # These are for the parent alone: it listens, and starts the others.
    parents = {"port", "processes", "gpus"}
    ours = {"gateway_only": True, "listen_fd": 5, "lifeline": True}
    for name, value in vars(options).items():
        wanted = ours.get(name, options_of().__dict__[name] if name in parents else value)
        found = getattr(gateway, name)
        assert found == (int(said["threads"]) if name == "threads" else wanted), name
    assert settings_of(gateway).auth.keys_file == keys
    # A worker has no keys, wherever the gateway listens.
    monkeypatch.setenv("CONSISTENT_GEN_SERVER_HOST", "0.0.0.0")
    parser = argparse.ArgumentParser()
    add_common_options(parser)
    worker = parser.parse_args(common_arguments(options))
    assert settings_of(worker).limits.steps == 7 and worker.dtype == "bfloat16"


def test_a_port_that_is_taken_is_said_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert serve.main(["--port", str(port), "--data", str(tmp_path)]) == 2
    assert "choose another with --port" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_of_the_command_loads_no_torch() -> None:
    code = (
        "import sys, argparse\n"
        "from consistent_gen.cli import serve\n"
        "commands = argparse.ArgumentParser().add_subparsers()\n"
        "serve.add_command(commands)\n"
        "print(commands.choices['serve'].format_help())\n"
        "assert not {'torch', 'pydantic', 'fastapi', 'diffusers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--processes" in done.stdout and "--lifeline" not in done.stdout


def test_dead_children_are_started_again(tmp_path: Path) -> None:
    with serve.listen("127.0.0.1", 0) as listener:
        steady = ["-c", STEADY]
        topology = ProcessGroup(steady, [steady, steady], listener, drain_s=10.0)
        stop = threading.Event()
        runner = threading.Thread(target=topology.run, args=(stop,))
        runner.start()
        try:
            for child in topology.children:
                until(lambda child=child: child.process, "it is started")  # type: ignore[misc]
                assert child.process is not None
                first = child.process.pid
                os.kill(first, signal.SIGKILL)
                until(lambda c=child, f=first: pid_of(c) != f, "it is started again")  # type: ignore[misc]
        finally:
            stop.set()
            runner.join(60.0)
        assert not runner.is_alive()
        assert all(
            c.process is not None and c.process.poll() is not None for c in topology.children
        )


def test_a_child_that_was_given_nonsense_ends_everything() -> None:
    with serve.listen("127.0.0.1", 0) as listener:
        topology = ProcessGroup(["-c", STEADY], [["-c", "exit(2)"]], listener, drain_s=10.0)
        assert topology.run(threading.Event()) == 2
        assert all(
            c.process is not None and c.process.poll() is not None for c in topology.children
        )


def pid_of(child: Child) -> int | None:
    return None if child.process is None or child.process.poll() is not None else child.process.pid


@contextmanager
def serving(
    *arguments: str, data: Path, model: Path
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The real command; (address, process) once it can draw."""
    command = [
        sys.executable, "-m", "services.serve", "--port", "0", "--no-ui", "--bucket", "4",
        "--data", str(data), "--model", str(model), *arguments,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        address = ""
        for line in process.stdout:
            found = re.match(r"ready at (\S+) after", line)
            if found:
                address = found[1]
                break
        assert address, "it ended before it was ready"
        yield address, process
    finally:
        process.terminate()
        try:
            process.wait(60.0)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.mark.slow
def test_a_server_is_stopped_politely_and_goes_on_where_it_was(
    tmp_path: Path, tiny_folder: Path
) -> None:
    data = tmp_path / "data"
    with serving(data=data, model=tiny_folder) as (address, process), Client(address) as client:
        assert httpx.get(f"{address}/readyz").status_code == 200
        job = client.create_story(story(steps=100)).job
        until(lambda: client.job(job).state == "running", "it draws")
        told: list[httpx.Response] = []
        body = {"prompt": "a fox", "steps": 100}
        waiting = threading.Thread(
            target=lambda: told.append(
                httpx.post(f"{address}/v1/images/generations", json=body, timeout=60.0)
            )
        )
        waiting.start()
        until(lambda: len(client.jobs().jobs) == 2, "somebody waits for a picture")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60.0) == 0
        waiting.join(60.0)
        assert (told[0].status_code, told[0].json()["code"]) == (503, "stopping")
    with serving(data=data, model=tiny_folder) as (address, _), Client(address) as client:
        picture = client.jobs(limit=1).jobs[0]
        assert picture.id in told[0].json()["detail"] and picture.state in ("queued", "running")
        found = client.job(job)
        assert found.state in ("queued", "running")
        assert {frame.attempt for frame in found.frames} <= {0, 1}
        client.cancel(job)
        client.cancel(picture.id)


@pytest.mark.slow
def test_processes_survive_the_death_of_the_gateway_and_of_a_worker(
    tmp_path: Path, tiny_folder: Path
) -> None:
    with (
        serving("--processes", "1", data=tmp_path / "data", model=tiny_folder) as (address, parent),
        Client(address, timeout=60.0) as client,
    ):
        jobs = [client.create_story(story(steps=6, seed=n)).job for n in range(2)]
        until(lambda: client.job(jobs[0]).state == "running", "it draws")
        for name in ("--gateway-only", "services.worker_process"):
            os.kill(child_with(parent.pid, name), signal.SIGKILL)
            time.sleep(0.2)
        done = [client.wait(job, patience_s=120.0) for job in jobs]
        assert {job.state for job in done} == {JobState.succeeded}
        for job in done:
            assert [e.type for e in client.events(job.id)].count("frame") == 5


def child_with(parent: int, word: str) -> int:
    """The child process of `parent` whose command line has `word`."""
    tasks = Path(f"/proc/{parent}/task").iterdir()
    children = {int(pid) for task in tasks for pid in (task / "children").read_text().split()}
    for pid in children:
        if word in Path(f"/proc/{pid}/cmdline").read_text():
            return pid
    raise AssertionError(f"no child runs {word}")


@pytest.mark.slow
def test_a_bentoml_service_draws_for_a_gateway(tmp_path: Path, tiny: Backbone) -> None:
    settings = settings_for(tmp_path / "data", model=tiny.path)
    with gateway(settings) as server, server.client() as client, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        environment = os.environ | {
            "CONSISTENT_GEN_GATEWAY_URL": server.address,
            "CONSISTENT_GEN_AUTH_WORKER_TOKEN": TOKEN,
            "CONSISTENT_GEN_ENGINE_MODEL": str(tiny.path),
            "CONSISTENT_GEN_ENGINE_BUCKET": "4",
            "CONSISTENT_GEN_STORAGE_DATA_DIR": str(tmp_path / "worker"),
            "BENTOML_HOME": str(tmp_path / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
        }
        command = [sys.executable, "-m", "bentoml", "serve", "services.generation:Generation"]
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            job = client.create_story(story(frames=[{"prompt": "a fox"}])).job
            assert client.wait(job).state is JobState.succeeded
            assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
            state = httpx.post(f"http://127.0.0.1:{port}/state", json={}).json()
            assert state["drawn"] == 1 and state["bucket"] == 4
            process.terminate()
            assert process.wait(60.0) == 0
            until(lambda: not server.state.workers.states(), "it said goodbye")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
