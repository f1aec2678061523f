"""`consistent-gen story`: draw a story file, or many, into a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consistent_gen.attention.backends import BACKENDS, check_backend
from consistent_gen.cli.check import add_wording_options
from consistent_gen.cli.export import add_enlarging_option
from consistent_gen.cli.many import add_many_options, check_many_options, terminable
from consistent_gen.cli.provenance import add_provenance_options, provenance_of
from consistent_gen.draw_settings import BEST_OF, MEND, OFFERED, USUAL_MEND, SettingFacts
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.methods import METHODS
from consistent_gen.models import OFFLOADS
from consistent_gen.models.loras import WEIGHT, LoraFile, lora_option
from consistent_gen.registry import resolve, unknown_name
from consistent_gen.runtime import DTYPES
from consistent_gen.story.enlarge import check_enlarging
from consistent_gen.story.output import check_folder
from consistent_gen.story.plan import (
    Overrides,
    StoryPlan,
    check_names,
    loras_of,
    option_of,
    plan_story,
    usual_mend,
)
from consistent_gen.story.script import load_story
from consistent_gen.story.types import SEED, STRENGTH

if TYPE_CHECKING:
    from consistent_gen.engine.events import Event
    from consistent_gen.models.backbone import Backbone
    from consistent_gen.story.provenance import Provenance
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
        "Options beat the story file, the story file beats the model's defaults. With --many, "
        "every story file of a folder gets such a folder of its own below --out; what is there "
        "already is not drawn again, stories that cannot be drawn are listed at the end (exit code "
        "1), and the same command goes on where it was stopped. See docs/scaling.md.",
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="a story file (YAML; see docs/story_file.md)"
    )
    parser.add_argument("--out", metavar="DIR", help="the folder to fill (always needed)")
    add_many_options(parser, "draw all story files (.yaml, .yml) of that folder")
    parser.add_argument("--method", metavar="NAME", help=f"one of: {', '.join(METHODS)}")
    parser.add_argument("--seed", metavar="N", type=value_of(SEED), help=SEED.about)
    parser.add_argument(
        "--best-of", metavar=BEST_OF.sign, type=value_of(BEST_OF), help=f"{BEST_OF.about}; 1 to "
        f"{BEST_OF.high:g} (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--mend", metavar=MEND.sign, type=value_of(MEND), help=f"{MEND.about}; {MEND.range_words} "
        f"(default: {USUAL_MEND} for the story-world model)",
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
        "--lora",
        metavar="FILE[=WEIGHT]",
        action="append",
        type=_lora,
        default=[],
        help=f"a LoRA file (.safetensors) for the model; {WEIGHT.about} (default: 1), "
        f"{WEIGHT.range_words}; may be repeated, and then stands for all of the story file's",
    )
    add_offload_option(parser)
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
    check_many_options(options, options.file, "a story file", "FILE --out DIR")
    if options.out is None:
        raise InputError("name the folder to fill: --out DIR", source="--out")
    with terminable():
        if options.many is not None:
            from consistent_gen.cli.story_many import run as run_many

            return run_many(options)
        drawing = drawn(options, options.file, options.out, _load, _watch, _tell)
        from consistent_gen.cli.progress import console

        console().print(_summary(drawing, Path(options.out)), highlight=False, markup=False)
    return 0


def drawn(
    options: argparse.Namespace,
    file: str | Path,
    out: str | Path,
    load: Callable[..., Backbone],
    watch: Callable[[StoryPlan], AbstractContextManager[Callable[[Event], None] | None]],
    tell: Callable[[str], None],
) -> Drawing:
    """Draw one file as the options say.

    load: as `progress.load_model`. watch: gives what is
    called with every event. tell: called with what became of words and with notes, a line each.

    Raises:
        ConsistentGenError: as `draw_story`, and for whatever is wrong with file and options.
    """
    story = load_story(file)
    overrides = overrides_of(options)
    check_names(story, overrides)
    check_folder(out)
    provenance = check_options(options)
    wording = _worded(story, options, tell)
    story = story if wording is None else wording.story

    loras = loras_of(story, overrides, Path(file).parent)
    backbone = load(options.model, options.attention_backend, options.dtype, loras, options.offload)

    from consistent_gen.story.draw import draw_story

    if story.mend is None:
        story = replace(story, mend=usual_mend(backbone))
    plan = plan_story(story, backbone, overrides, Path(file).parent)
    _note_unused(plan, backbone, tell)
    with watch(plan) as on_event:
        drawing = draw_story(
            plan, backbone, out, bucket=options.bucket, on_event=on_event,
            wording=None if wording is None else wording.to_json(), enlarge=options.enlarge,
            provenance=provenance,
        )  # fmt: skip
    for name, told in drawing.references.items():
        for note in told.get("notes", ()):
            tell(f"note: references of {name}: {note}")
    return drawing


def check_options(options: argparse.Namespace) -> Provenance | None:
    """Refuse options that no story could be drawn with; how to sign, if that is asked for.

    Raises:
        InputError, MissingExtraError: a name that is none, or what is not installed.
    """
    if options.method is not None and options.method not in METHODS:
        raise unknown_name("method", options.method, METHODS)
    if options.enlarge is not None:
        check_enlarging(options.enlarge)
    if options.attention_backend is not None:
        check_backend(options.attention_backend)
    return provenance_of(options)


def overrides_of(options: argparse.Namespace) -> Overrides:
    """What the options say instead of the story file."""
    given = {name: getattr(options, name) for name in OFFERED}
    return Overrides(
        method=options.method,
        seed=options.seed,
        best_of=options.best_of,
        mend=options.mend,
        settings={name: value for name, value in given.items() if value is not None},
        strengths=dict(options.strength),
        loras=tuple(options.lora),
    )


def _load(*said: Any) -> Backbone:
    from consistent_gen.cli.progress import load_model

    return load_model(*said)


def _watch(plan: StoryPlan) -> AbstractContextManager[Callable[[Event], None]]:
    from consistent_gen.cli.progress import drawing_progress

    return drawing_progress(plan)


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _worded(
    story: Story, options: argparse.Namespace, tell: Callable[[str], None]
) -> Wording | None:
    """The story in the model's words, and what became of the writer's is told; None where the
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
        tell(line)
    return wording


def _summary(drawing: Drawing, out: Path) -> str:
    seconds, count = drawing.seconds_total, len(drawing.frames)
    frames = "1 frame" if count == 1 else f"{count} frames"
    if drawing.plan.best_of > 1:
        frames += f", each the best of {drawing.plan.best_of},"
    if drawing.drawn_again:
        frames += f", {drawing.drawn_again} drawn again for what nobody asked for,"
    return f"{frames} in {seconds:.1f} s ({seconds / count:.1f} s each): open {out / 'index.html'}"


def _note_unused(plan: StoryPlan, backbone: Backbone, tell: Callable[[str], None]) -> None:
    """Say when something in the file has no effect, rather than ignore it in silence."""
    from consistent_gen.story.identity import has_adapter

    with_pictures = {i.name for frame in plan.frames for i in frame.members if i.references}
    adapts = plan.settings.likeness > 0.0 and has_adapter(backbone)
    if with_pictures and not adapts and not resolve(METHODS, plan.method).rules:
        names = ", ".join(sorted(with_pictures))
        tell(f"note: method {plan.method!r} does not look at the reference pictures of {names}")


def value_of(setting: SettingFacts) -> Callable[[str], Any]:
    """Reads a setting's value for argparse, which wants mistakes as errors of its own."""

    def read(text: str) -> Any:
        try:
            return setting.parse(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(error.message) from None

    return read


def add_offload_option(parser: argparse.ArgumentParser) -> None:
    """Add `--offload`."""
    parser.add_argument(
        "--offload",
        choices=OFFLOADS,
        help="for a model larger than the GPU's memory: keep weights on the processor's side and "
        "bring over one network at a time (model), or one layer (sequential; slowest)",
    )


def _lora(text: str) -> LoraFile:
    try:
        return lora_option(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def _strength(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    return name.strip(), value_of(STRENGTH)(number)


def _bucket(text: str) -> int:
    bucket: int = value_of(BUCKET)(text)
    if mistake := BUCKET.mistake("bucket", bucket):
        raise argparse.ArgumentTypeError(mistake.message)
    return bucket
