"""`consistent-gen score`: how well pictures from anywhere agree, of one folder or of many."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consistent_gen.cli.many import add_many_options, check_many_options, terminable
from consistent_gen.errors import InputError, LimitError
from consistent_gen.registry import unknown_name

if TYPE_CHECKING:
    from consistent_gen.rewards.base import Picture, Reward
    from consistent_gen.rewards.files import PictureFile
    from consistent_gen.rewards.folder import FolderScores

SCHEMA = "consistent_gen.score/1"
AUTO = "auto"
BACKEND_NAMES = ("world", "photo", "model", "colors")
MAX_PROMPT_BYTES = 4 << 20


def add_command(commands: Any) -> None:
    """Add `score` to the commands of `consistent-gen`."""
    parser = commands.add_parser(
        "score",
        help="score pictures from anywhere",
        description="Say how well the pictures of a folder agree with each other, or with a "
        "reference, which backend looked at them, and what it cannot see. Files that cannot be "
        "read are told and left out. See docs/scores.md. With --many, every folder in that one is "
        "scored (of a finished story its frames) and its scores are a file of its own below --out; "
        "the same command goes on where it was stopped. See docs/scaling.md.",
    )
    parser.add_argument(
        "folder", metavar="DIR", nargs="?", help="a folder with PNG, JPEG or WebP files"
    )
    parser.add_argument("--out", metavar="DIR", help="with --many: the folder to fill")
    add_many_options(parser, "score all folders in that folder")
    parser.add_argument(
        "--reference", metavar="IMG", action="append", default=[],
        help="a picture of whom the others are to show; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--backend",
        metavar="NAME",
        default=AUTO,
        help=f"one of: {', '.join((AUTO, *BACKEND_NAMES))} (default: auto, which takes world for "
        "pictures that this program drew of the story world, else photo if it is installed)",
    )
    parser.add_argument("--model", metavar="DIR", help="a vision model's folder, such as CLIP's")
    parser.add_argument(
        "--prompts", metavar="FILE", help="JSON: file name to the words that it was to show"
    )
    parser.add_argument(
        "--judge", metavar="URL|DIR",
        help="also ask a vision-language model: an OpenAI-compatible address or a model folder",
    )  # fmt: skip
    parser.add_argument("--judge-name", metavar="NAME", help="the model's name at that address")
    parser.add_argument(
        "--judge-key-variable", metavar="NAME", help="environment variable with the key for it"
    )
    parser.add_argument(
        "--about", metavar="TEXT", default="one character",
        help="what the pictures are to have in common, for the judge (default: one character)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read, score, print."""
    if options.backend not in (AUTO, *BACKEND_NAMES):
        raise unknown_name("backend", options.backend, (AUTO, *BACKEND_NAMES), source="--backend")
    check_many_options(options, options.folder, "a folder", "DIR")
    if (options.many is None) != (options.out is None):
        raise InputError("--many and --out go together", source="--out")
    with terminable():
        if options.many is not None:
            from consistent_gen.cli.score_many import run as run_many

            return run_many(options)
        found = scores_of(options, options.folder)
    if options.json:
        print(json.dumps({"schema": SCHEMA, **found.plain()}, ensure_ascii=False, indent=2))
    else:
        print("\n".join(_lines(found, bool(options.reference))))
    return 0


def scores_of(options: argparse.Namespace, folder: str | Path) -> FolderScores:
    """The scores of one folder, as the options say.

    Raises:
        ConsistentGenError: nothing in the folder can be read, or an option is wrong.
    """
    prompts = _prompts(options.prompts)

    from consistent_gen.rewards.files import read_folder
    from consistent_gen.rewards.folder import score_folder

    files = read_folder(folder)
    references = _references(options.reference)
    if all(file.picture is None for file in files):
        told = "; ".join(f"{file.name}: {file.reason}" for file in files[:5])
        raise InputError(f"none of the {len(files)} pictures can be read ({told})", source=folder)
    own = _own_prompts(Path(folder), files)
    backend = _backend(options, files, own)
    return score_folder(
        files,
        backend,
        _rewards(backend, options),
        references=references,
        prompts={**own, **prompts} or None,
        judged=options.judge is not None,
    )


def _references(names: Sequence[str]) -> list[Picture]:
    from consistent_gen.rewards.files import read_file

    found = []
    for name in names:
        file = read_file(Path(name))
        if file.picture is None:
            raise InputError(f"the reference {name!r}: {file.reason}", source="--reference")
        found.append(file.picture)
    return found


def _prompts(name: str | None) -> dict[str, str]:
    if name is None:
        return {}
    try:
        if Path(name).stat().st_size > MAX_PROMPT_BYTES:
            raise LimitError(f"larger than {MAX_PROMPT_BYTES >> 20} MiB", source=name)
        content = json.loads(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", source=name) from None
    except (ValueError, RecursionError):
        raise InputError("not JSON; expected file names with words", source=name) from None
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise InputError('expected an object such as {"a.png": "a fox"}', source=name)
    return {str(key): value for key, value in content.items()}


def _own_prompts(folder: Path, files: Sequence[PictureFile]) -> dict[str, str]:
    """File name -> prompt, of pictures that the story world's model drew here."""
    from consistent_gen.engine.metadata import read_png

    found = {}
    for file in files:
        if file.picture is None or not file.name.lower().endswith(".png"):
            continue
        try:
            metadata = read_png(folder / file.name)[1]
        except InputError:
            continue
        model, prompt = metadata.get("model"), metadata.get("prompt")
        if (
            isinstance(model, dict)
            and model.get("name") == "storyworld"
            and isinstance(prompt, str)
        ):
            found[file.name] = prompt
    return found


def _backend(
    options: argparse.Namespace, files: Sequence[PictureFile], own: Mapping[str, str]
) -> str:
    """The named backend, or the best one for these pictures that is here."""
    from consistent_gen.rewards.folder import installed_photo_features

    if options.backend != AUTO:
        return str(options.backend)
    if options.model is not None:
        return "model"
    if all(file.name in own for file in files if file.picture is not None):
        return "world"
    return "photo" if installed_photo_features() else "colors"


def _rewards(backend: str, options: argparse.Namespace) -> list[Reward]:
    from consistent_gen.rewards.folder import rewards_of
    from consistent_gen.world.naming import read_prompt
    from consistent_gen.world.palette import hue_anchors

    found = rewards_of(backend, model=options.model, asks=read_prompt, anchors=hue_anchors())
    return [*found, _judge(options)] if options.judge is not None else found


def _judge(options: argparse.Namespace) -> Reward:
    from consistent_gen.language.endpoints import Endpoint
    from consistent_gen.rewards.pairwise import QUESTIONS, EndpointJudge, LocalJudge, YesNoReward

    question = QUESTIONS["theme"].format(options.about)
    if not options.judge.startswith(("http://", "https://")):
        return YesNoReward(LocalJudge(options.judge), [question])
    if not options.judge_name:
        raise InputError("an address needs the model's name: --judge-name", source="--judge")
    variable = options.judge_key_variable
    key = os.environ.get(variable, "") if variable else ""
    endpoint = Endpoint(url=options.judge, api_key=key)
    return YesNoReward(EndpointJudge(endpoint, options.judge_name), [question])


def _lines(found: FolderScores, anchored: bool) -> list[str]:
    count = len(found.names)
    lines = [
        f"{count} picture{'s' if count != 1 else ''} scored by the backend {found.backend!r}",
        f"  it sees {found.sees}",
        "",
    ]
    for name, value in found.values.items():
        shown = "  n/a" if value is None else f"{value:.3f}"
        told = found.reasons.get(name)
        lines.append(f"{name:<22} {shown}" + (f"   {told}" if told else ""))
    lines += ["", f"agreement with the {'reference' if anchored else 'other pictures'}:"]
    ranked = sorted(found.members.items(), key=lambda pair: (pair[1] is None, pair[1]))
    for name, value in ranked:
        lines.append(f"  {'  n/a' if value is None else f'{value:.3f}'}  {_printable(name)}")
    if found.left_out:
        lines += ["", "left out:"]
        lines += [f"  {_printable(name)}: {why}" for name, why in found.left_out.items()]
    lines += ["", "what would tell more:", *(f"  {text}" for text in found.more)]
    return lines


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)
