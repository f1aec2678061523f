"""Pictures as memories: taught, recognised, asked about, corrected, drawn and forgotten.

    python -m benchmarks.memory_pictures [--out FILE.json] [--show]

Twenty cases with somebody of the story world, five with photographs that scikit-image ships (those
of its own that are in the public domain or under CC0: astronaut, cat, coffee, rocket, deep field).
Each case is a memory of its own in which two others are taught as well, all by chat: "This is my
friend Quillon", a picture, "yes".

- taught: there is a concept with a photo and a crop.
- recognised: another picture (another scene, place and action; of a photograph a mirrored, cut and
  brightened copy) is taken for the right one. told: "Who is this?" says so. stranger refused:
  nobody is recognised in a stranger's picture.
- asked: what was said of somebody is found by name. corrected: and what was said of it later.
- worn: "What does Quillon wear in the last picture?" names what is worn. The reader knows drawn
  characters alone: of a photograph it must say that it cannot tell.
- handed over: a picture of another is taught as Quillon; "No, that's Ysolde, not Quillon." moves it
  there, and both are recognised as before. named: after "Who is this?", "No, that's Zebedee." and
  "yes", the stranger is recognised. kind: "Quillon is not a friend, he is a cousin." is kept.
- drawn: a drawer that draws the right one passes the check, one that draws a stranger does not.
- forgotten: no file has the name or a byte of its pictures, and the others are still recognised.

Measured is what `chat` has where the shipped weights are: the default listener, and the story-world
reader to compare pictures with. It knows drawn characters alone, so both kinds are measured again
with what is left without it: colours and where they are (`ColourLayout`, which sees no clothes).
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from consistent_gen.checkpoints import weights_root, write_json
from consistent_gen.encoders.recognition import StoryWorldReader
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.store import Store
from consistent_gen.memory.recall.pictures import (
    ColourLayout,
    ImageEmbedder,
    Picture,
    crop,
    grow,
    png_bytes,
)
from consistent_gen.memory.talk.assistant import Assistant, DrawJob
from consistent_gen.memory.talk.pictured import CANNOT_TELL
from consistent_gen.world.scene import render
from consistent_gen.world.spec import Identity, sample_frame, sample_identity

NAMES = ("Quillon", "Ysolde", "Barnaby")
STRANGER = "Zebedee"
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field")
STEPS = (
    "taught", "recognised", "told", "stranger refused", "asked", "corrected", "worn", "handed over",
    "named", "kind", "drawn", "wrong drawing seen", "nothing left", "others kept",
)  # fmt: skip


@dataclass(frozen=True)
class PictureCase:
    """Pictures of the one who is taught, of two others and of a stranger; each gives picture n.

    wears: a word for what is worn, empty where no reader can tell.
    """

    name: str
    shown: Callable[[int], Picture]
    others: tuple[Callable[[int], Picture], ...]
    stranger: Callable[[int], Picture]
    wears: str = ""


def world_cases(count: int, seed: int = 0) -> Iterator[PictureCase]:
    """Cases of the story world, four new characters each."""
    for number in range(count):
        one, *others, stranger = (_character(seed + 10 * number + n) for n in range(4))
        identity = _identity(seed + 10 * number)
        wears = identity.top if identity.accessory == "none" else identity.accessory
        yield PictureCase(f"world {number}", one, tuple(others), stranger, wears)


def _identity(seed: int) -> Identity:
    return sample_identity(random.Random(1_000 + seed))


def _character(seed: int) -> Callable[[int], Picture]:
    identity = _identity(seed)

    def shot(number: int) -> Picture:
        frame = sample_frame(random.Random(100 * seed + number), identities=(identity,))
        return render(replace(frame, style="flat")).rgb

    return shot


def photograph_cases() -> Iterator[PictureCase]:
    """Cases of photographs; the next two are the others, the one after them the stranger."""
    import skimage.data

    found = [_photograph(getattr(skimage.data, name)()) for name in PHOTOGRAPHS]
    for number, name in enumerate(PHOTOGRAPHS):
        one, *others, stranger = (found[(number + n) % len(found)] for n in range(4))
        yield PictureCase(f"photograph {name}", one, tuple(others), stranger)


def _photograph(pixels: Picture) -> Callable[[int], Picture]:
    def shot(number: int) -> Picture:
        if not number:
            return np.ascontiguousarray(pixels[..., :3])
        rng = np.random.default_rng(number)
        height, width = pixels.shape[:2]
        top, left = rng.integers(0, height // 12), rng.integers(0, width // 12)
        part = pixels[top : height - height // 12, left : width - width // 12, :3][:, ::-1]
        return np.asarray(np.clip(part * rng.uniform(0.9, 1.1), 0, 255), np.uint8)

    return shot


def judged(case: PictureCase, folder: Path, sees: ImageEmbedder) -> dict[str, bool]:
    """Which of the steps are right in one case."""
    name, other = NAMES[:2]
    drawn: list[Picture] = []

    def drawer(job: DrawJob) -> Picture:
        return drawn[0]

    found: dict[str, bool] = {}
    reader = sees.worn if isinstance(sees, StoryWorldReader) else None
    with open_memory(folder, "pictures") as store:
        ana = Assistant(store, image_embedder=sees, reader=reader, drawer=drawer, draw_budget=1)
        for who, shown in zip(NAMES, (case.shown, *case.others), strict=True):
            for number in (0, 5):
                _teach(ana, who, shown(number))
        concept = next((c for c in ana.book.all() if c.name == name), None)
        found["taught"] = concept is not None and len(ana.book.crops(concept.id)) > 0
        found["recognised"] = _seen(ana, case.shown(1)) == name
        told = ana.say("Who is this?", picture=png_bytes(case.shown(1))).text
        found["told"] = f"looks like {name}" in told
        found["stranger refused"] = _seen(ana, case.stranger(0)) == ""
        ana.say(f"{name} is afraid of thunder.")
        found["asked"] = "thunder" in ana.say(f"What is {name} afraid of?").text
        ana.say(f"{name} is afraid of balloons, not thunder.")
        found["corrected"] = "balloons" in ana.say(f"What is {name} afraid of?").text
        worn = ana.say(f"What does {name} wear in the last picture?").text
        named = re.search(rf"\b{case.wears}\b", worn) is not None
        found["worn"] = named if case.wears else worn == CANNOT_TELL
        found |= _put_right(ana, case, name, other)
        for step, shown, right in (
            ("drawn", case.shown, True), ("wrong drawing seen", case.stranger, False),
        ):  # fmt: skip
            drawn[:] = [shown(2)]
            check = ana.say(f"Draw {name} in the park").drawn
            found[step] = check is not None and check.passed == right
        media = [m.media[0] for m in store.list("media", subject=concept.id if concept else "")]
        ana.say(f"forget {name}")
        ana.say("yes")
        found["nothing left"] = not _left(folder, name, media)
        found["others kept"] = _others_kept(ana, store)
    return found


def _teach(ana: Assistant, name: str, picture: Picture) -> None:
    ana.say(f"This is my friend {name}.", picture=png_bytes(picture))
    ana.say("yes")


def _put_right(ana: Assistant, case: PictureCase, name: str, other: str) -> dict[str, bool]:
    """The three corrections: whose picture it is, who was shown, what somebody is."""
    before = _pictures(ana)
    _teach(ana, name, case.others[0](7))
    ana.say(f"No, that's {other}, not {name}.")
    moved = before | {other: before[other] + 1}
    known = _seen(ana, case.shown(1)) == name and _seen(ana, case.others[0](1)) == other
    found = {"handed over": _pictures(ana) == moved and known}
    ana.say("Who is this?", picture=png_bytes(case.stranger(0)))
    asked = ana.say(f"No, that's {STRANGER}.")
    ana.say("yes")
    found["named"] = asked.asks and _seen(ana, case.stranger(1)) == STRANGER
    ana.say(f"{name} is not a friend, he is a cousin.")
    found["kind"] = {c.name: c.class_name for c in ana.book.all()}[name] == "cousin"
    return found


def _pictures(ana: Assistant) -> dict[str, int]:
    """How many crops each has."""
    return {c.name: len(ana.book.crops(c.id, outliers=True)) for c in ana.book.all()}


def _seen(ana: Assistant, picture: Picture) -> str:
    """Who is recognised in a picture or in the box that is proposed for it; nothing for nobody."""
    whole = ana.book.recognise(picture)
    boxed = ana.book.recognise(crop(picture, grow(ana.book.boxes(picture), picture, 0.03)))
    best = max((*whole, *boxed), key=lambda match: match[1], default=None)
    return "" if best is None else best[0].name


def _left(folder: Path, name: str, media: Sequence[str]) -> list[str]:
    left = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if name.lower().encode() in data.lower() or any(m in path.name for m in media):
            left.append(path.name)
    return left


def _others_kept(ana: Assistant, store: Store) -> bool:
    kept = _pictures(ana)
    return set(kept) == {*NAMES[1:], STRANGER} and all(kept.values()) and store.verify().ok


def measured(
    cases: Iterator[PictureCase], sees: ImageEmbedder, *, show: bool = False
) -> dict[str, int]:
    """How many cases have each step right."""
    counts: Counter[str] = Counter()
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            found = judged(case, Path(folder), sees)
        counts["cases"] += 1
        counts["all steps"] += all(found.values())
        counts.update(step for step in STEPS if found[step])
        missed = [step for step in STEPS if not found[step]]
        if show and missed:
            print(f"{case.name}: {', '.join(missed)}", flush=True)
    return {name: counts[name] for name in ("cases", *STEPS, "all steps")}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both kinds of pictures and print the counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=20, help="of the story world")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", action="store_true", help="print every miss")
    options = parser.parse_args(argv)
    embedders: dict[str, ImageEmbedder] = {
        "": StoryWorldReader(weights_root() / "reader"), ", by colours": ColourLayout(),
    }  # fmt: skip
    result = {}
    for name, sees in embedders.items():
        for kind, cases in (
            ("story world", world_cases(options.cases)), ("photographs", photograph_cases()),
        ):  # fmt: skip
            result[kind + name] = measured(cases, sees, show=options.show)
    for kind, counts in result.items():
        print(f"{kind}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    if options.out is not None:
        write_json(options.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
