"""`consistent-gen story`: draw a story file into a folder."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consistent_gen.attention.backends import BACKENDS, check_backend
from consistent_gen.cli.check import add_wording_options
from consistent_gen.cli.export import add_enlarging_option
from consistent_gen.cli.provenance import add_provenance_options, provenance_of
from consistent_gen.draw_settings import BEST_OF, OFFERED, SettingFacts
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.methods import METHODS
from consistent_gen.registry import resolve
from consistent_gen.runtime import DTYPES
from consistent_gen.story.enlarge import check_enlarging
from consistent_gen.story.output import check_folder
from consistent_gen.story.plan import Overrides, StoryPlan, check_names, option_of, plan_story
from consistent_gen.story.script import load_story
from consistent_gen.story.types import SEED, STRENGTH

if TYPE_CHECKING:
    from consistent_gen.models.backbone import Backbone
    from consistent_gen.story.report import Drawing
    from consistent_gen.story.types import Story
    from consistent_gen.story.wording import Wording

DEFAULT_BUCKET = 8  # as the engine has it
BUCKET = SettingFacts(kind=int, low=2, high=64, about="rows per denoiser call")


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
    parser.add_argument("--seed", metavar="N", type=value_of(SEED), help=SEED.about)
    parser.add_argument(
        "--best-of", metavar=BEST_OF.sign, type=value_of(BEST_OF), help=f"{BEST_OF.about}; 1 to "
        f"{BEST_OF.high:g} (default: 1)",
    )  # fmt: skip
    for name, setting in OFFERED.items():
        parser.add_argument(
            option_of(name), metavar=setting.sign, type=value_of(setting), help=setting.about
        )
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
    add_enlarging_option(parser)
    add_wording_options(parser)
    add_provenance_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check everything that is cheap to check, then load the model, plan and draw."""
    with _terminable():
        story = load_story(options.file)
        overrides = Overrides(
            method=options.method,
            seed=options.seed,
            best_of=options.best_of,
            settings={
                name: value for name in OFFERED if (value := getattr(options, name)) is not None
            },
            strengths=dict(options.strength),
        )
        check_names(story, overrides)
        check_folder(options.out)
        if options.enlarge is not None:
            check_enlarging(options.enlarge)
        if options.attention_backend is not None:
            check_backend(options.attention_backend)
        provenance = provenance_of(options)
        wording = _worded(story, options)
        story = story if wording is None else wording.story

        from consistent_gen.cli.progress import load_model

        backbone = load_model(options.model, options.attention_backend, options.dtype)

        from consistent_gen.cli.progress import console, drawing_progress
        from consistent_gen.story.draw import draw_story

        plan = plan_story(story, backbone, overrides, Path(options.file).parent)
        _note_unused(plan, backbone)
        with drawing_progress(plan) as on_event:
            drawing = draw_story(
                plan, backbone, options.out, bucket=options.bucket, on_event=on_event,
                wording=None if wording is None else wording.to_json(), enlarge=options.enlarge,
                provenance=provenance,
            )  # fmt: skip
        for name, told in drawing.references.items():
            for note in told.get("notes", ()):
                print(f"note: references of {name}: {note}", file=sys.stderr)
        console().print(_summary(drawing, Path(options.out)), highlight=False, markup=False)
    return 0


def _worded(story: Story, options: argparse.Namespace) -> Wording | None:
    """The story in the model's words, and what became of the writer's on stderr; None where the
    words stay as they are.
    """
    from consistent_gen.story.wording import read_vocabulary, telling, word_story

    if options.as_written:
        return None
    try:
        vocabulary = read_vocabulary(options.model)
    except CheckpointError:
        return None  # loading the model says what is wrong with its folder
    wording = word_story(story, vocabulary, sheets=options.sheets, seed=options.seed)
    telling.refuse(telling.problems(wording, vocabulary, strict=options.strict), story.place.source)
    for line in telling.brief(wording):
        print(line, file=sys.stderr)
    return wording


def _summary(drawing: Drawing, out: Path) -> str:
    seconds, count = drawing.seconds_total, len(drawing.frames)
    frames = "1 frame" if count == 1 else f"{count} frames"
    if drawing.plan.best_of > 1:
        frames += f", each the best of {drawing.plan.best_of},"
    return f"{frames} in {seconds:.1f} s ({seconds / count:.1f} s each): open {out / 'index.html'}"


def _note_unused(plan: StoryPlan, backbone: Backbone) -> None:
    """Say when something in the file has no effect, rather than ignore it in silence."""
    from consistent_gen.story.identity import has_adapter

    with_pictures = {i.name for frame in plan.frames for i in frame.members if i.references}
    adapts = plan.settings.likeness > 0.0 and has_adapter(backbone)
    if with_pictures and not adapts and not resolve(METHODS, plan.method).rules:
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


def value_of(setting: SettingFacts) -> Callable[[str], Any]:
    """Reads a setting's value for argparse, which wants mistakes as errors of its own."""

    def read(text: str) -> Any:
        try:
            return setting.parse(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(error.message) from None

    return read


def _strength(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    return name.strip(), value_of(STRENGTH)(number)


def _bucket(text: str) -> int:
    bucket: int = value_of(BUCKET)(text)
    if mistake := BUCKET.mistake("bucket", bucket):
        raise argparse.ArgumentTypeError(mistake.message)
    return bucket
