"""Guards and alignment on pictures whose faults are known."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from consistent_gen.checkpoints import weights_root
from consistent_gen.errors import InputError
from consistent_gen.rewards.base import ImageSet
from consistent_gen.rewards.colors import color_shares, color_similarities, has_color
from consistent_gen.rewards.guards import (
    background_differences,
    background_diversity,
    copied_backgrounds,
    count_match,
    difference,
    diversity_ratio,
    duplicate_rate,
    unasked,
)
from consistent_gen.rewards.looking import Looker
from consistent_gen.rewards.sight import Sight, aligned
from consistent_gen.rewards.story_world import story_world_rewards
from consistent_gen.world.naming import read_prompt
from consistent_gen.world.palette import HUES, hue_anchors, hue_color
from consistent_gen.world.scene import render
from consistent_gen.world.spec import FrameSpec, sample_frame, sample_identity

ANCHORS = hue_anchors()


def has_reader() -> bool:
    return (weights_root() / "reader").is_dir()


def robot(**changes: object) -> FrameSpec:
    rng = random.Random(3)
    plain = replace(
        sample_identity(rng, kind="robot"), coat="gray", top="shirt", pattern="plain",
        top_hue=HUES["red"][0] / 360.0, bottom_hue=HUES["orange"][0] / 360.0, accessory="none",
    )  # fmt: skip
    who = replace(plain, **changes)  # type: ignore[arg-type]
    frame = sample_frame(rng, identities=(who,), style="flat")
    return replace(frame, camera="medium", prop="none", place="meadow", weather="sunny")


@pytest.mark.weights
def test_a_blue_robot_that_is_gray_and_crowned() -> None:
    """Once this was a perfect alignment: nobody had read the blue, nor the crown."""
    if not has_reader():
        pytest.skip("the reader's weights are not here")
    wrong = np.asarray(render(robot(accessory="crown")).rgb)
    blue = HUES["blue"][0] / 360.0
    right = np.asarray(render(robot(top_hue=blue, bottom_hue=blue)).rgb)
    prompt = "a blue robot in a meadow"
    rewards = {r.name: r for r in story_world_rewards(None, read_prompt, ANCHORS)}
    for picture, aligned_as, asked_as in ((wrong, 2 / 3, 0.5), (right, 1.0, 1.0)):
        item = ImageSet(pictures=(picture,), prompts=(prompt,))
        assert rewards["alignment"]([item]).values[0] == pytest.approx(aligned_as, abs=1e-3)
        assert rewards["nothing_unasked"]([item]).values[0] == asked_as
    told = rewards["nothing_unasked"]([ImageSet(pictures=(wrong,), prompts=(prompt,))])
    assert told.reasons == ("nobody asked for: crown",)
    # A crown that was asked for is none too many.
    asked = ImageSet(pictures=(wrong,), prompts=("a robot with a crown",))
    assert rewards["nothing_unasked"]([asked]).values[0] == 1.0


def sight(**changes: object) -> Sight:
    given = {
        "present": True, "subject": {"accessory": {"none": 0.9, "crown": 0.1}},
        "hues": {"top_hue": 0.1}, "scalars": {"height": 0.9},
        "scene": {"prop": {"none": 0.2, "kite": 0.8}},
    }  # fmt: skip
    return Sight(**given | changes)  # type: ignore[arg-type]


def test_what_could_not_be_read_is_told_and_counts_neither_way() -> None:
    wanted = {"height": "tall", "figure_hue": "blue", "shoes": "boots", "prop": "ball"}
    found = aligned(sight(), wanted, ANCHORS, ("dragon",))
    assert found.shown == ("height",) and found.missed == ("prop",)
    assert found.unread == ("figure_hue: blue", "shoes: boots", "dragon") and found.value == 0.5
    colored = sight(colors={"blue": 0.4, "red": 0.1})
    assert aligned(colored, wanted, ANCHORS).shown == ("height", "figure_hue")
    assert aligned(sight(), {"figure_hue": "blue"}, ANCHORS).value is None
    cut = sight(cut_off=("shoes",), subject={"shoes": {"boots": 1.0}})
    assert aligned(cut, {"shoes": "boots"}, ANCHORS).unread == ("shoes: boots",)
    nobody = sight(present=False)
    assert aligned(nobody, {"figure_hue": "blue", "prop": "kite"}, ANCHORS).value == 0.5


def test_things_nobody_asked_for() -> None:
    found = unasked([sight()], {})
    assert found.unasked == ("kite",) and found.value == 0.5
    assert unasked([sight()], {"prop": "kite"}).asked == ("kite",)
    crowned = sight(subject={"accessory": {"none": 0.3, "crown": 0.7}})
    assert unasked([crowned], {}).value == 0.0
    unsure = sight(subject={"accessory": {"none": 0.3, "crown": 0.4, "hat": 0.3}})
    assert unasked([unsure], {"prop": "kite"}).value == 1.0


def flat(color: tuple[int, int, int], side: int = 64) -> np.ndarray:
    return np.full((side, side, 3), color, np.uint8)


@pytest.mark.parametrize("name", HUES)
def test_colours_have_their_names(name: str) -> None:
    color = hue_color(HUES[name][0] / 360.0)
    shares = color_shares(flat(tuple(round(255 * c) for c in color)))  # type: ignore[arg-type]
    assert shares[name] == 1.0 and has_color(shares, name)
    for gray, word in ((10, "black"), (140, "gray"), (250, "white")):
        assert color_shares(flat((gray, gray, gray)))[word] == 1.0
    assert color_shares(flat((100, 60, 30)))["brown"] == 1.0
    assert color_shares(flat((1, 2, 3)), np.zeros((64, 64), bool)) == {}
    assert not has_color({}, name)


def test_colours_of_figures_do_not_see_what_is_behind() -> None:
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(2)]
    for picture in pictures:
        picture[mask] = (200, 30, 30)
    s = color_similarities(pictures, [mask, mask])
    assert np.array_equal(s, np.ones((2, 2)))
    assert color_similarities(pictures)[0, 1] < 1.0
    assert np.isnan(color_similarities(pictures, [mask, ~mask & mask])[0, 1])


def test_copies_and_backgrounds() -> None:
    a, b = flat((200, 30, 30)), flat((30, 30, 200))
    assert difference(a, a) == 0.0 and difference(a, b) == difference(b, a) > 0.3
    assert duplicate_rate([a, a, b]) == pytest.approx(1 / 3) and duplicate_rate([a]) is None
    none, figure = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    figure[10:50, 10:30] = True
    drawn = a.copy()
    drawn[figure] = (0, 255, 0)
    apart = background_differences([a, drawn, b], [none, figure, none])
    assert apart[0, 1] == 0.0, "the figure is no background"
    assert copied_backgrounds(apart) == pytest.approx(1 / 3)
    diversity = background_diversity(apart)
    assert diversity == pytest.approx(2 / 3 * min(1.0, 2.0 * difference(a, b)))
    hidden = background_differences([a, b], [~none, none])
    assert background_diversity(hidden) is None and copied_backgrounds(hidden) is None
    assert diversity_ratio([a, b], [a, b]) == 1.0 and diversity_ratio([a, a], [a, b]) == 0.0
    assert diversity_ratio([a], [a, b]) is None


def test_characters_are_counted() -> None:
    assert count_match(2, 2) == 1.0 and count_match(1, 2) == count_match(3, 2) < 1.0
    assert 0.0 < count_match(0, 3) < count_match(2, 3)


@pytest.mark.weights
def test_the_looker_sees_colours_and_what_a_close_up_cuts_off() -> None:
    if not has_reader():
        pytest.skip("the reader's weights are not here")
    close = np.asarray(render(replace(robot(), camera="close")).rgb)
    whole = np.asarray(render(robot()).rgb)
    near, far = Looker().main(np.stack([close, whole]))
    assert "shoes" in near.cut_off and not far.cut_off
    assert sum(far.colors.values()) == pytest.approx(1.0)


def test_sets_that_do_not_fit_together() -> None:
    a = flat((1, 2, 3))
    with pytest.raises(InputError, match="2 prompts for 1 pictures"):
        ImageSet(pictures=(a,), prompts=("x", "y"))
    with pytest.raises(InputError, match="expected h w 3 of uint8"):
        ImageSet(pictures=(a.astype(float),))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a mask has shape"):
        ImageSet(pictures=(a,), masks=(np.zeros((2, 2), bool),))
