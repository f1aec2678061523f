"""docs/serving.md against the code: settings with their defaults, routes, metrics, examples."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from pathlib import Path

import pytest

from consistent_gen.client.types import StoryIn
from consistent_gen.story.export import FORMATS
from consistent_gen.story.layouts import LAYOUTS
from services.settings import Settings, StorageSettings
from services.web import build_app, open_state
from tests.deploy.manifests import ROOT, metric_names

TEXT = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
EXPORTS = (ROOT / "docs/exports.md").read_text(encoding="utf-8")
IN_WORDS = {"none", "made at start", "the shipped one", "measured once", "the device's own"}


def settings_in_code() -> dict[str, object]:
    found = {}
    groups = typing.get_type_hints(Settings)
    for group in dataclasses.fields(Settings):
        default = groups[group.name]()
        for field in dataclasses.fields(default):
            found[f"{group.name}.{field.name}"] = getattr(default, field.name)
    return found


def test_every_setting_is_told_with_its_default() -> None:
    told = dict(re.findall(r"^\| `(\w+\.\w+)` \| ([^|]+) \|", TEXT, re.MULTILINE))
    code = settings_in_code()
    assert list(told) == list(code)
    for name, value in code.items():
        said = told[name].strip().strip("`")
        if value in (None, "", ()):
            assert said in IN_WORDS, name
        elif name != "storage.data_dir":
            assert said == (json.dumps(value) if isinstance(value, bool) else str(value)), name


def test_every_route_of_the_api_is_told(tmp_path: Path) -> None:
    state = open_state(Settings(storage=StorageSettings(data_dir=tmp_path)))
    try:
        paths = set(build_app(state.settings, state=state).openapi()["paths"])
    finally:
        state.close()
    table = TEXT[TEXT.index("## Routes") : TEXT.index("## How it is built")]
    told = set(re.findall(r"`(?:[A-Z]+ )?(/[\w/{}-]+)`", table))
    assert told <= paths, f"not there: {told - paths}"
    # A collection that is named stands for its members.
    silent = {p for p in paths if not any(p == t or p.startswith(f"{t}/") for t in told)}
    assert not silent, f"not told: {silent}"


def test_every_metric_that_is_told_exists_and_none_of_ours_is_left_out(tmp_path: Path) -> None:
    known = metric_names(tmp_path)
    table = TEXT[TEXT.index("## Metrics") : TEXT.index("## What others' users")]
    told = set(re.findall(r"`(consistent_gen_\w+)`", table))
    assert told <= known
    families = {re.sub(r"_(total|created|bucket|count|sum)$", "", name) for name in known}
    shown = {name.removesuffix("_total") for name in told}
    assert families - {"consistent_gen_refusals", "consistent_gen_requests"} <= shown | {
        "consistent_gen_refusals"
    }


def test_the_first_example_is_a_story() -> None:
    found = re.search(r"-d '(\{\s+\"title\".*?\})'", TEXT, re.DOTALL)
    assert found is not None
    assert StoryIn.model_validate_json(found[1]).frames[1].prompt.startswith("{Mia}")


@pytest.mark.parametrize("text", [TEXT, EXPORTS])
def test_python_examples_compile_and_import_what_exists(text: str) -> None:
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(block, "example", "exec")
        imports = re.findall(
            r"^from (?:consistent_gen|gradio_client|pathlib|PIL)\S* import .*$", block, re.MULTILINE
        )
        assert imports
        for line in imports:
            exec(line, {})


def test_every_format_and_layout_is_told() -> None:
    for name in (*FORMATS, *LAYOUTS):
        assert f"`{name}`" in EXPORTS


def test_tests_that_are_named_exist() -> None:
    comparison = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    table = TEXT[TEXT.index("## What others' users have reported") :]
    file = ""
    named = re.findall(r"`([\w/]*\.py)?::(test_\w+)`", table)
    assert len(named) >= 27
    for place, test in named:
        file = place or file
        assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test
    folder = ""
    for place in re.findall(r"`?(?:-m slow )?((?:tests/[\w/]+/)?test_\w+\.py)`", comparison):
        folder = place.rpartition("/")[0] or folder
        assert (ROOT / folder / place.rpartition("/")[2]).is_file(), place
