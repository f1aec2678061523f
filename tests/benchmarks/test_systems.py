"""docs/systems.md says what the registry says, and the registry names what is there."""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path

import pytest

from benchmarks.systems import SYSTEMS, System, page
from benchmarks.systems_checks import CHECKS
from consistent_gen.cli.parser import build_parser
from consistent_gen.methods.docs_page import METHODS

ROOT = Path(__file__).resolve().parents[2]
RUNNING = [system for system in SYSTEMS if system.command]


def test_the_page_is_made_from_the_registry() -> None:
    text = (ROOT / "docs" / "systems.md").read_text(encoding="utf-8")
    assert text == page(), "run: python -m benchmarks.systems > docs/systems.md"


def test_every_system_has_one_row() -> None:
    assert [system.number for system in SYSTEMS] == list(range(1, 46))
    assert len({system.name for system in SYSTEMS}) == 45


def test_what_runs_has_a_command_and_a_file() -> None:
    for system in SYSTEMS:
        assert bool(system.runs) == bool(system.command), system
        assert not system.figure or system.command, system
        assert not system.runs or (ROOT / system.runs).is_file(), system


def test_every_check_names_a_test_that_is_there() -> None:
    assert CHECKS.keys() <= {system.number for system in RUNNING}
    for file, told, test in (check for checks in CHECKS.values() for check in checks):
        assert told and f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), test


@pytest.mark.parametrize("system", RUNNING, ids=lambda system: system.name)
def test_the_command_is_understood(system: System) -> None:
    words = shlex.split(system.command)
    if words[0] == "python":
        assert importlib.util.find_spec(words[2]) is not None
        assert words[3] in (ROOT / system.runs).read_text(encoding="utf-8")
    else:
        options = build_parser().parse_args(words[1:])
        assert getattr(options, "method", None) in (None, *METHODS)
