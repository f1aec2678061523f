"""Talks with personas: kept from nobody's point of view, with the drift of every turn.

Each turn is a `Conversation` of the package: the model gets the persona's view of the talk, the
card's own instructions stay out, and what the user tells goes into a memory of that card.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from consistent_gen.client.persona_lab import TalkOut, TalkTurn
from consistent_gen.errors import LimitError
from consistent_gen.language.embedders import TextEmbedder
from consistent_gen.language.models import LanguageModel
from consistent_gen.memory import open_memory
from consistent_gen.persona.picturing import scene_asked
from consistent_gen.persona.simulate.spasm import distances
from consistent_gen.persona.talk import Conversation
from consistent_gen.persona.transcript import Transcript, Utterance
from services.persona_lab.cards import CardShelf, KeptCard

MAX_TURNS = 400
MEMORY, TALK = "memory", "talk.json"
_USER = "me"


# A scene ("in the forest") and the story in which the talk drew before, None for none, to the
# story and the number of the frame that shows the persona there.
Drawer: TypeAlias = Callable[[str, str | None], tuple[str, int]]


def say(
    shelf: CardShelf,
    kept: KeptCard,
    text: str,
    model: LanguageModel,
    embedder: TextEmbedder,
    draw: Drawer | None = None,
) -> TalkOut:
    """One line of the user's and the persona's reply, kept with the talk. A line that asks for a
    picture of the persona is answered by one, of which ``draw`` says the place.

    Raises:
        Conflict: the card has errors. LimitError: the talk has `MAX_TURNS`. Otherwise as
            ``Conversation.say`` and ``draw``; the talk is then as it was.
    """
    persona, past = kept.sound(), turns_of(kept.folder)
    if len(past) >= MAX_TURNS:
        raise LimitError(f"this talk has {MAX_TURNS} turns; begin a new one")
    with contextlib.closing(open_memory(kept.folder / MEMORY, _USER)) as memory:
        talk = Conversation(persona, model, store=memory)
        names = talk.transcript.speakers  # the persona's and the user's
        if past:
            told = tuple(Utterance(names[0 if turn.own else 1], turn.text) for turn in past)
            talk.transcript = Transcript(names, told)
        scene = None if draw is None else scene_asked(text, persona.name)
        place: tuple[str | None, int | None] = (None, None)
        if draw is not None and scene is not None:
            drawn_in = next((t.story for t in reversed(past) if t.story is not None), None)
            place = draw(scene, drawn_in)
            talk.drawn(text, scene)
        else:
            talk.say(text)
    new = talk.transcript.turns[len(past) :]
    drifts = [round(d, 4) for d in distances(persona, [turn.text for turn in new], embedder)]
    turns = past + [
        TalkTurn(own=own, speaker=turn.speaker, text=turn.text, drift=value if own else None)
        for turn, value in zip(new, drifts, strict=True)
        for own in [turn.speaker == names[0]]
    ]
    if place[0] is not None:  # the line under a picture is ours, so it says nothing about drift
        update = {"drift": None, "story": place[0], "frame": place[1]}
        turns[-1] = turns[-1].model_copy(update=update)
    data = json.dumps([turn.model_dump() for turn in turns], ensure_ascii=False)
    shelf.write(kept.folder, TALK, data.encode("utf-8"))
    return shown(turns, model.name, embedder)


def shown(turns: list[TalkTurn], by: str, embedder: TextEmbedder) -> TalkOut:
    """A talk for the wire. by: the name of the language model."""
    return TalkOut(
        turns=turns,
        slope=slope([turn.drift for turn in turns if turn.drift is not None]),
        by=by,
        measured_by=embedder.description,
    )


def turns_of(folder: Path) -> list[TalkTurn]:
    """What was said so far."""
    try:
        told: list[Any] = json.loads((folder / TALK).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [TalkTurn.model_validate(turn) for turn in told]


def slope(drifts: list[float]) -> float | None:
    """How much the drift grows with each turn, by least squares; None for fewer than three."""
    if len(drifts) < 3:
        return None
    return round(float(np.polyfit(np.arange(len(drifts)), drifts, 1)[0]), 5)
