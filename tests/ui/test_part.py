"""What of a picture shall be drawn again, from what is painted to a request."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from consistent_gen.client.types import RedrawIn
from consistent_gen.errors import InputError
from ui.part_panel import MARKED, Mark, choices_of, painted, read_marks, wish_of

STROKE = {"tool": "brush", "width": 0.25, "points": [[0.25, 0.5], [0.75, 0.5]]}
ERASED = {"tool": "eraser", "width": 0.25, "points": [[0.25, 0.5]]}
BOX = {"tool": "box", "points": [[0.75, 0.5], [0.25, 0.0]]}


def marks(*given: Any) -> tuple[Mark, ...]:
    return read_marks({"picture": None, "marks": list(given)})


def test_one_box_is_a_box_whichever_corner_came_first_and_all_else_a_mask() -> None:
    assert wish_of(MARKED, ["Mia"], marks(BOX)) == RedrawIn(box=[0.25, 0.0, 0.75, 0.5])
    assert wish_of(MARKED, ["Mia"], marks(STROKE)) is None
    assert wish_of(MARKED, ["Mia"], marks(BOX, ERASED)) is None


def test_every_choice_is_another_wish() -> None:
    cast = ["Mia", "Bo"]
    found = [wish_of(who, cast, marks(BOX)) for who in choices_of(cast)]
    assert found[:3] == [RedrawIn(character="Mia", only=o) for o in (None, "face", "body")]
    assert found[5:] == [
        RedrawIn(character="Bo", only="body"), RedrawIn(box=[0.25, 0.0, 0.75, 0.5])
    ]  # fmt: skip


def test_the_mask_is_what_was_painted() -> None:
    mask = np.asarray(painted(marks(STROKE), (80, 40)))
    assert mask.shape == (40, 80) and set(np.unique(mask)) == {0, 255}
    rows, columns = np.nonzero(mask)
    # A quarter of the width thick, with round ends.
    assert (rows.min(), rows.max()) == pytest.approx((10, 30), abs=1)
    assert (columns.min(), columns.max()) == pytest.approx((10, 70), abs=1)
    erased = np.asarray(painted(marks(STROKE, ERASED), (80, 40)))
    assert erased[20, 20] == 0 and erased[20, 60] == 255
    again = np.asarray(painted(marks(STROKE, ERASED, STROKE), (80, 40)))
    assert np.array_equal(again, mask), "marks act in their order"
    with pytest.raises(InputError, match="any more"):
        painted(marks(STROKE, {**STROKE, "tool": "eraser", "width": 0.4}), (80, 40))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((), "Mark something"),
        ((ERASED,), "Mark something"),
        (({"tool": "box", "points": [[0.5, 0.5], [0.51, 0.9]]},), "too small"),
    ],
)
def test_next_to_nothing_is_a_sentence(given: tuple[Any, ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        wish_of(MARKED, ["Mia"], marks(*given))


def test_what_no_browser_of_ours_sends_is_a_sentence() -> None:
    point = {"tool": "brush", "width": 0.1, "points": [[0.5, 0.5]]}
    for value in (
        None,
        {"marks": [point] * 201},
        *(
            {"marks": [{**point, **wrong}]}
            for wrong in (
                {"tool": "pen"}, {"tool": "box"}, {"width": None}, {"width": 2.0}, {"points": []},
                {"points": [[0.5]]}, {"points": [[0.5, math.nan]]}, {"points": [[0.5, -0.1]]},
                {"points": [[0.5, 0.5]] * 6001}, {"points": [["0", 0.5]]},
            )
        ),
    ):  # fmt: skip
        with pytest.raises(InputError, match="mark it again"):
            read_marks(value)
