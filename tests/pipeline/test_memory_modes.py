"""`share(memory=...)` on stock pipelines: every mode gives the same pictures."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

import consistent_gen
from consistent_gen.attention.roles import Source
from consistent_gen.errors import InputError, LimitError, UnknownNameError
from consistent_gen.models.tiny import build_tiny
from consistent_gen.pipeline import PipelineStory
from tests.every_run import or_slow
from tests.pipeline.windows import WIDE

OPTIONS: dict[str, Any] = {"num_inference_steps": 6, "guidance_scale": 3.0, "output_type": "np"}
PROMPTS = ["a fox reading", "a red fox in the city"]
MODES = ["hidden", "hidden-disk", "kv-host", "replay"]
CASES = [
    (kind, method, mode)
    for kind in ("sd", "xl")
    for method in ("consistory", "consistyle", "head_start", "story_diffusion", "style_aligned")
    for mode in MODES
]
QUICK = [("sd", "head_start", "hidden-disk"), ("sd", "head_start", "replay")]


@pytest.fixture(scope="module")
def pipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for kind, family in (("sd", StableDiffusionPipeline), ("xl", StableDiffusionXLPipeline)):
        folder = build_tiny(tmp_path_factory.mktemp("models") / kind, xl=kind == "xl")
        made[kind] = family.from_pretrained(folder)
        made[kind].set_progress_bar_config(disable=True)
    return made


def hero_of(story: PipelineStory) -> Any:
    count = story.run.recipe.anchors
    prompts = ["a red fox", "a fox sitting in the meadow"][:count]
    return story.anchor(prompts, list(range(1, count + 1)), subject="fox")


def drawn(pipe: Any, method: str, memory: str) -> tuple[list[Any], PipelineStory]:
    with consistent_gen.share(
        pipe, method, memory=memory, seed=5, settings=WIDE.get(method, {}), **OPTIONS
    ) as story:
        hero = hero_of(story)
        found = [story.frame(PROMPTS[0], 3, [hero]), story.frame(PROMPTS[1], 4, [hero])]
        # Nothing of what was read is lost: again, and both in one batch.
        assert np.array_equal(story.frame(PROMPTS[0], 3, [hero]), found[0])
        both = story.frames(PROMPTS, [3, 4], [hero])
        assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(both, found, strict=True))
        assert story.run.bank.bytes <= story.plans["fox"].bytes
        return [*hero.images, *found], story


@pytest.fixture(scope="module")
def kept(pipes: dict[str, Any]) -> Callable[[str, str], list[Any]]:
    """Pictures of a story that keeps keys and values where it draws, drawn once."""
    return functools.cache(lambda kind, method: drawn(pipes[kind], method, "kv")[0])


@pytest.mark.parametrize("case", or_slow(CASES, QUICK), ids="-".join)
def test_modes_agree(
    pipes: dict[str, Any], kept: Callable[[str, str], list[Any]], case: tuple[str, str, str]
) -> None:
    kind, method, mode = case
    found, story = drawn(pipes[kind], method, mode)
    assert story.run.bank.bytes == 0  # the story is closed
    for picture, same in zip(found, kept(kind, method), strict=True):
        assert np.allclose(picture, same, atol=1e-4)
        if mode in ("replay", "kv-host"):
            assert np.array_equal(picture, same)  # the very calls that drew the anchors


def test_anchors_that_are_drawn_again_leave_nothing_between_steps(pipes: dict[str, Any]) -> None:
    calls: list[int] = []
    pipe = pipes["sd"]
    hook = pipe.unet.register_forward_pre_hook(lambda _m, args: calls.append(len(args[0])))
    with consistent_gen.share(pipe, "head_start", memory="replay", **OPTIONS) as story:
        hero = story.anchor("a red fox", 1, subject="fox")
        assert story.run.bank.bytes == len(story.run.bank) == 0
        assert calls == [2] * 6
        calls.clear()
        story.frame("a fox reading", 3, [hero])
        assert story.run.bank.bytes == 0
        assert len(calls) == 6 + story.plans["fox"].calls == 12
        calls.clear()
        story.frame("a cat", 3)
        assert len(calls) == 6
        story.drop(hero)
        again = story.anchor("a red fox", 1, subject="fox")
        story.frame("a fox reading", 3, [again])
    hook.remove()


def test_auto_takes_what_fits_and_says_so(
    pipes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    pipe = pipes["sd"]
    whole: dict[str, int] = {}
    for mode in ("kv", "hidden", "replay"):
        with consistent_gen.share(pipe, "style_aligned", memory=mode, **OPTIONS) as story:
            story.anchor("a red fox", 1, subject="fox")
            whole[mode] = story.plans["fox"].bytes
    assert whole["replay"] < whole["hidden"] < whole["kv"]
    with caplog.at_level(logging.INFO):
        for limit, mode in (
            (None, "kv"),
            (whole["kv"], "kv"),
            (whole["kv"] - 1, "hidden"),
            (whole["hidden"] - 1, "replay"),
        ):
            caplog.clear()
            with consistent_gen.share(pipe, "style_aligned", limit_bytes=limit, **OPTIONS) as story:
                hero = story.anchor("a red fox", 1, subject="fox")
                assert story.plans["fox"].keeping.name == mode
                assert f"fox is kept as {mode}: at most" in caplog.text
                if limit is not None and mode == "kv":
                    # What is left is for the next character.
                    with pytest.raises(LimitError, match=r"replay takes .* raise the limit"):
                        story.anchor("a cat", 2, subject="cat")
                    assert story.run.subjects() == ("fox",)
                story.frame("a fox reading", 3, [hero])
    with (
        consistent_gen.share(pipe, "style_aligned", limit_bytes=100, **OPTIONS) as story,
        pytest.raises(LimitError, match=r"kv takes .* hidden takes .* replay takes"),
    ):
        story.anchor("a red fox", 1, subject="fox")
    with (
        pytest.raises(UnknownNameError, match="did you mean 'replay'"),
        consistent_gen.share(pipe, memory="reply"),
    ):
        pass


def test_two_characters_are_kept_each_in_its_way(pipes: dict[str, Any]) -> None:
    pipe = pipes["sd"]
    plain = {**OPTIONS, "num_inference_steps": 4}
    expected = None
    for limit in (None, 1):
        with consistent_gen.share(pipe, "consistory", **plain) as story:
            fox = story.anchor(["a red fox", "a fox"], [1, 2], subject="fox")
            kept = story.plans["fox"].bytes
            if limit is not None:
                story._limit = story.run.bank.bytes + kept // 2 + kept // 4
            cat = story.anchor(["a cat", "a green cat"], [3, 4], subject="cat")
            ways = [story.run.bank.keeping_of(Source(name)).name for name in ("fox", "cat")]
            assert ways == ["kv", "kv" if limit is None else "hidden"]
            found = story.frame("a fox and a cat", 5, [fox, cat])
        assert expected is None or np.allclose(found, expected, atol=1e-4)
        expected = found


def test_files_are_gone_after_the_story(pipes: dict[str, Any], tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        consistent_gen.share(pipes["sd"], "head_start", memory="kv-disk", **OPTIONS) as story,
    ):
        story.anchor("a red fox", 1, subject="fox")
        assert list(tmp_path.iterdir())
        raise RuntimeError("in the middle")
    assert not list(tmp_path.iterdir())


def test_eight_bits_stay_near(pipes: dict[str, Any], kept: Callable[[str, str], list[Any]]) -> None:
    expected = kept("sd", "head_start")
    found, _ = drawn(pipes["sd"], "head_start", "hidden-8bit")
    off = max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))
    assert 0.0 < off < 0.05


def test_what_cannot_be_drawn_again_is_refused(pipes: dict[str, Any]) -> None:
    from consistent_gen.attention.patch import attached
    from consistent_gen.attention.policy import AttentionPolicy

    with (
        attached(pipes["sd"].unet, AttentionPolicy()),
        consistent_gen.share(pipes["sd"], "head_start", memory="replay", **OPTIONS) as story,
        pytest.raises(InputError, match=r"cannot be drawn again .* an adapter is attached"),
    ):
        story.anchor("a red fox", 1, subject="fox")
