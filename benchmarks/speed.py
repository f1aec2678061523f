"""How fast the engine draws, next to what this machine can do at best.

    python -m benchmarks.speed --out benchmarks/results/speed.json [--model DIR] [--steps 25]

Three measurements in one process, so that they share clock, threads and load:

- GEMM peak: a 2048 x 2048 x 2048 float32 product, best of several, before and after the drawing.
- Drawing: a story's worth of frames with guidance through the engine, decoding included.
- FLOP of one denoiser row, counted by `torch.utils.flop_counter` (products and convolutions; two
  per multiply-add).

The headline `share_of_peak` is the FLOP of every drawn denoiser row (dead rows do not count)
divided by the drawing time and by the peak. Imports, loading and a warm-up picture do not count.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from consistent_gen.draw_settings import DrawSettings

GEMM_SIDE = 2048
GEMM_REPEATS = 10
TARGET_SHARE = 0.45
TARGET_SECONDS = 8.0


def gemm_peak_gflops() -> float:
    """Best float32 matrix-product rate, in 1e9 FLOP per second."""
    import torch

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(GEMM_SIDE, GEMM_SIDE, generator=generator) for _ in range(2))
    seconds = []
    for _ in range(GEMM_REPEATS + 1):
        start = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - start)
    return 2 * GEMM_SIDE**3 / min(seconds[1:]) / 1e9


def flop_counter() -> Any:
    """torch's counter, taught the fused attention of CPUs, which it otherwise counts as nothing."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))

    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={fused: attention})


def row_gflop(backbone: Any, rows: int) -> float:
    """FLOP of one row of a denoiser call, in 1e9."""
    import torch

    size = backbone.default_size
    tokens = backbone.condition("", size).tokens
    latents = torch.zeros(rows, *backbone.latent_shape(*size))
    timesteps = torch.zeros(rows, dtype=torch.int64)
    with torch.inference_mode(), flop_counter() as counter:
        backbone.denoise(latents, timesteps, tokens.expand(rows, *tokens.shape))
    return float(counter.get_total_flops()) / rows / 1e9


def draw(backbone: Any, *, frames: int, steps: int, bucket: int) -> dict[str, float]:
    """Seconds for a story's frames with guidance, whole and without decoding."""
    from consistent_gen.engine import Engine, FrameDone, FrameRequest

    words = backbone.vocabulary()
    prompt = "" if words is None else " ".join(sorted(w for w in words if w.isalpha())[:12])
    settings = DrawSettings(steps=steps)
    requests = [FrameRequest(prompt=prompt, seed=n, settings=settings) for n in range(frames)]
    engine = Engine(backbone, bucket=bucket)
    list(engine.run([FrameRequest(prompt=prompt, seed=99, settings=DrawSettings(steps=2))]))
    start = time.perf_counter()
    done = [event for event in engine.run(requests) if isinstance(event, FrameDone)]
    seconds = time.perf_counter() - start
    assert len(done) == frames
    return {"seconds": seconds, "rows": 2.0 * frames * steps}


def measure(
    model: str | None, *, frames: int, steps: int, bucket: int, repeats: int
) -> dict[str, Any]:
    """All figures of one run; drawing is the best of `repeats`, peak the best of all products."""
    import torch

    from consistent_gen import runtime
    from consistent_gen.models import load_backbone

    backbone = load_backbone(model, device="cpu")
    gflop = row_gflop(backbone, bucket)
    peaks = [gemm_peak_gflops()]
    runs = [draw(backbone, frames=frames, steps=steps, bucket=bucket) for _ in range(repeats)]
    peaks.append(gemm_peak_gflops())
    best = min(runs, key=lambda run: run["seconds"])
    rate = best["rows"] / best["seconds"]
    return {
        "schema": 1,
        "model": {"name": backbone.name, "sha256": backbone.sha256},
        "frames": frames,
        "steps": steps,
        "bucket": bucket,
        "threads": torch.get_num_threads(),
        "seconds": best["seconds"],
        "seconds_of_runs": [run["seconds"] for run in runs],
        "frames_per_second": frames / best["seconds"],
        "unet_forwards_per_second": rate,
        "gflop_per_forward": gflop,
        "gflops": rate * gflop,
        "gemm_peak_gflops": max(peaks),
        "gemm_peaks_gflops": peaks,
        "share_of_peak": rate * gflop / max(peaks),
        "targets": {"share_of_peak": TARGET_SHARE, "seconds": TARGET_SECONDS},
        "versions": runtime.versions(),
    }


def table(result: dict[str, Any]) -> str:
    """The figures as aligned lines."""
    rows = [
        (f"{result['frames']} frames x {result['steps']} steps with guidance",
         f"{result['seconds']:.2f} s", f"<= {TARGET_SECONDS:g} s"),
        ("frames per second", f"{result['frames_per_second']:.2f}", ""),
        ("denoiser rows per second", f"{result['unet_forwards_per_second']:.1f}", ""),
        ("GFLOP per row", f"{result['gflop_per_forward']:.3f}", ""),
        ("GFLOP/s while drawing", f"{result['gflops']:.1f}", ""),
        (f"GEMM peak GFLOP/s, {result['threads']} threads",
         f"{result['gemm_peak_gflops']:.1f}", ""),
        ("share of peak", f"{result['share_of_peak']:.1%}", f">= {TARGET_SHARE:.0%}"),
    ]  # fmt: skip
    return "\n".join(f"{name:<42}{value:>12}   {target}".rstrip() for name, value, target in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", help="write the figures to this JSON file")
    parser.add_argument("--model", help="model folder; default: the shipped one")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--steps", type=int, default=DrawSettings.steps)
    parser.add_argument("--bucket", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    from consistent_gen.checkpoints import write_json
    from consistent_gen.errors import ConsistentGenError

    try:
        result = measure(
            options.model,
            frames=options.frames,
            steps=options.steps,
            bucket=options.bucket,
            repeats=options.repeats,
        )
        if options.out:
            write_json(options.out, result)
    except ConsistentGenError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(table(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
