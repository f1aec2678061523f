"""What of a picture shall be drawn again, from clicks to a request; and the steps of a desk."""

from __future__ import annotations

import pytest
from PIL import Image

from consistent_gen.client.types import RedrawIn
from consistent_gen.errors import InputError
from ui.part_panel import BOX, marked, wish_of


def test_two_corners_are_a_box_whichever_came_first() -> None:
    assert wish_of(BOX, [(0.75, 0.5), (0.25, 0.0)]) == RedrawIn(box=[0.25, 0.0, 0.75, 0.5])
    assert wish_of("Mia", [(0.1, 0.1)]) == RedrawIn(character="Mia")


@pytest.mark.parametrize("corners", [[], [(0.5, 0.5)], [(0.5, 0.5), (0.51, 0.9)]])
def test_a_box_that_is_none_is_a_sentence(corners: list[tuple[float, float]]) -> None:
    with pytest.raises(InputError, match="corners"):
        wish_of(BOX, corners)


def test_what_is_marked_is_seen_and_the_picture_is_not_touched() -> None:
    picture = Image.new("RGB", (64, 64))
    shown = marked(picture, [(0.25, 0.25), (0.75, 0.75)])
    assert shown.getpixel((16, 30)) == shown.getpixel((48, 30)) != (0, 0, 0)
    assert shown.getpixel((32, 32)) == (0, 0, 0)
    assert marked(picture, [(0.5, 0.5)]).getpixel((32, 32)) != (0, 0, 0)
    assert picture.getextrema() == ((0, 0),) * 3
