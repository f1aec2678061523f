"""Captions say only what is true, mark their subjects, and stay inside the closed vocabulary."""

from __future__ import annotations

import random

import pytest

from consistent_gen.world import captions, phrases, spec
from consistent_gen.world.captions import MAX_WORDS, caption, vocabulary, words_of
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.palette import hue_name


def _frames(count: int, seed: int = 3) -> list[spec.FrameSpec]:
    rng = random.Random(seed)
    return [spec.sample_frame(rng) for _ in range(count)]


def test_every_word_is_in_the_vocabulary_and_fits_the_text_encoder() -> None:
    known = set(vocabulary())
    rng = random.Random(0)
    for frame in _frames(400):
        words = words_of(caption(frame, rng).text)
        assert set(words) <= known
        assert len(words) <= MAX_WORDS


def test_spans_start_with_the_article_and_hold_the_kind() -> None:
    rng = random.Random(1)
    for frame in _frames(200):
        result = caption(frame, rng)
        words = words_of(result.text)
        assert len(result.spans) == len(frame.subjects)
        for (start, end), subject in zip(result.spans, frame.subjects, strict=True):
            nouns = {n.split()[-1] for n in phrases.KIND_NOUNS[subject.identity.kind]}
            assert nouns & set(words[start:end])
            assert words[start] in ("a", "an")
        ends = [end for _, end in result.spans]
        starts = [start for start, _ in result.spans]
        assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


def test_named_factors_are_true() -> None:
    rng = random.Random(2)
    for frame in _frames(300):
        result = caption(frame, rng)
        for named, subject in zip(result.named, frame.subjects, strict=True):
            factors = subject.identity.to_dict()
            for name, word in named.items():
                if name in spec.HUE_FACTORS:
                    assert hue_name(factors[name]) == word
                elif name in ("action", "expression"):
                    assert getattr(subject, name) == word
                else:
                    assert factors[name] == word
        for name, word in result.scene.items():
            assert getattr(frame, name) == word


def test_words_leave_identity_open() -> None:
    """A caption names a minority of the 27 factors, and some captions only the kind."""
    rng = random.Random(4)
    singles = [f for f in _frames(600) if len(f.subjects) == 1]
    counts = []
    for frame in singles:
        named = caption(frame, rng).named[0]
        counts.append(len([n for n in named if n not in ("action", "expression")]))
    assert max(counts) <= 14
    assert sum(counts) / len(counts) < 8
    assert any(c == 1 for c in counts)


def test_share_zero_names_only_the_kind() -> None:
    rng = random.Random(5)
    for frame in _frames(50):
        for named in caption(frame, rng, share=0.0).named:
            assert set(named) <= {"kind", "action", "expression"}


def test_splits_do_not_overlap() -> None:
    train, held_out = StoryWorld("train"), StoryWorld("held_out")
    for i in range(150):
        for subject in train.frame(i).subjects:
            assert not spec.identity_held_out(subject.identity)
            assert not spec.scene_held_out(subject.action, train.frame(i).place)
        for subject in held_out.frame(i).subjects:
            assert spec.identity_held_out(subject.identity)
            assert spec.scene_held_out(subject.action, held_out.frame(i).place)


def test_the_held_out_share_is_as_stated() -> None:
    rng = random.Random(6)
    count = 4000
    held = sum(spec.identity_held_out(spec._draw_identity(rng, None)) for _ in range(count))
    assert abs(held / count - spec.HELD_OUT_SHARE) < 0.03


def test_numbered_pictures_are_the_same_every_time() -> None:
    world = StoryWorld("validation")
    assert world.frame(7) == StoryWorld("validation").frame(7)
    assert world.caption(7) == world.caption(7)
    assert (world.picture(7).rgb == StoryWorld("validation").picture(7).rgb).all()


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of train"):
        StoryWorld("test")


def test_style_phrases_name_their_style() -> None:
    for style in spec.STYLES:
        assert style in captions.style_phrase(style)
