from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Engine, FrameDone, FrameRequest, read_png, replay, write_png
from consistent_gen.engine.replaying import compare
from consistent_gen.errors import InputError
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.tiny import build_tiny

REQUEST = FrameRequest(
    prompt="a red fox", seed=5,
    settings=DrawSettings(
        steps=3, guidance=2.5, scheduler="dpm", contours=2.0, size=(96, 160)
    ),
)  # fmt: skip


def draw(backbone: Backbone, **options: Any) -> FrameDone:
    others = [
        FrameRequest(prompt="a cat", seed=n, settings=DrawSettings(steps=2, size=(96, 160)))
        for n in (1, 2)
    ]
    done = [e for e in Engine(backbone, **options).run([*others, REQUEST])
            if isinstance(e, FrameDone)]  # fmt: skip
    return next(e for e in done if e.metadata["prompt"] == "a red fox")


@pytest.mark.parametrize("bucket", [2, 6, 8])
def test_a_frame_from_company_is_drawn_again_alone(
    tiny: Backbone, tmp_path: Path, bucket: int
) -> None:
    drawn = draw(tiny, bucket=bucket)
    write_png(tmp_path / "x.png", drawn.image, drawn.metadata)
    result = replay(*read_png(tmp_path / "x.png"), tiny)
    assert (result.verdict, result.max_abs_diff, result.psnr) == ("identical", 0, math.inf)
    assert result.reasons == ()
    assert np.array_equal(result.image, drawn.image)


def test_throughput_frames_come_close_and_say_why(tiny: Backbone) -> None:
    drawn = draw(tiny, exact=False)
    result = replay(drawn.image, drawn.metadata, tiny)
    assert result.verdict in ("identical", "close")
    assert any("throughput" in reason for reason in result.reasons)


def test_other_weights_are_named(tiny: Backbone, tmp_path: Path) -> None:
    other = load_backbone(build_tiny(tmp_path / "other", seed=1), device="cpu")
    drawn = draw(tiny)
    result = replay(drawn.image, drawn.metadata, other)
    assert result.verdict == "different"
    assert result.psnr < 35
    assert any("model weights" in r and tiny.sha256[:10] in r for r in result.reasons)


def test_changed_pixels_are_noticed(tiny: Backbone) -> None:
    drawn = draw(tiny)
    image = drawn.image.copy()
    image[0, 0, 0] ^= 1
    result = replay(image, drawn.metadata, tiny)
    assert (result.verdict, result.max_abs_diff) == ("close", 1)
    assert result.reasons == ("the file's pixels were changed after it was drawn",)


def test_other_circumstances_are_named(tiny: Backbone) -> None:
    drawn = draw(tiny)
    old = {
        **drawn.metadata,
        "dtype": "bfloat16",
        "versions": {**drawn.metadata["versions"], "torch": "1.0"},
        "machine": {**drawn.metadata["machine"], "threads": 99, "cpu": "an older one"},
    }
    reasons = " | ".join(replay(drawn.image, old, tiny).reasons)
    for part in ("dtype: drawn with bfloat16, now float32", "torch: drawn with 1.0",
                 "threads: drawn with 99", "cpu: drawn with an older one"):  # fmt: skip
        assert part in reasons


def test_verdicts_by_hand() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    white = np.full((4, 4, 3), 255, np.uint8)
    assert compare(black, white, []).psnr == 0.0
    assert compare(black, black + 1, []).psnr == pytest.approx(10 * math.log10(255**2))
    assert compare(black, black + 1, []).verdict == "close"
    other = compare(black, white[:2], [])
    assert other.verdict == "different"
    assert other.reasons == ("other size: 4x4 in the file, now 4x2",)


@pytest.fixture(scope="module")
def kept(tiny: Backbone) -> FrameDone:
    """A drawing that no test changes."""
    return draw(tiny)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", 3), ("seed", "1"), ("seed", -1), ("steps", 10**9), ("steps", True),
        ("width", 10**6), ("width", 100), ("bucket", 1000), ("bucket", "8"), ("model", "x"),
        ("guidance", float("inf")), ("scheduler", "magic"), ("method", "consistory"),
        ("versions", []), ("prompt", "a dragon"), ("machine", None), ("story", 1),
    ],
)  # fmt: skip
def test_forged_metadata_are_input_errors(
    tiny: Backbone, kept: FrameDone, name: str, value: object
) -> None:
    with pytest.raises(InputError):
        replay(kept.image, {**kept.metadata, name: value}, tiny)
    lacking = {key: entry for key, entry in kept.metadata.items() if key != name}
    with pytest.raises(InputError, match=f"lack '{name}'"):
        replay(kept.image, lacking, tiny)
