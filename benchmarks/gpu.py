"""What drawing costs on a GPU: one run of everything that only a GPU can tell.

    python -m benchmarks.gpu [--shapes sd15 sdxl] [--parts methods banks ...] [--dtype bfloat16]

On a GPU the shapes are those of SD 1.5 (512 px) and SDXL (1024 px) with random weights, elsewhere a
toy's, so that the script is rehearsed before there is one. The parts:

- methods: seconds a step of an added frame and peak memory, plain diffusers beside each method.
- banks: the same where anchors are kept as they are, in 16 and in 8 bit, and as hidden states.
- attention: torch's own kernel beside xformers'.
- compiled: feed-forward and convolution blocks compiled, as `share` allows (docs/backbones.md).
- batching: frames a second of the engine by rows of a call, with the shipped model or `--model`.

A part that cannot run says why, and the others go on. Out-of-memory splits and several cards are
tried on a server (docs/gpu.md).
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import consistent_gen
from benchmarks.full_size import PUBLISHED, SD15, XL, full_size_pipe
from benchmarks.markdown import table
from consistent_gen.attention.backends import BACKENDS, check_backend, select_backend
from consistent_gen.checkpoints import read_json, write_json
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.errors import ConsistentGenError
from consistent_gen.methods import METHODS
from consistent_gen.models import load_backbone
from consistent_gen.models.tiny import build_tiny
from consistent_gen.runtime import tune_allocator, versions

SHAPES = {"sd15": SD15, "sdxl": XL}
TOY = "toy"
PLAIN = "plain diffusers"
KEPT = ("kv", "kv-16bit", "kv-8bit", "hidden")
ROWS = (2, 8, 16, 32)
COMPILED = ("FeedForward", "ResnetBlock2D")
PROMPT = "a fox reading"
PORTRAITS = ("a red fox", "a fox sitting in the meadow", "a fox walking", "a fox in the forest")
# Failures of a machine, which a part tells and the run outlives.
FAILURES = (ConsistentGenError, RuntimeError, ImportError)


class PipelineTiming:
    """One pipeline on one device."""

    def __init__(self, shapes: str, device: str, dtype: torch.dtype, steps: int) -> None:
        self.device, self.steps = device, steps
        if shapes == TOY:
            from diffusers import StableDiffusionPipeline

            with tempfile.TemporaryDirectory() as folder:
                place = build_tiny(Path(folder) / "toy")
                self.pipe = StableDiffusionPipeline.from_pretrained(place).to(device, dtype)
        else:
            self.pipe = full_size_pipe(SHAPES[shapes], device, dtype, PUBLISHED)
        self.pipe.set_progress_bar_config(disable=True)
        self.options: dict[str, Any] = {
            "num_inference_steps": steps, "guidance_scale": 5.0, "output_type": "latent",
        }  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """A picture of the pipeline's own."""
        return self._timed(lambda seed: self.pipe(
            prompt=[PROMPT], generator=[torch.Generator().manual_seed(seed)], **self.options
        ))  # fmt: skip

    def shared(self, method: str, **how: Any) -> dict[str, Any]:
        """An added frame of a character whose anchors are there, which count for the memory."""
        self._fresh()
        with consistent_gen.share(self.pipe, method, **how, **self.options) as story:
            count = story.run.recipe.anchors
            hero = story.anchor(PORTRAITS[:count], range(count), "fox")
            found = self._timed(lambda seed: story.frame(PROMPT, seed, [hero]), fresh=False)
            plan = story.plans["fox"]
            return found | {"memory": plan.keeping.name, "bank_bytes": story.run.bank.bytes}

    def _fresh(self) -> None:
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def _timed(self, draw: Callable[[int], Any], *, fresh: bool = True) -> dict[str, Any]:
        """The second of two drawings, and the peak of memory where the device tells it."""
        if fresh:
            self._fresh()
        seconds = 0.0
        for seed in (11, 12):
            started = self._now()
            draw(seed)
            seconds = self._now() - started
        peak = torch.cuda.max_memory_allocated() if self.device == "cuda" else None
        return {"seconds_a_step": seconds / self.steps, "peak_bytes": peak}

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def told(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a measurement finds, or why there is none."""
    try:
        return run()
    except FAILURES as error:
        return {"reason": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}


def methods(bench: PipelineTiming) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each method at its published settings in the mode that "auto" chooses."""
    yield PLAIN, told(bench.plain)
    for name in METHODS:
        if name not in ("vanilla", "references"):
            yield name, told(lambda name=name: bench.shared(name))  # type: ignore[misc]


def banks(bench: PipelineTiming) -> Iterator[tuple[str, dict[str, Any]]]:
    """The method that keeps most, kept in several ways."""
    for mode in KEPT:
        yield mode, told(lambda mode=mode: bench.shared("consistyle", memory=mode))  # type: ignore[misc]


def attention(bench: PipelineTiming) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each kernel that is installed."""
    for name in BACKENDS:

        def run(name: str = name) -> dict[str, Any]:
            check_backend(name)
            return bench.shared("consistyle", attention_backend=name)

        yield name, told(run)
    select_backend(bench.pipe.unet, "native")


def compiled(bench: PipelineTiming) -> Iterator[tuple[str, dict[str, Any]]]:
    """Before and after the parts that may be compiled are; the last part, as they stay so."""
    yield "as it is", told(lambda: bench.shared("head_start"))
    for part in bench.pipe.unet.modules():
        if type(part).__name__ in COMPILED:
            part.compile()
    yield "parts compiled", told(lambda: bench.shared("head_start"))


PARTS: dict[str, Callable[[PipelineTiming], Iterator[tuple[str, dict[str, Any]]]]] = {
    "methods": methods, "banks": banks, "attention": attention, "compiled": compiled,
}  # fmt: skip
BATCHING = "batching"


def batching(
    model: str | None, device: str, dtype: str, steps: int, frames: int
) -> dict[str, dict[str, Any]]:
    """Frames a second of the engine, by rows of a call."""
    from consistent_gen.engine import Engine, FrameDone, FrameRequest

    backbone = load_backbone(model, device=device, dtype=dtype)
    settings = DrawSettings(steps=steps)
    found = {}
    for rows in ROWS:

        def run(rows: int = rows) -> dict[str, Any]:
            engine = Engine(backbone, bucket=rows)
            list(engine.run([FrameRequest(prompt="", seed=0, settings=settings)]))
            wanted = [FrameRequest(prompt="", seed=n, settings=settings) for n in range(frames)]
            started = time.perf_counter()
            done = sum(isinstance(event, FrameDone) for event in engine.run(wanted))
            return {"frames_per_second": done / (time.perf_counter() - started)}

        found[f"{rows} rows"] = told(run)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and keep after every figure what there is."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = list(SHAPES) if device == "cuda" else [TOY]
    parser.add_argument("--shapes", nargs="+", choices=[TOY, *SHAPES], default=usual)
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, BATCHING],
                        default=[*PARTS, BATCHING])  # fmt: skip
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"),
                        default="float16" if device == "cuda" else "float32")  # fmt: skip
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--frames", type=int, default=16, help="of batching")
    parser.add_argument("--model", help="folder that batching draws with, else the shipped one")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu.json"))
    options = parser.parse_args(argv)
    tune_allocator()
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    result: dict[str, Any] = read_json(options.out) if options.out.exists() else {}
    result |= {"device": name, "dtype": options.dtype, "steps": options.steps,
               "versions": versions()}  # fmt: skip
    for shapes in options.shapes if set(options.parts) & set(PARTS) else ():
        bench = PipelineTiming(shapes, device, getattr(torch, options.dtype), options.steps)
        for part in (part for part in PARTS if part in options.parts):
            rows = result.setdefault(shapes, {}).setdefault(part, {})
            for row, found in PARTS[part](bench):
                rows[row] = found
                write_json(options.out, result)
        del bench
    if BATCHING in options.parts:
        told_of = batching(options.model, device, options.dtype, options.steps, options.frames)
        result[BATCHING] = told_of
        write_json(options.out, result)
    Console(width=160).print(page(result), markup=False)


def page(result: Mapping[str, Any]) -> str:
    """The figures as Markdown tables."""
    shapes = [key for key in (TOY, *SHAPES) if key in result]
    parts = [f"{result['device']}, {result['dtype']}, {result['steps']} steps with guidance."]
    for key in shapes:
        for part, rows in result[key].items():
            cells = [
                (name, row["reason"], "", "", "") if "reason" in row else _cells(name, row)
                for name, row in rows.items()
            ]
            head = (f"{key}: {part}", "ms a step", "peak GB", "kept as", "kept MB")
            parts.append(table(head, cells))
    if BATCHING in result:
        cells = [
            (name, row.get("reason") or f"{row['frames_per_second']:.2f}")
            for name, row in result[BATCHING].items()
        ]
        parts.append(table(("rows of a call", "frames a second"), cells))
    return "\n".join(parts)


def _cells(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    peak, bank = row["peak_bytes"], row.get("bank_bytes")
    return (
        name, f"{1000 * row['seconds_a_step']:.1f}", "" if peak is None else f"{peak / 1e9:.2f}",
        row.get("memory", ""), "" if bank is None else f"{bank / 1e6:.1f}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
