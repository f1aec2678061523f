"""Stories of two characters: their words, and scores on readings whose truth is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.consistency_drawing import DrawnStory
from benchmarks.consistency_pairs import NAMES, PairStory, make_pair, score_pair
from benchmarks.consistency_stories import FRAMES
from consistent_gen.encoders.factors import Reading
from consistent_gen.world.captions import vocabulary, words_of
from consistent_gen.world.phrases import KIND_NOUNS
from consistent_gen.world.spec import ACTIONS, DISCRETE, HUE_FACTORS, KINDS, SCALAR_FACTORS


def test_words_name_both_and_tokens_point_at_their_nouns() -> None:
    known = set(vocabulary())
    for number in range(20):
        story = make_pair(number)
        assert story == make_pair(number)
        assert story.kinds[0] != story.kinds[1]
        assert make_pair(number, seed=1).words != story.words
        requests = story.requests(1, 4, 2.0)
        requests += [p for who in (0, 1) for p in story.portraits(who, 2, 1, 4, 2.0)]
        assert len({r.id for r in requests}) == len(requests) == 3 * FRAMES + 4
        assert [len(r.subjects) for r in requests] == [2] * FRAMES + [1] * (2 * FRAMES + 4)
        for request in requests:
            words = words_of(request.prompt)
            assert set(words) <= known
            for subject in request.subjects:
                kind = story.kinds[NAMES.index(subject.name)]
                nouns = {noun.split()[-1] for noun in KIND_NOUNS[kind]}
                assert words[subject.tokens[0] - 1] in nouns


class Spelled:
    """A network for pictures whose first pixel spells who stands left and right (0 for nobody)."""

    def __init__(self, people: dict[int, dict[str, Any]]) -> None:
        self.people = people

    def __call__(self, pictures: torch.Tensor) -> Reading:
        n = len(pictures)
        who = [[int(x) for x in picture[:, 0, 0]] for picture in pictures]
        sizes = {**{name: len(words) for name, words in DISCRETE.items()}, "action": len(ACTIONS)}
        subject = {name: torch.zeros(n, 3, size) for name, size in sizes.items()}
        hues = torch.zeros(n, 3, len(HUE_FACTORS), 2)
        scalars = torch.zeros(n, 3, len(SCALAR_FACTORS))
        present = torch.zeros(n, 3)
        for row, slots in enumerate(who):
            for slot, number in enumerate(slots):
                if number:
                    person = self.people[number]
                    present[row, slot] = 1.0
                    for name in DISCRETE:
                        subject[name][row, slot, person[name]] = 9.0
                    angle = torch.tensor(person["hue"]) * 2 * torch.pi
                    hues[row, slot, :, 0], hues[row, slot, :, 1] = angle.cos(), angle.sin()
                    scalars[row, slot] = person["scalar"]
        masks = torch.zeros(n, 4, 8, 8)
        return Reading(present, subject, hues, scalars, {}, masks, None, torch.zeros(n, 1))


def person(kind: str, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        name: int(torch.randint(len(words), (), generator=generator))
        for name, words in DISCRETE.items()
    }
    numbers = torch.rand(2, generator=generator)
    return drawn | {
        "kind": KINDS.index(kind), "hue": float(numbers[0]), "scalar": float(numbers[1])
    }  # fmt: skip


def pictures(rows: list[tuple[int, int]]) -> np.ndarray:
    found = np.zeros((len(rows), 8, 8, 3), np.uint8)
    found[:, 0, 0, :2] = rows
    return found


@pytest.fixture
def people() -> dict[int, dict[str, Any]]:
    # 1 and 2 of the first drawing, 3 and 4 of the second; 5 and 6 are 1 and 2 in exchanged clothes.
    made = {i: person("fox" if i % 2 else "girl", i) for i in range(1, 5)}
    clothes = ("top", "sleeve", "pattern", "bottom", "shoes", "accessory", "hue")
    for new, body, worn in ((5, 1, 2), (6, 2, 1)):
        made[new] = made[body] | {name: made[worn][name] for name in clothes}
    return made


def scored(people: dict[int, dict[str, Any]], both: list[tuple[int, int]]) -> dict[str, float]:
    """Scores when the first drawing shows `both` in its common frames."""
    story: Any = SimpleNamespace(kinds=("fox", "girl"))
    assert "kinds" in PairStory.__dataclass_fields__
    first = pictures([*both, *[(1, 0)] * FRAMES, *[(2, 0)] * FRAMES])
    second = pictures([*[(3, 4)] * FRAMES, *[(3, 0)] * FRAMES, *[(4, 0)] * FRAMES])
    drawn = [DrawnStory(first, {}), DrawnStory(second, {})]
    return score_pair(story, drawn, {"reader": Spelled(people)})


def test_kept_characters_lose_nothing_wherever_they_stand(
    people: dict[int, dict[str, Any]],
) -> None:
    found = scored(people, [(1, 2), (2, 1), (1, 2), (1, 2), (2, 1)])
    assert found["c_star_alone"] == pytest.approx(1.0)
    assert found["c_star_together"] == pytest.approx(1.0)
    assert found["loss"] == pytest.approx(0.0, abs=1e-6)
    assert found["swap_rate"] == 0.0
    assert found["found"] == 1.0


def test_exchanged_clothes_are_swaps_and_cost_identity(people: dict[int, dict[str, Any]]) -> None:
    found = scored(people, [(5, 6), (1, 2), (1, 2), (1, 2), (1, 2)])
    assert found["swap_rate"] == pytest.approx(2 / 20)
    assert found["loss"] > 0.02


def test_a_frame_with_one_figure_is_no_swap_but_is_counted(
    people: dict[int, dict[str, Any]],
) -> None:
    found = scored(people, [(1, 0), (1, 2), (1, 2), (1, 2), (1, 2)])
    assert found["swap_rate"] == 0.0
    assert found["found"] == pytest.approx(0.9)
