"""Pictures as memories: taught, recognised, asked about, corrected, drawn and forgotten.

    python -m benchmarks.memory_pictures [--out FILE.json] [--show]

Twenty cases with somebody of the story world, five with photographs that scikit-image ships (those
of its own that are in the public domain or under CC0: astronaut, cat, coffee, rocket, deep field).
Each case is a memory of its own in which two others are taught as well, all by chat: "This is my
friend Quillon", a picture, "yes".

- taught: there is a concept with a photo and a crop.
- recognised: another picture (another scene, place and action; of a photograph a mirrored, cut and
  brightened copy) is taken for the right one; nobody is recognised in a stranger's picture.
- asked: what was said of somebody is found by name. corrected: and what was said of it later.
- drawn: a drawer that draws the right one passes the check, one that draws a stranger does not.
- forgotten: no file has the name or a byte of its pictures, and the others are still recognised.

The default listener of a bare installation (rules) and the default picture embedder (colours and
where they are) are measured: no network looks at a picture.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from consistent_gen.checkpoints import write_json
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.store import Store
from consistent_gen.memory.listening.rule_listener import RuleListener
from consistent_gen.memory.recall.pictures import Picture, crop, grow, png_bytes
from consistent_gen.memory.talk.assistant import Assistant, DrawJob
from consistent_gen.world.scene import render
from consistent_gen.world.spec import sample_frame, sample_identity

NAMES = ("Quillon", "Ysolde", "Barnaby")
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field")
STEPS = (
    "taught", "recognised", "stranger refused", "asked", "corrected", "drawn", "wrong drawing seen",
    "nothing left", "others kept",
)  # fmt: skip


@dataclass(frozen=True)
class PictureCase:
    """Pictures of the one who is taught, of two others and of a stranger; each gives picture n."""

    name: str
    shown: Callable[[int], Picture]
    others: tuple[Callable[[int], Picture], ...]
    stranger: Callable[[int], Picture]


def world_cases(count: int, seed: int = 0) -> Iterator[PictureCase]:
    """Cases of the story world, four new characters each."""
    for number in range(count):
        one, *others, stranger = (_character(seed + 10 * number + n) for n in range(4))
        yield PictureCase(f"world {number}", one, tuple(others), stranger)


def _character(seed: int) -> Callable[[int], Picture]:
    identity = sample_identity(random.Random(1_000 + seed))

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
        return np.clip(part * rng.uniform(0.9, 1.1), 0, 255).astype(np.uint8)

    return shot


def judged(case: PictureCase, folder: Path) -> dict[str, bool]:
    """Which of the steps are right in one case."""
    name = NAMES[0]
    drawn: list[Picture] = []

    def drawer(job: DrawJob) -> Picture:
        return drawn[0]

    found: dict[str, bool] = {}
    with open_memory(folder, "pictures") as store:
        ana = Assistant(store, listener=RuleListener(), drawer=drawer, draw_budget=1)
        for who, shown in zip(NAMES, (case.shown, *case.others), strict=True):
            for number in (0, 5):
                ana.say(f"This is my friend {who}.", picture=png_bytes(shown(number)))
                ana.say("yes")
        concept = next((c for c in ana.book.all() if c.name == name), None)
        found["taught"] = concept is not None and len(ana.book.crops(concept.id)) > 0
        found["recognised"] = _seen(ana, case.shown(1)) == name
        found["stranger refused"] = _seen(ana, case.stranger(0)) == ""
        ana.say(f"{name} is afraid of thunder.")
        found["asked"] = "thunder" in ana.say(f"What is {name} afraid of?").text
        ana.say(f"{name} is afraid of balloons, not thunder.")
        found["corrected"] = "balloons" in ana.say(f"What is {name} afraid of?").text
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
        found["others kept"] = _others_kept(ana, store, case)
    return found


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


def _others_kept(ana: Assistant, store: Store, case: PictureCase) -> bool:
    names = {concept.name for concept in ana.book.all()}
    crops = all(ana.book.crops(c.id) for c in ana.book.all())
    return names == set(NAMES[1:]) and crops and store.verify().ok


def measured(cases: Iterator[PictureCase], *, show: bool = False) -> dict[str, int]:
    """How many cases have each step right."""
    counts: Counter[str] = Counter()
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            found = judged(case, Path(folder))
        counts["cases"] += 1
        counts["all steps"] += all(found.values())
        counts.update(step for step in STEPS if found[step])
        missed = [step for step in STEPS if not found[step]]
        if show and missed:
            print(f"{case.name}: {', '.join(missed)}")
    return {name: counts[name] for name in ("cases", *STEPS, "all steps")}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both kinds of pictures and print the counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=20, help="of the story world")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", action="store_true", help="print every miss")
    options = parser.parse_args(argv)
    result = {
        "story world": measured(world_cases(options.cases), show=options.show),
        "photographs": measured(photograph_cases(), show=options.show),
    }
    for kind, counts in result.items():
        print(f"{kind}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    if options.out is not None:
        write_json(options.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
