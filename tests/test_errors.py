from __future__ import annotations

import re

import pytest

from consistent_gen import errors
from consistent_gen.errors import ConsistentGenError, InputError, MissingExtraError, StoryError

TREE = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, ConsistentGenError)
]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InputError("no such size"), "no such size"),
        (InputError("no such size", line=3), "line 3: no such size"),
        (InputError("no such size", source="a.yaml"), "a.yaml: no such size"),
        (StoryError("no such size", source="a.yaml", line=3), "a.yaml:3: no such size"),
    ],
)
def test_place_comes_before_the_message(error: InputError, text: str) -> None:
    assert str(error) == text
    assert error.message == "no such size"


def test_a_missing_extra_names_the_command() -> None:
    assert str(MissingExtraError("thing", what="this")) == (
        "this needs thing; install it with: pip install thing"
    )
    assert MissingExtraError("gradio", extra="ui").extra == "ui"


def test_the_drawn_tree_is_the_real_one() -> None:
    """The picture in the docstring names each class, nested as the classes are."""
    drawn: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([| `-]*)(\w+) {2,}\w", line)
        if found:
            drawn.append((len(found[1]), found[2]))
    parents = {}
    for index, (depth, name) in enumerate(drawn):
        above = [other for d, other in drawn[:index] if d < depth]
        closest = [other for d, other in drawn[:index] if d == depth - 4]
        parents[name] = closest[-1] if above else "Exception"
    assert parents == {cls.__name__: cls.__mro__[1].__name__ for cls in TREE}


@pytest.mark.parametrize("cls", TREE, ids=lambda cls: cls.__name__)
def test_exit_code_is_nonzero_and_users_mistakes_are_2(cls: type[ConsistentGenError]) -> None:
    assert cls.exit_code > 0
    assert cls.exit_code == 2 or not issubclass(cls, InputError)
