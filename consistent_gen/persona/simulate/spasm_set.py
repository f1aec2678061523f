"""The dialogues that SPASM's authors released (arXiv 2604.09212; CC BY 4.0), read from their file.

`data/spasm_deepseek_v4_flash_500x10.jsonl`, one dialogue a line: a client with a persona talks to
the model under test, which has none. One model speaks both sides and all dialogues end of
themselves, so the file can show lengths and whether what a client says finds its persona; nothing
about pairings of models. The data is its authors': nothing of it is kept here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError
from consistent_gen.persona.cards.prose import sentences
from consistent_gen.persona.persona import Persona, Statement
from consistent_gen.persona.simulate.spasm import SpokenRole
from consistent_gen.persona.transcript import Transcript, Utterance

COLUMNS = ("persona_id", "conversation_id", "persona_fields", "persona_description", "turns",
           "termination_reason")  # fmt: skip
TURN = ("speaker", "turn_index", "text")
CLIENT, TESTED = "client", "tested"
MAX_LINE = 2_000_000  # characters


def read_released(path: str | Path, rows: int | None = None) -> list[SpokenRole]:
    """The client's role of each dialogue. rows: of the first so many lines only.

    A persona is told by its description, sentence by sentence; its id is the file's `persona_id`,
    and its name is how the transcript calls it.

    Raises:
        InputError: a line that is no dialogue of this form, with all that it lacks.
    """
    found: list[SpokenRole] = []
    people: dict[str, Persona] = {}
    with Path(path).open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if rows is not None and len(found) >= rows:
                break
            if not line.strip():
                continue
            try:
                role = _role(_loaded(line))
            except (InputError, UnicodeDecodeError) as error:
                raise InputError(f"{path}, line {number}: {error}") from None
            persona = people.setdefault(role.persona.id, role.persona)
            if persona != role.persona:
                raise InputError(f"{path}, line {number}: persona {persona.id} is another one here")
            found.append(role)
    if not found:
        raise InputError(f"{path} holds no dialogue")
    return found


def personas(spoken: list[SpokenRole]) -> list[Persona]:
    """Everybody who speaks, once, in the order of the file."""
    return list({role.persona.id: role.persona for role in spoken}.values())


def _loaded(line: str) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise InputError(f"{len(line):,} characters; expected at most {MAX_LINE:,}")
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError("not JSON") from None
    if not isinstance(told, dict):
        raise InputError(f"a {type(told).__name__}; expected a mapping with {', '.join(COLUMNS)}")
    missing = [name for name in COLUMNS if name not in told]
    if missing:
        there = ", ".join(sorted(map(str, told))[:8])
        raise InputError(f"{', '.join(missing)} missing; it has {there or 'nothing'}")
    return told


def _role(told: Mapping[str, Any]) -> SpokenRole:
    description, fields = told["persona_description"], told["persona_fields"]
    if not isinstance(description, str) or not isinstance(fields, dict):
        raise InputError("persona_description is a text and persona_fields a mapping")
    statements = tuple(Statement(text, "spasm") for text in sentences(description))
    persona = Persona(
        f"spasm-{told['persona_id']}", CLIENT, statements=statements, fields=fields,
        provenance={"format": "SPASM dialogues", "licence": "CC BY 4.0"},
    )  # fmt: skip
    turns = told["turns"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise InputError("turns is a list of mappings")
    lacking = sorted({name for turn in turns for name in TURN if name not in turn})
    if lacking:
        raise InputError(f"turns without {', '.join(lacking)}")
    if [turn["turn_index"] for turn in turns] != list(range(len(turns))):
        raise InputError("turn_index does not count turns from 0")
    said = tuple(Utterance(str(turn["speaker"]), str(turn["text"])) for turn in turns)
    return SpokenRole(Transcript((CLIENT, TESTED), said, str(told["termination_reason"])), persona)
