"""A population on disk: written slot by slot, killed at any moment, resumed to the same bytes.

The folder holds `meta.json` (what was asked), `schedule.json` (the counts of every quota cell),
`personas_0001.jsonl` and so on (`CHUNK` personas each, one JSON object a line), `failures.jsonl`
(slots that stayed empty, with the reason) and, when all is done, `report.json`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from consistent_gen.checkpoints import write_json
from consistent_gen.errors import InputError, OutputError
from consistent_gen.persona.persona import Persona
from consistent_gen.persona.population.quotas import Quotas, Slot
from consistent_gen.persona.population.revising import Failure, ProposeValidateRevise
from consistent_gen.persona.rules import values_of

CHUNK = 50
FAILURES = "failures.jsonl"


class PopulationFolder:
    """Where a population is written. `meta` must be the one that the folder was begun with."""

    def __init__(self, folder: str | Path, meta: Mapping[str, Any], *, chunk: int = CHUNK) -> None:
        """Raises ``InputError`` where another population, or something else, lies there."""
        self.folder, self.chunk = Path(folder), chunk
        told = {**meta, "chunk": chunk}
        begun = self.folder / "meta.json"
        if begun.exists():
            try:
                same = json.loads(begun.read_text(encoding="utf-8")) == json.loads(json.dumps(told))
            except (OSError, ValueError):
                same = False
            if not same:
                raise InputError(
                    f"{folder} holds a population that was begun with another spec, seed or count; "
                    "choose another folder, or the same spec to go on",
                    source="--out",
                )
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(f"{folder} is not empty; choose a new folder", source="--out")
        else:
            write_json(begun, told)

    def resume(self) -> tuple[dict[str, Persona], dict[str, list[str]]]:
        """What is there already: personas and failures by id. A line that was cut off in the middle
        of writing is taken away.

        Raises:
            InputError: a line that nobody here wrote.
        """
        done: dict[str, Persona] = {}
        for file in sorted(self.folder.glob("personas_*.jsonl")):
            for line in _whole_lines(file):
                persona = Persona.from_json(line, source=file.name)
                done[persona.id] = persona
        failed = {}
        if (self.folder / FAILURES).exists():
            for line in _whole_lines(self.folder / FAILURES):
                failed[str(line["id"])] = list(line["reasons"])
        return done, failed

    def put(self, slot: Slot, result: Persona | Failure) -> None:
        """One line at the end of the file that the slot belongs to, on disk when this returns."""
        if isinstance(result, Failure):
            file, told = self.folder / FAILURES, {"id": slot.id, "reasons": list(result.reasons)}
        else:
            number = (slot.number - 1) // self.chunk + 1
            file, told = self.folder / f"personas_{number:04d}.jsonl", result.as_json()
        line = json.dumps(told, ensure_ascii=False, sort_keys=True, allow_nan=False)
        try:
            with file.open("ab") as out:
                out.write(line.encode("utf-8") + b"\n")
                if slot.number % self.chunk == 0:
                    out.flush()
                    os.fsync(out.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {file}: {error.strerror}") from None


def _whole_lines(file: Path) -> Iterator[Any]:
    data = file.read_bytes()
    end = data.rfind(b"\n") + 1
    if end != len(data):
        with file.open("r+b") as cut:
            cut.truncate(end)
    for number, line in enumerate(data[:end].splitlines(), 1):
        try:
            yield json.loads(line)
        except ValueError:
            raise InputError("is no line of a population", source=file, line=number) from None


def make_population(
    loop: ProposeValidateRevise,
    slots: Sequence[Slot],
    quotas: Sequence[Quotas],
    out: PopulationFolder,
    *,
    seed: int,
    tell: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Fill every slot that is empty, in order, and say how the whole population came out.

    Slots that failed in an earlier run keep their reasons: the same seed would fail again. The gate
    is rebuilt from what is on disk.
    """
    counts = {
        " x ".join(q.fields): {_cell(c): n for c, n in q.counts(len(slots)).items()} for q in quotas
    }
    write_json(out.folder / "schedule.json", {"slots": len(slots), "quotas": counts})
    done, failed = out.resume()
    for slot in slots:
        if slot.id in done:
            loop.gate.admit(loop.hash(loop.text(values_of(done[slot.id]))))
    for slot in slots:
        if slot.id in done or slot.id in failed:
            continue
        result = loop.fill(slot, seed)
        out.put(slot, result)
        if isinstance(result, Failure):
            failed[slot.id] = list(result.reasons)
        else:
            done[slot.id] = result
        tell(len(done))
    report = account(list(done.values()), quotas, slots)
    report |= {"failed": len(failed)}
    write_json(out.folder / "report.json", report)
    return report


def _cell(cell: tuple[Any, ...]) -> str:
    return " / ".join(map(str, cell))


def account(
    personas: Sequence[Persona], quotas: Sequence[Quotas], slots: Sequence[Slot]
) -> dict[str, Any]:
    """How many personas there are, and every quota cell that is short or over."""
    values = [values_of(persona) for persona in personas]
    off = []
    for quota in quotas:
        there = Counter(quota.cell(v) for v in values)
        for cell, wanted in quota.counts(len(slots)).items():
            if there[cell] != wanted:
                off.append({"cell": _cell(cell), "wanted": wanted, "there": there[cell]})
    return {"personas": len(personas), "slots": len(slots), "cells_off": off}
