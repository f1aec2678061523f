"""PRODIGy (arXiv 2311.05195): film dialogues with gender, type and biography of who speaks.

The abstract and the authors' readme disagree on which of the two splits keeps characters apart. So
the files decide: the overlap of characters between training and test is counted, and the splits are
called `unseen` and `seen` by it. What learns from a persona must report the unseen one.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError
from consistent_gen.persona.measurement import Measurement
from consistent_gen.persona.persona import Persona, Statement
from consistent_gen.persona.transcript import Transcript, Utterance

SIDES = ("train_dialogues", "valid_dialogues", "test_dialogues")
PARTITIONS = ("inter_character_partitions", "intra_character_partitions")


_BETWEEN = "+++$+++"  # columns of the Cornell Movie-Dialogs Corpus


@dataclass(frozen=True)
class SpokenBy:
    """A dialogue and those of its speakers who have a profile, by id."""

    transcript: Transcript
    characters: Mapping[str, Persona]


@dataclass(frozen=True)
class Split:
    """Dialogue ids of one partition. overlap: share of the test's characters that training has."""

    file: str
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]
    overlap: float

    @property
    def name(self) -> str:
        """`unseen` where no character of the test is trained on, else `seen`."""
        return "unseen" if self.overlap == 0.0 else "seen"


def read_characters(path: str | Path) -> dict[str, Persona]:
    """Everybody of `characters.json` as a persona: their biography's sentences as statements.

    Raises:
        InputError: another shape, by character.
    """
    told = _json(path)
    found = {}
    for key, entry in told.items():
        try:
            lines = [str(line).strip() for line in entry["biography"]]
            fields = {name: entry[name] for name in ("gender", "mbti", "movie_name")}
            found[key] = Persona(
                key, str(entry["character_name"]).title(),
                statements=tuple(Statement(line, "biography") for line in lines if line),
                fields=fields, provenance={"format": "PRODIGy"},
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: character {key!r} has no {error}") from None
    return found


def read_partition(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Dialogue ids by side. Raises ``InputError`` for sides that are missing or overlap."""
    told = _json(path)
    missing = [side for side in SIDES if not isinstance(told.get(side), list)]
    if missing:
        raise InputError(f"{path} has no lists {', '.join(missing)}")
    sides = {side: tuple(str(i) for i in told[side]) for side in SIDES}
    total = sum(len(ids) for ids in sides.values())
    if len(set().union(*sides.values())) != total:
        raise InputError(f"{path}: a dialogue stands on two sides")
    return sides


def read_speakers(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Character ids by dialogue: of the published data set (a mapping of dialogues, or a list with
    ids), or of Cornell's `movie_conversations.txt` (`c` and a line's number, from 0).

    Raises:
        InputError: none of these shapes.
    """
    source = Path(path)
    if source.suffix == ".txt":
        return {f"c{n}": (row[0], row[1]) for n, row in enumerate(_rows(source, 4))}
    told = _json(path)
    found = {str(key): tuple(sorted(_characters(entry))) for key, entry in told.items()}
    if not all(found.values()):
        raise InputError(f"{path}: dialogues without characters")
    return found


def _characters(entry: Any) -> set[str]:
    """Everything inside that looks like a character's id ("u12")."""
    if isinstance(entry, Mapping):
        return set().union(*(_characters(v) for v in [*entry.values(), *entry])) if entry else set()
    if isinstance(entry, list):
        return set().union(*(_characters(v) for v in entry)) if entry else set()
    return {entry} if isinstance(entry, str) and entry[:1] == "u" and entry[1:].isdigit() else set()


def splits(
    partitions: Mapping[str, Mapping[str, Sequence[str]]], speakers: Mapping[str, Sequence[str]]
) -> dict[str, Split]:
    """The partitions under the names that their measured overlap gives them.

    speakers: character ids by dialogue; only those who have a profile should be in it.

    Raises:
        InputError: a dialogue is unknown, or no partition keeps characters apart.
    """
    found: dict[str, Split] = {}
    for file, sides in partitions.items():
        train, valid, test = (tuple(sides[side]) for side in SIDES)
        unknown = [i for i in (*train, *valid, *test) if i not in speakers]
        if unknown:
            raise InputError(f"{file}: nobody is known to speak in {len(unknown)} dialogues")
        trained, tested = ({c for i in part for c in speakers[i]} for part in (train, test))
        overlap = len(trained & tested) / max(len(tested), 1)
        split = Split(file, train, valid, test, overlap)
        if split.name in found:
            if split.name == "unseen":
                raise InputError(f"both {found['unseen'].file} and {file} keep characters apart")
            continue
        found[split.name] = split
    if "unseen" not in found:
        told = ", ".join(f"{s.file} shares {s.overlap:.0%}" for s in found.values())
        raise InputError(f"no partition keeps the test's characters out of training ({told})")
    return found


def _json(path: str | Path) -> dict[str, Any]:
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(told, dict):
        raise InputError(f"{path} holds a {type(told).__name__}; expected a mapping")
    return told


def read_dialogues(
    conversations: str | Path, lines: str | Path, characters: Mapping[str, Persona]
) -> dict[str, SpokenBy]:
    """What was said, by dialogue id, out of the two files of the Cornell Movie-Dialogs Corpus that
    PRODIGy's ids point into: `movie_conversations.txt` and `movie_lines.txt`.

    characters: those who have a profile (`read_characters`). Dialogues in which none of them speaks
    are left out, as are lines without a word; speakers are called by their ids, since films share
    names.

    Raises:
        InputError: other files, by line; a dialogue whose lines are not there.
    """
    said: dict[str, tuple[str, str]] = {}
    for number, row in enumerate(_rows(lines, 5), 1):
        if not row[0].startswith("L") or not row[1].startswith("u"):
            raise InputError(f"{lines}, line {number}: expected the ids of a line and a character")
        said[row[0]] = row[1], row[4].strip()
    found: dict[str, SpokenBy] = {}
    for number, row in enumerate(_rows(conversations, 4)):
        known = {who: characters[who] for who in row[:2] if who in characters}
        if not known:
            continue
        ids = re.findall(r"L\d+", row[3])
        missing = [i for i in ids if i not in said]
        if missing or not ids:
            listed = ", ".join(missing[:3]) or "its lines"
            raise InputError(f"{conversations}, line {number + 1}: {listed} not in {lines}")
        turns = tuple(Utterance(*said[i]) for i in ids if said[i][1])
        speakers = tuple(dict.fromkeys([*row[:2], *(turn.speaker for turn in turns)]))
        found[f"c{number}"] = SpokenBy(Transcript(speakers, turns), known)
    return found


def _rows(path: str | Path, columns: int) -> Iterator[list[str]]:
    """Rows of a file of the corpus; it is no UTF-8."""
    with Path(path).open(encoding="latin-1", newline="\n") as stream:
        for number, line in enumerate(stream, 1):
            row = [part.strip() for part in line.split(_BETWEEN)]
            if len(row) != columns:
                raise InputError(
                    f"{path}, line {number} has {len(row)} columns between '+++$+++'; expected "
                    f"{columns}, as the Cornell Movie-Dialogs Corpus has"
                )
            yield row


# The truth that the split is held to -------------------------------------------------------------


def recover(seed: int, parameter: float) -> Measurement:
    """The planted share of the test's characters who speak in training, too, as `splits` counts it;
    at 0 the partition must be called unseen. Counted, so there is no interval.
    """
    rng = random.Random(f"prodigy {seed}")
    everybody = [f"u{n}" for n in range(120)]
    rng.shuffle(everybody)
    trained, tested, apart = everybody[:40], everybody[40:80], everybody[80:]
    shared = tested[: round(parameter * len(tested))]
    cast = [(a, rng.choice(trained)) for a in [*trained, *shared]]
    cast += [(a, a) for a in tested] + [(a, a) for a in apart]
    ids = [f"d{n}" for n in range(len(cast))]
    end = len(trained) + len(shared)
    learnt, asked, other = ids[:end], ids[end : end + len(tested)], ids[end + len(tested) :]
    partitions = {"planted": dict(zip(SIDES, (learnt, [], asked), strict=True))}
    if shared:
        partitions["apart"] = dict(zip(SIDES, (learnt, [], other), strict=True))
    found = splits(partitions, dict(zip(ids, cast, strict=True)))
    split = next(s for s in found.values() if s.file == "planted")
    assert (split.name == "unseen") == (not shared)
    return Measurement("overlap", split.overlap, n=len(tested), direction="lower")
