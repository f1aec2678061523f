"""Three simulated days with the assistant, recorded: every line said, every change of the memory.

    python -m benchmarks.persona_days --page docs/memory.md --picture docs/images/three_days.png

Draws a dog of the story world as the user's photograph, hands ``examples/three_days.txt`` to
``consistent-gen chat`` with the shipped story model, and writes the transcript between two markers
of the page and the pictures side by side into one file. Nothing is left out of the transcript.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from consistent_gen.checkpoints import atomic_file
from consistent_gen.errors import InputError
from consistent_gen.world.scene import render
from consistent_gen.world.spec import FrameSpec, SubjectSpec, sample_frame, sample_identity

LINES = Path(__file__).resolve().parent.parent / "examples" / "three_days.txt"
BEGIN = "<!-- three days: made by python -m benchmarks.persona_days -->"
END = "<!-- three days: end -->"


def photograph(seed: int) -> np.ndarray:
    """A small brown dog in a meadow, uint8 h w 3; the same seed gives the same dog."""
    rng = random.Random(seed)
    identity = replace(
        sample_identity(rng), kind="dog", coat="brown", height=0.2, accessory="scarf"
    )
    subject = SubjectSpec(identity=identity, action="sitting", expression="happy", x=0.5, facing=1)
    frame = sample_frame(rng, identities=(identity,))
    plain: FrameSpec = replace(
        frame, place="meadow", weather="sunny", style="flat", camera="close", prop="none",
        subjects=(subject,),
    )  # fmt: skip
    return np.asarray(render(plain).rgb)


def record(folder: Path, options: Sequence[str], seed: int) -> tuple[str, list[Path]]:
    """The transcript of the three days and the pictures in the order in which they appeared."""
    Image.fromarray(photograph(seed)).save(folder / "bo.png")
    command = [sys.executable, "-m", "consistent_gen.cli", "chat", "--memory", "memory"]
    done = subprocess.run(
        [*command, "--echo", "--changes", *options],
        cwd=folder,
        input=LINES.read_text(encoding="utf-8"),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(LINES.parent.parent)},
    )
    if done.returncode:
        raise InputError("the chat did not run to its end; see what it printed")
    lines = done.stdout.rstrip().splitlines()
    drawn = [folder / line.strip() for line in lines if line.strip().startswith("pictures/")]
    return "\n".join(lines), [folder / "bo.png", *drawn]


def side_by_side(pictures: Sequence[Path], side: int = 192) -> Image.Image:
    """Pictures in a row, each ``side`` pixels wide, a white gap between."""
    row = Image.new("RGB", (len(pictures) * (side + 8) - 8, side), "white")
    for number, path in enumerate(pictures):
        with Image.open(path) as opened:
            row.paste(opened.convert("RGB").resize((side, side)), (number * (side + 8), 0))
    return row


def with_transcript(page: str, transcript: str) -> str:
    """The page with the part between its markers replaced. Raises ``InputError`` without them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"the page has no part between {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n```text\n{transcript}\n```\n{END}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Record the days into a page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.persona_days", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--page", required=True, help="file with the two markers")
    parser.add_argument("--picture", required=True, help="file for the pictures, .png")
    parser.add_argument("--model", default="", help="folder of a story model (default: shipped)")
    parser.add_argument("--method", default=None, help="consistency method of the drawings")
    parser.add_argument("--embedder", default="ngrams", help="as of chat (default: ngrams)")
    parser.add_argument("--seed", type=int, default=4, help="of the dog")
    options = parser.parse_args(argv)
    model = [str(Path(options.model).absolute())] if options.model else []
    chat = ["--embedder", options.embedder, "--draw-with", *model]
    chat += ["--draw-method", options.method] if options.method else []
    with tempfile.TemporaryDirectory() as folder:
        transcript, pictures = record(Path(folder), chat, options.seed)
        page = Path(options.page)
        text = with_transcript(page.read_text(encoding="utf-8"), transcript)
        with atomic_file(Path(options.picture)) as temporary:
            side_by_side(pictures).save(temporary)
        with atomic_file(page) as temporary:
            Path(temporary).write_text(text, encoding="utf-8")
    print(transcript)
    return 0


if __name__ == "__main__":
    sys.exit(main())
