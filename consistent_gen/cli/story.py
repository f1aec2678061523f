"""`consistent-gen story`: draw a story file into a folder."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consistent_gen.attention.backends import BACKENDS, check_backend
from consistent_gen.engine.schedulers import SCHEDULERS
from consistent_gen.methods import METHODS
from consistent_gen.registry import resolve
from consistent_gen.runtime import DTYPES
from consistent_gen.story.output import check_folder
from consistent_gen.story.plan import StoryPlan, check_names, plan_story
from consistent_gen.story.script import load_story
from consistent_gen.story.settings import Overrides, parse_size

if TYPE_CHECKING:
    from consistent_gen.story.report import Drawing

DEFAULT_BUCKET, MIN_BUCKET, MAX_BUCKET = 8, 2, 64  # as the engine has them


def add_command(commands: Any) -> None:
    """Add `story` to the commands of `consistent-gen`."""
    parser = commands.add_parser(
        "story",
        help="draw a story file",
        description="Draw a story file: frames, page.png, index.html and report.json in a folder. "
        "Options beat the story file, the story file beats the model's defaults.",
    )
    parser.add_argument("file", metavar="FILE", help="a story file (YAML; see docs/story_file.md)")
    parser.add_argument("--out", metavar="DIR", required=True, help="the folder to fill")
    parser.add_argument("--method", metavar="NAME", help=f"one of: {', '.join(METHODS)}")
    parser.add_argument("--steps", metavar="N", type=_whole, help="denoising steps per frame")
    parser.add_argument("--seed", metavar="N", type=_whole, help="the story's seed")
    parser.add_argument("--guidance", metavar="G", type=_real, help="how strongly prompts bind")
    parser.add_argument(
        "--contours", metavar="C", type=_real, help="how clear shapes are drawn; 0 is off"
    )
    parser.add_argument(
        "--guidance-until",
        metavar="SHARE",
        type=_real,
        help="share of the steps that are guided, the first ones; fewer are faster",
    )
    parser.add_argument("--scheduler", metavar="NAME", help=f"one of: {', '.join(SCHEDULERS)}")
    parser.add_argument("--size", metavar="WxH", type=_size, help="pixels, such as 128x128")
    parser.add_argument(
        "--strength",
        metavar="[NAME=]S",
        action="append",
        type=_strength,
        default=[],
        help="how strongly the method binds all characters, or one; 0 to 1, may be repeated",
    )
    parser.add_argument("--model", metavar="DIR", help="a model folder (default: the shipped one)")
    parser.add_argument(
        "--attention-backend",
        metavar="NAME",
        help=f"kernel that computes attention, one of: {', '.join(BACKENDS)}",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="number format to compute in (default: float32 on a processor, float16 on a GPU); "
        "bfloat16 takes less than half of the time on processors that have AMX or AVX512-BF16, and "
        "far longer on others",
    )
    parser.add_argument(
        "--bucket",
        metavar="N",
        type=_bucket,
        default=DEFAULT_BUCKET,
        help=f"rows per denoiser call; changes the last bits (default: {DEFAULT_BUCKET})",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check everything that is cheap to check, then load the model, plan and draw."""
    with _terminable():
        story = load_story(options.file)
        overrides = Overrides(
            method=options.method,
            seed=options.seed,
            steps=options.steps,
            guidance=options.guidance,
            contours=options.contours,
            guidance_until=options.guidance_until,
            scheduler=options.scheduler,
            size=options.size,
            strengths=dict(options.strength),
        )
        check_names(story, tuple(SCHEDULERS), overrides)
        check_folder(options.out)
        if options.attention_backend is not None:
            check_backend(options.attention_backend)

        from consistent_gen.cli.loading import load_model

        backbone = load_model(options.model, options.attention_backend, options.dtype)

        from consistent_gen.cli.progress import console, drawing_progress
        from consistent_gen.story.draw import DEFAULTS, draw_story

        plan = plan_story(story, backbone, DEFAULTS, overrides, Path(options.file).parent)
        _note_unused(plan)
        with drawing_progress(plan) as on_event:
            drawing = draw_story(
                plan, backbone, options.out, bucket=options.bucket, on_event=on_event
            )
        console().print(_summary(drawing, Path(options.out)), highlight=False, markup=False)
    return 0


def _summary(drawing: Drawing, out: Path) -> str:
    seconds, count = drawing.seconds_total, len(drawing.frames)
    frames = "1 frame" if count == 1 else f"{count} frames"
    return f"{frames} in {seconds:.1f} s ({seconds / count:.1f} s each): open {out / 'index.html'}"


def _note_unused(plan: StoryPlan) -> None:
    """Say when something in the file has no effect, rather than ignore it in silence."""
    with_pictures = {i.name for frame in plan.frames for i in frame.identities if i.references}
    if with_pictures and not resolve(METHODS, plan.method).rules:
        names = ", ".join(sorted(with_pictures))
        message = f"note: method {plan.method!r} does not look at the reference pictures of {names}"
        print(message, file=sys.stderr)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let a polite kill (SIGTERM) clean up as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _whole(text: str) -> int:
    if not (text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number")
    if len(text) > 20:
        raise argparse.ArgumentTypeError(f"{text[:20]}... is too large")
    return int(text)


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number") from None


def _size(text: str) -> tuple[int, int]:
    size = parse_size(text)
    if size is None:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} does not look like 128x128")
    return size


def _strength(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    return name.strip(), _real(number)


def _bucket(text: str) -> int:
    bucket = _whole(text)
    if not MIN_BUCKET <= bucket <= MAX_BUCKET:
        message = f"{bucket} is out of range; expected {MIN_BUCKET} to {MAX_BUCKET}"
        raise argparse.ArgumentTypeError(message)
    return bucket
