"""A bento: built from what git has, served, and called as BentoML's users do."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import bentoml
import httpx
import pytest
from bentoml.exceptions import BentoMLException

from consistent_gen.cli import main
from consistent_gen.engine.metadata import read_png
from services.bento import choose_card
from tests.services.web.test_bentoml import served

ROOT = Path(__file__).resolve().parents[3]
SHOWN = {"prompt": "a fox in a forest", "seed": 3, "steps": 2}
STORY = {
    "title": "A walk", "steps": 2, "seed": 5, "words": "own",
    "characters": {"Mia": {"description": "a girl with a red hat"}},
    "frames": [{"prompt": "{Mia} walking"}, {"prompt": "{Mia} reading in the forest"}],
}  # fmt: skip


def built(folder: Path) -> dict[str, str]:
    """The environment in which `consistent-gen:latest` is a bento, built from a clean clone."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "clone" / name)
    home = {"BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-m", "bentoml", "build"], cwd=folder / "clone", env={**kept, **home},
        check=True, capture_output=True,
    )  # fmt: skip
    return home


@pytest.mark.slow
# In bentoml's own client, which also leaves its folder to the collector.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_bento_is_built_served_and_called(tmp_path: Path) -> None:
    home = built(tmp_path)
    (bento,) = (place for place in (tmp_path / "bentoml" / "bentos").glob("*/*/src"))
    assert {p.name for p in bento.iterdir()} >= {"consistent_gen", "services", "weights"}
    assert not (bento / "tests").exists()
    # The clone is gone and nothing is imported from here: what is served is in the bento.
    shutil.rmtree(tmp_path / "clone")
    here = {"PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    with served("consistent-gen:latest", tmp_path, cwd=tmp_path, **here, **home) as url:
        assert httpx.get(f"{url}/readyz").status_code == 200
        assert "swagger-ui" in httpx.get(f"{url}/").text
        routes = httpx.get(f"{url}/docs.json").json()["paths"]
        assert routes.keys() >= {"/txt2img", "/story", "/story/submit", "/read", "/score"}
        asked = routes["/txt2img"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert asked["required"] == ["prompt"] and "steps" in asked["properties"]
        with bentoml.SyncHTTPClient(url, timeout=900) as client:
            picture = pictured(client)
            scored(client, picture)
        asyncio.run(told(url, tmp_path))
        refused(url)
        together(url, picture)
    del client
    gc.collect()  # here, where warnings of bentoml's client are let pass


def pictured(client: Any) -> bytes:
    """A picture that says how to draw it again, and is drawn again."""
    file: Path = client.txt2img(SHOWN)
    image, metadata = read_png(file)
    assert image.shape[2] == 3 and metadata["steps"] == 2 and "fox" in metadata["prompt"]
    assert client.txt2img(SHOWN).read_bytes() == file.read_bytes()
    assert main(["replay", str(file)]) == 0
    return file.read_bytes()


def scored(client: Any, picture: bytes) -> None:
    text = base64.b64encode(picture).decode()
    found = client.score(pictures=[text, text], prompts=["a fox in a forest"] * 2)
    assert found["identity"][0][1] == pytest.approx(found["identity"][0][0])
    assert len(found["alignment"]) == 2
    (sight,) = client.read(pictures=[text])
    assert sight.keys() >= {"present", "subject", "scene"}


async def told(url: str, folder: Path) -> None:
    """A story as a task. (BentoML 1.4.39's synchronous client cannot submit tasks.)"""
    async with bentoml.AsyncHTTPClient(url, timeout=900) as client:
        task = await client.story.submit(STORY)
        wrong = await client.story.submit({**STORY, "method": "vanila"})
        ends = {"completed", "failed"}
        async with asyncio.timeout(240):
            while {(await one.get_status()).value for one in (task, wrong)} - ends:
                await asyncio.sleep(0.2)
        assert (await wrong.get_status()).value == "failed"
        with pytest.raises(BentoMLException, match="did you mean 'vanilla'"):
            await wrong.get()
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(await task.get()))) as archive:
            names = {"frames/00.png", "frames/01.png", "index.html", "page.png", "report.json"}
            assert set(archive.namelist()) == names
            report = json.loads(archive.read("report.json"))
            assert report["title"] == "A walk" and report["wording"] is not None


def refused(url: str) -> None:
    """What is wrong is told with a 4xx, and nothing fails for it."""
    text = base64.b64encode(b"no picture").decode()
    for path, body, status, said in (
        ("/txt2img", {"prompt": ""}, 400, "at least 1 character"),
        ("/txt2img", {**SHOWN, "stpes": 2}, 400, "no such field"),
        ("/txt2img", {**SHOWN, "steps": 1000}, 422, "at most 150"),
        ("/read", {"pictures": []}, 400, "at least 1 item"),
        ("/read", {"pictures": ["http://127.0.0.1/a.png"]}, 400, "not base64"),
        ("/read", {"pictures": [text]}, 400, "cannot be decoded"),
        ("/score", {"pictures": [text] * 65}, 400, "at most 64"),
    ):
        answer = httpx.post(f"{url}{path}", json=body, timeout=60)
        assert answer.status_code == status and said in answer.text, (path, answer.text)


def together(url: str, picture: bytes) -> None:
    """Pictures of many callers: each has its own answer, and what is no picture costs nobody."""
    good, bad = base64.b64encode(picture).decode(), base64.b64encode(picture[:200]).decode()
    found: dict[int, int] = {}

    def ask(number: int) -> None:
        body = {"pictures": [bad if number == 2 else good]}
        found[number] = httpx.post(f"{url}/read", json=body, timeout=120).status_code

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: 400 if number == 2 else 200 for number in range(6)}


@pytest.mark.slow
def test_drawings_are_checked_where_asked(tmp_path: Path) -> None:
    asked = {"CONSISTENT_GEN_SAFETY_CHECK": "true", "CONSISTENT_GEN_SAFETY_THRESHOLD": "0.000001"}
    with served("services.drawing:Illustrator", tmp_path, **asked) as url:
        for path, body in (("/txt2img", SHOWN), ("/story", STORY)):
            answer = httpx.post(f"{url}{path}", json=body, timeout=300)
            assert answer.status_code == 422, answer.text
            assert "frame 1: the picture was drawn and withheld" in answer.text


@pytest.mark.slow
def test_a_worker_without_a_gateway_says_so_in_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "BENTOML_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment.pop("CONSISTENT_GEN_GATEWAY_URL", None)
    ended = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", "services.generation:Generation"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if "no gateway" in line]
    assert "set CONSISTENT_GEN_GATEWAY_URL" in line and "services.drawing:Illustrator" in line


@pytest.mark.parametrize(
    ("index", "cards", "seen"), [(1, "4,6", "4"), (2, "4,6", "6"), (3, "4,6", "4"), (1, "5", "5")]
)
def test_bentoml_workers_share_the_cards(
    index: int, cards: str, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards)
    monkeypatch.setattr(bentoml.server_context, "worker_index", index)
    choose_card()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


def test_a_bento_is_installed_with_what_the_project_asks_for() -> None:
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    names = {canonicalize_name(Requirement(text).name) for text in asked}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wanted = {line for line in lines if line.partition("==")[0] in names}
    told = (ROOT / "deploy" / "bento.txt").read_text(encoding="utf-8").splitlines()
    assert {line for line in told if not line.startswith("#")} == wanted
    assert len(wanted) == len(names)
