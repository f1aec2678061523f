"""What is said of a persona: taxonomies and their thirds, the sampler, role cards."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from consistent_gen.errors import InputError, UnknownNameError
from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.language.models import Message
from consistent_gen.persona import BIG_FIVE, Persona, Scripted
from consistent_gen.persona.population import (
    ProfileSampler,
    Taxonomy,
    deepen,
    leaks,
    role_card,
    stratified_attributes,
)
from consistent_gen.persona.population.role_cards import ADJECTIVES
from consistent_gen.persona.population.taxonomy import AskingFill, cut_to_words

PROFILE = "a beekeeper who sings in a choir"
EMBEDDER = HashedNgrams()


def test_our_taxonomy_has_twelve_roots_and_no_leaf_twice() -> None:
    ours = Taxonomy.load()
    assert len(ours.roots) == 12
    assert 150 <= len(ours.leaves) <= 300
    names = [leaf[-1] for leaf in ours.leaves]
    assert len(set(names)) == len(names)  # a field has the name of its leaf


def test_taxonomies_are_loaded_and_merged(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text('{"Work": {"Job": {}, " JOB": {}, "Pay": {"wage": {}}}}')
    theirs = Taxonomy.load(file)
    assert theirs.leaves == (("Work", "Job"), ("Work", " JOB"), ("Work", "Pay", "wage"))
    merged = Taxonomy((("work", "job"),)).merge(theirs)
    assert merged.leaves == (("work", "job"), ("Work", "Pay", "wage"))
    near = Taxonomy((("a", "favourite dish"), ("a", "favourite dishes"), ("a", "car")))
    assert near.merged_names(EMBEDDER, alike=0.6).leaves == (("a", "favourite dish"), ("a", "car"))
    for text, message in (("[1]", "expected names"), ("{}", "no attributes"), ("{", "cannot be")):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            Taxonomy.load(file)


@pytest.mark.parametrize("preset", ["code", "paper"])
def test_the_shares_of_near_middle_and_far_are_those_of_the_preset(preset: str) -> None:
    words = random.Random(0)
    letters = "abcdefghijklmnop"
    made = ["".join(words.choices(letters, k=8)) for _ in range(1_200)]
    tree = Taxonomy(tuple((f"root {i % 4}", word) for i, word in enumerate(dict.fromkeys(made))))
    draw = random.Random(1)
    chosen = stratified_attributes(PROFILE, tree, 200, EMBEDDER, draw, preset=preset)  # type: ignore[arg-type]
    assert len(chosen) == 200 == len(set(chosen))
    query = EMBEDDER.text([PROFILE])[0]
    near = {leaf: float(EMBEDDER.text([" ".join(leaf)])[0] @ query) for leaf in tree.leaves}
    counts = np.zeros(3)
    for root in tree.roots:
        own = sorted((x for x in tree.leaves if x[0] == root), key=lambda x: -near[x])
        third = len(own) // 3
        ranks = [min(2, own.index(leaf) // third) for leaf in chosen if leaf[0] == root]
        counts += np.bincount(ranks, minlength=3)
        if preset == "code":  # the nearest, not a sample of the near third
            assert set(own[:20]) <= set(chosen)
    expected = (0.4, 0.4, 0.2) if preset == "code" else (0.5, 0.3, 0.2)
    assert np.abs(counts / 200 - expected).max() <= 0.02
    again = stratified_attributes(PROFILE, tree, 200, EMBEDDER, random.Random(1), preset=preset)  # type: ignore[arg-type]
    assert again == chosen


def test_filling_sees_what_stands_and_leaves_anchors_alone() -> None:
    persona = Persona("m", "Mia", fields={"eyes": "green"}, anchors=frozenset({"fields.height"}))
    seen: list[int] = []

    def fill(path: tuple[str, ...], known: Persona, draw: random.Random) -> str:
        seen.append(len(known.fields))
        return "" if path[-1] == "hair" else f"{path[-1]} {draw.randint(1, 99)}"

    tree = Taxonomy.load()
    chosen = stratified_attributes(PROFILE, tree, 237, EMBEDDER, random.Random(2))
    deep = deepen(persona, chosen, fill, random.Random(3))
    assert deep.fields["eyes"] == "green"
    assert "height" not in deep.fields and "hair" not in deep.fields
    assert seen == sorted(seen) and len(set(seen)) > 200
    assert len(deep.statements) == len(deep.fields) - 1
    assert deepen(persona, chosen, fill, random.Random(3)) == deep
    assert cut_to_words("One two. Three four five.", 4) == "One two."


def test_a_model_is_asked_and_what_it_does_not_say_is_counted() -> None:
    def answers(messages: Sequence[Message], draw: random.Random) -> str:
        asked = messages[-1].content
        if "hair" in asked:
            return "Unknown."
        return '"a red coat"\nAnd more.' if "clothing" in asked else "Sorry, I cannot."

    fill = AskingFill(Scripted(answers))
    paths = [("Body", "Looks", name) for name in ("hair", "clothing", "eyes")]
    deep = deepen(Persona("m", "Mia"), paths, fill, random.Random(1))
    assert deep.fields == {"clothing": "a red coat"}
    assert (fill.calls, fill.unsaid) == (3, 2)


def test_the_sampler_finds_the_lonely_and_covers_them() -> None:
    crowd = [f"I bake bread and cakes every day in village {i}." for i in range(90)]
    words = ["zither", "quasar", "ferret", "glacier", "turbine", "sonnet", "judo", "oboe", "lichen"]
    words += ["compass"]
    lonely = [f"{word} {word[::-1]} {word * 2}" for word in words]
    sampler = ProfileSampler([*crowd, *lonely], EMBEDDER, k=4)
    assert sampler.density[90:].max() < sampler.density[:90].min()
    assert sampler.weights.sum() == pytest.approx(1.0)
    found = [sampler.draw(10, np.random.default_rng(s)) for s in range(30)]
    even = [sampler.draw(10, np.random.default_rng(s), uniform=True) for s in range(30)]
    assert np.mean([[i >= 90 for i in f] for f in found]) > 0.4
    assert np.mean([[i >= 90 for i in f] for f in even]) < 0.2
    rare = range(90, 100)
    met = [[sampler.coverage(f, among=rare) for f in drawn] for drawn in (found, even)]
    assert np.mean(met[0]) > np.mean(met[1]) + 0.2
    assert sampler.coverage(range(100)) == 1.0
    with pytest.raises(InputError, match="two paragraphs"):
        sampler.mix(0, np.random.default_rng(0))
    two = ProfileSampler([f"You bake {i}.\n\nYou are calm {i}." for i in range(3)], EMBEDDER, k=1)
    facts, traits = two.mix(0, np.random.default_rng(0)).split("\n\n")
    assert facts == "You bake 0." and traits in ("You are calm 1.", "You are calm 2.")
    with pytest.raises(InputError, match="1 <= k"):
        ProfileSampler(["a", "b"], EMBEDDER, k=2)


def test_a_role_card_says_each_pole_with_its_strength_and_leaks_are_found() -> None:
    poles = {"extraversion": -3, "neuroticism": 1, "openness": 0}
    card = role_card("r", "Rae", "Rae rows at dawn.", random.Random(4), poles=poles)
    assert card.traits == {
        "extraversion": 0.0, "neuroticism": pytest.approx(4 / 6), "openness": 0.5,
    }  # fmt: skip
    told = [s.text for s in card.statements]
    assert told[0] == "Rae rows at dawn."
    assert told[1].startswith("Rae is extremely ") and told[2].startswith("Rae is a bit ")
    used = card.fields["adjectives"]
    assert set(used[:2]) <= ADJECTIVES["extraversion"][0]
    assert set(used[2:]) <= ADJECTIVES["neuroticism"][1]
    assert leaks(card, f"I am rather {used[0].upper()}, you know.") == (used[0],)
    assert leaks(card, f"un{used[0]}ly") == ()
    full = role_card("r", "Rae", "x", random.Random(5))
    assert set(full.traits) == set(BIG_FIVE)
    assert full == role_card("r", "Rae", "x", random.Random(5))
    with pytest.raises(UnknownNameError, match="charm"):
        role_card("r", "Rae", "x", random.Random(1), poles={"charm": 1})
    with pytest.raises(InputError, match="-3 to 3"):
        role_card("r", "Rae", "x", random.Random(1), poles={"openness": 4})


def test_no_adjective_stands_on_two_poles() -> None:
    poles = [words for pair in ADJECTIVES.values() for words in pair]
    assert sum(map(len, poles)) == len(frozenset().union(*poles))
