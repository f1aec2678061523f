"""Settings of drawings: one place for ranges, defaults and meanings, and three files for a new one.

`data/before_draw_settings` was written by the last version before `DrawSettings`: pictures with
their metadata, stories and requests with their plans or refusals, a server's database, and the
orders in it with the pictures that came of them. All of it opens, and means and draws the same.
"""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import ValidationError

from consistent_gen.cli import main
from consistent_gen.client.types import ImageIn, StoryIn
from consistent_gen.draw_settings import OFF, OFFERED, SETTINGS, DrawSettings, mistakes
from consistent_gen.engine import read_png, replay
from consistent_gen.engine.metadata import machine
from consistent_gen.errors import CheckpointError, InputError, LimitError
from consistent_gen.methods.tuning import tuned
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.tiny import build_tiny
from consistent_gen.story.plan import Overrides, StoryPlan, plan_story
from consistent_gen.story.script import dump_story, parse_story
from services.jobs import Lease
from services.painting.painter import Painter
from services.painting.reports import Drawn
from services.plans import FrameOrder, validate_story
from services.web.openai.shapes import PicturesIn
from tests.services.shop import Shop

ROOT = Path(__file__).resolve().parent.parent
OLD = ROOT / "tests" / "data" / "before_draw_settings"
STORIES = json.loads((OLD / "stories.json").read_text())
ORDERS = json.loads((OLD / "orders.json").read_text())
# What is said better than it was.
REWORDED = {
    "frames[0].prompt: character 65535 is not allowed in a story file; delete it": (
        r"frames[0].prompt: character '\uffff' is not allowed in a story file"
    ),
    "characters.e\u0301: 'é' is given twice; the first is on line 3": (
        "characters.e\u0301: 'é' is given twice; the first is at characters.é"
    ),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(build_tiny(tmp_path_factory.mktemp("models") / "tiny"), device="cpu")


# One place ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["guidance_until", "guidance_rescale", "retouch"])
def test_a_setting_touches_three_files(name: str) -> None:
    """The module of settings, what acts on it, and the API's types."""
    product = [f for d in ("consistent_gen", "services", "ui") for f in (ROOT / d).rglob("*.py")]
    whole = re.compile(rf"\b{name}\b")
    named = {f.relative_to(ROOT).as_posix() for f in product if whole.search(f.read_text())}
    named.discard("consistent_gen/models/story_world.py")  # recommends values for one model
    named.discard("consistent_gen/training/refiner.py")  # draws its rows with values of its own
    assert "consistent_gen/draw_settings.py" in named
    assert len(named) <= 3, named


def test_facts_agree_with_types_and_defaults() -> None:
    kinds = get_type_hints(DrawSettings)
    for field in fields(DrawSettings):
        setting, hint = SETTINGS[field.name], kinds[field.name]
        (kind, *none) = get_args(hint) if type(None) in get_args(hint) else (hint,)
        assert setting.kind is (getattr(kind, "__origin__", None) or kind)
        assert bool(none) == (field.default is None)
        assert setting.about
        # What is left to the model has a value that changes nothing; the size is the model's.
        if field.name != "likeness":  # pictures are older than it
            assert (field.name in OFF) == (field.default is None and field.name != "size")
        if field.default is not None:
            assert setting.mistake(field.name, field.default) is None
    assert not mistakes(OFF)


def test_the_api_offers_what_stories_may_say() -> None:
    assert StoryIn.model_fields.keys() >= OFFERED.keys()
    for model in (StoryIn, ImageIn, PicturesIn):
        schema = model.model_json_schema()["properties"]
        for name in OFFERED.keys() & schema.keys():
            setting = SETTINGS[name]
            if setting.kind in (int, float):
                number = schema[name]["anyOf"][0]
                assert (number["minimum"], number["maximum"]) == (setting.low, setting.high)


def test_the_page_of_story_files_names_every_setting() -> None:
    page = (ROOT / "docs" / "story_file.md").read_text()
    for name, setting in OFFERED.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        if setting.kind in (int, float):
            assert f"{setting.low:g} to {setting.high:g}" in row
        default = getattr(DrawSettings, name)
        if default is not None:
            shown = f"`{default}`" if setting.kind is str else f"{default:g}"
            assert row.endswith(f"| {shown} |")


# All mistakes at once -----------------------------------------------------------------------------
def test_all_mistakes_are_said_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(LimitError, match=r"steps is 0; .*; guidance is 200; .*the width is 8;"):
        DrawSettings(steps=0, guidance=200.0, size=(8, 64))
    with pytest.raises(InputError, match=r"steps must be .* '2\.5'; unknown scheduler 'euler'"):
        DrawSettings(steps=2.5, scheduler="euler")  # type: ignore[arg-type]
    text = "title: x\nguidance: 200\nsteps: 0\nframes: [a fox]\n"
    with pytest.raises(InputError) as caught:
        parse_story(text, source="s.yaml")
    assert str(caught.value).startswith("s.yaml:2: guidance is 200; ")
    assert "; s.yaml:3: steps is 0; " in str(caught.value)
    (tmp_path / "s.yaml").write_text("title: x\nframes: [a fox]\n")
    said = ["--steps", "0", "--guidance-until", "2", "--seed", "-1"]
    assert main(["story", str(tmp_path / "s.yaml"), "--out", str(tmp_path / "o"), *said]) == 2
    told = capsys.readouterr().err
    for option in ("--steps: steps is 0", "--guidance-until: ", "--seed: seed is -1"):
        assert option in told


def test_a_setting_that_is_none_is_named(tiny: Backbone) -> None:
    story = parse_story("title: x\nframes: [a fox]\n")
    with pytest.raises(InputError, match=r"--stpes: unknown setting 'stpes'; did you mean 'steps'"):
        plan_story(story, tiny, Overrides(settings={"stpes": 3}))


@pytest.mark.parametrize("value", [10**400, -(10**400), float("inf"), True, "1", None, [1], {}])
def test_no_value_breaks_checking(value: Any) -> None:
    for name in SETTINGS:
        mistake = mistakes({name: value}).get(name)
        assert mistake is None or name in str(mistake) or "width" in str(mistake)


# What was written before --------------------------------------------------------------------------
def plan_json(plan: StoryPlan) -> dict[str, Any]:
    """A plan as the fixtures have it."""
    width, height = plan.size
    settings = ("steps", "scheduler", "guidance", "contours", "guidance_until")
    return {name: getattr(plan.settings, name) for name in settings} | {
        "title": plan.title, "method": plan.method, "seed": plan.seed,
        "width": width, "height": height,
        "frames": [
            {
                "index": f.index, "prompt": f.prompt, "negative": f.negative,
                "caption": f.caption, "style": f.style, "seed": f.seed,
                "subjects": [[s.name, [s.tokens[0], s.tokens[-1] + 1]] for s in f.subjects],
                "identities": [[i.name, i.words, i.noun, i.strength] for i in f.members],
            }
            for f in plan.frames
        ],
    }  # fmt: skip


def kept(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan of the fixtures without where whole phrases stand, which plans no longer say."""
    frames = [
        frame | {"subjects": [[name, noun] for name, _, noun in frame["subjects"]]}
        for frame in plan["frames"]
    ]
    return plan | {"frames": frames}


@pytest.mark.parametrize("case", STORIES["requests"], ids=lambda case: case.get("error", "drawn"))
def test_requests_mean_what_they_meant(tiny: Backbone, case: dict[str, Any]) -> None:
    request = StoryIn.model_validate(case["request"])
    if "plan" in case:
        assert plan_json(validate_story(request, tiny)) == kept(case["plan"])
        return
    with pytest.raises(InputError) as caught:
        validate_story(request, tiny)
    assert str(caught.value) == REWORDED.get(case["error"], case["error"])


@pytest.mark.parametrize("case", STORIES["files"], ids=lambda case: case.get("error", "drawn"))
def test_story_files_mean_what_they_meant(tiny: Backbone, case: dict[str, Any]) -> None:
    if "plan" in case:
        story = parse_story(case["text"], source="s.yaml")
        assert plan_json(plan_story(story, tiny)) == kept(case["plan"])
        assert dump_story(story) == case["dump"]
        return
    with pytest.raises(InputError) as caught:
        parse_story(case["text"], source="s.yaml")
    told, said = (text.partition(" Known: ")[0] for text in (str(caught.value), case["error"]))
    assert told == said


@pytest.mark.parametrize("name", ["plain", "full", "consistory", "head_start"])
def test_pictures_are_drawn_again(tiny: Backbone, name: str) -> None:
    image, metadata = read_png(OLD / f"{name}.png")
    result = replay(image, metadata, tiny, lambda method: tuned(method, tiny))
    # Another machine or library may differ in the last bits, and then says so.
    assert result.verdict == "identical" or (result.verdict == "close" and result.reasons)


def test_a_servers_database_opens_and_its_orders_are_drawn(tmp_path: Path, tiny: Backbone) -> None:
    with sqlite3.connect(tmp_path / "server.sqlite") as database:
        database.executescript((OLD / "server.sql").read_text())
    database.close()
    shop = Shop(tmp_path)
    shop.clock.advance(60.0)  # what was leased then is free again
    (summary,) = shop.stories.list("alice").stories
    story = shop.stories.get("alice", summary.id)
    assert story.request.guidance_until == 0.5 and story.request.size == "64x64"
    leases = shop.jobs.lease("worker", 8)
    orders = {(lease.frame, lease.version): lease.order for lease in leases}
    expected = {(o["order"]["frame"], o["order"]["version"]): o["order"] for o in ORDERS}
    del expected[(0, 1)]  # drawn already
    assert orders == expected
    shop.db.close()
    # First passes of consistory share since; a folder may ask for those of then.
    tiny = replace(tiny, method_settings={"consistory": {"first_pass": "twin"}})
    painter = Painter(tiny, bucket=4)
    for lease in leases:
        painter.submit(lease)
    check_drawings(painter, tiny, leases)


def check_drawings(painter: Painter, tiny: Backbone, leases: list[Lease]) -> None:
    drawn: dict[str, Any] = {}
    while not painter.idle:
        drawn |= {r.lease: r.metadata for r in painter.step() if isinstance(r, Drawn)}
    stated = {(o["order"]["frame"], o["order"]["version"]): o["metadata"] for o in ORDERS}
    for lease in leases:
        now = json.loads(json.dumps(drawn[lease.id]))
        then = dict(stated[lease.frame, lease.version])
        same = now["versions"] == then["versions"] and machine(tiny) == then["machine"]
        for metadata in (now, then):
            del metadata["versions"], metadata["machine"]
            # The autoencoder's config lost a key that no shipped one had; pixels say the rest.
            del metadata["model"]
            for name in ("retouch", "refine", "polish"):
                metadata.pop(name, None)
            if not same:
                del metadata["pixels_sha256"]
        # Settings that came later change nothing.
        assert {name: now[name] for name in then} == then


def test_orders_keep_their_form() -> None:
    for old in ORDERS:
        order = FrameOrder.from_json(old["order"])
        now = order.to_json()
        added = now["story"].keys() - old["order"]["story"].keys()
        assert added <= {"retouch", "refine", "polish", "words"}, "keys that stories have since"
        story = {key: now["story"][key] for key in old["order"]["story"]}
        assert now | {"story": story} == old["order"]


# Settings that are gone ---------------------------------------------------------------------------
GONE_WORDS = r"stop_at no longer exists: .* use retouch, or fewer steps"


def test_a_setting_that_is_gone_is_told_of_wherever_it_is_named(
    tmp_path: Path, tiny: Backbone, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "title: x\nstop_at: 0.75\nframes: [a fox]\n"
    with pytest.raises(InputError, match=rf"^s.yaml:2: {GONE_WORDS}"):
        parse_story(text, source="s.yaml")
    with pytest.raises(InputError, match=GONE_WORDS):
        said = Overrides(settings={"stop_at": 0.75})
        plan_story(parse_story("title: x\nframes: [a fox]\n"), tiny, said)
    with pytest.raises(ValidationError, match=GONE_WORDS):
        StoryIn.model_validate({"title": "x", "frames": [{"prompt": "a fox"}], "stop_at": 0.75})
    (tmp_path / "s.yaml").write_text("title: x\nframes: [a fox]\n")
    said = ["story", str(tmp_path / "s.yaml"), "--out", str(tmp_path / "o"), "--stop-at", "0.5"]
    assert main(said) == 2
    assert re.search(GONE_WORDS.replace("stop_at", "--stop-at"), capsys.readouterr().err)
    folder = build_tiny(tmp_path / "model")
    (folder / "recommended.json").write_text('{"stop_at": 0.75}')
    with pytest.raises(CheckpointError, match=GONE_WORDS):
        load_backbone(folder, device="cpu")


def test_what_was_written_with_a_setting_that_is_gone_opens(tmp_path: Path, tiny: Backbone) -> None:
    shop = Shop(tmp_path)
    request = {"title": "x", "frames": [{"prompt": "a fox"}], "steps": 3}
    id = shop.stories.create("alice", StoryIn.model_validate({**request, "stop_at": None}))
    written = json.dumps({**request, "stop_at": 0.75})
    with shop.db.transaction():
        shop.db.change("UPDATE stories SET request = ? WHERE id = ?", (written, id))
    assert shop.stories.get("alice", id).request.steps == 3
    shop.db.close()
    image, metadata = read_png(OLD / "plain.png")
    again = replay(image, {**metadata, "stop_at": 1.0}, tiny)
    assert again.image.shape == replay(image, metadata, tiny).image.shape
    with pytest.raises(InputError, match=rf"drawn with stop_at 0.75 and cannot .* {GONE_WORDS}"):
        replay(image, {**metadata, "stop_at": 0.75}, tiny)
    order = {**ORDERS[0]["order"], "story": {**ORDERS[0]["order"]["story"], "stop_at": 0.75}}
    with pytest.raises(InputError, match=GONE_WORDS):
        FrameOrder.from_json(order)
