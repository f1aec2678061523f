"""Ways to answer from a memory, one part of PersonaVLM (arXiv 2604.13074) left out in each.

An arm is the assistant with less: without the look-ups of the reasoning loop, without the lines of
response alignment, with a static profile in the prompt and nothing else, or aligned and without
any memory. All hear the same conversation; each answers from a copy of the memory, so that no arm
reads what another was asked.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from consistent_gen.checkpoints import read_json, write_json
from consistent_gen.language.embedders import TextEmbedder
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.records import Kind, Record
from consistent_gen.memory.listening.listener import Listener
from consistent_gen.memory.recall.pictures import Picture
from consistent_gen.memory.recall.prompts import LAST_ROUND, data_block
from consistent_gen.memory.talk.assistant import Assistant
from consistent_gen.memory.talk.reasoning import Reasoned, reason
from consistent_gen.memory.talk.rule_model import RuleModel
from consistent_gen.memory.talk.style_policy import Style, StylePolicy, read_style

PROFILE_TOKENS = 600


@dataclass(frozen=True)
class MemoryArm:
    """What one arm has.

    sight: "memory" (profile, notes that fit, recent turns), "profile" (every state that holds,
        newest first, as far as 600 tokens go) or "nothing".
    looks: whether the model may look into memory. aligned: whether it is told how to speak.
    """

    sight: str = "memory"
    looks: bool = True
    aligned: bool = True


ARMS: Mapping[str, MemoryArm] = {
    "all parts": MemoryArm(),
    "no reasoning loop": MemoryArm(looks=False),
    "no alignment": MemoryArm(aligned=False),
    "neither": MemoryArm(looks=False, aligned=False),
    "static profile": MemoryArm(sight="profile", looks=False, aligned=False),
    "alignment, no memory": MemoryArm(sight="nothing", looks=False),
}


class Counted:
    """A model that counts what it reads and writes, in tokens of four characters."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.name, self.sees = model.name, model.sees
        self.calls, self.tokens = 0, 0.0

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        """The model's reply."""
        reply = self._model.chat(messages, max_tokens=max_tokens)
        self.calls += 1
        self.tokens += (sum(len(m.content) for m in messages) + len(reply)) / 4
        return reply


@dataclass
class ArmAssistant(Assistant):
    """The assistant with the parts of one arm; questions alone are answered by the model."""

    arm: MemoryArm = field(default_factory=MemoryArm)
    reply_tokens: int = 512
    outputs: int = 6

    def alignment(self) -> tuple[str, ...]:
        """Nothing where the arm is not aligned."""
        return super().alignment() if self.arm.aligned else ()

    def _reason(
        self, text: str, pixels: Picture | None, picture: bytes | None, ids: Sequence[str]
    ) -> tuple[Reasoned, tuple[Record, ...]]:
        recent, profile, notes = self._recent(ids), self.store.list("core"), self._notes(text, None)
        before: tuple[Record, ...] = (*profile, *notes, *recent)
        context = self._context(profile, notes, recent)
        if self.arm.sight == "profile":
            before = self._states()
            context = data_block({"profile": before}, self.zone, {"profile": PROFILE_TOKENS})
        elif self.arm.sight == "nothing":
            before = ()
            context = self._context((), (), ())
        if not self.arm.looks:
            context = f"{context}\n\n{LAST_ROUND}"
        reasoned = reason(
            self.model, self.retriever, text, context=context, zone=self.zone,
            exclude=[*(record.id for record in before), *ids], max_tokens=self.reply_tokens,
            max_outputs=self.outputs if self.arm.looks else 1,
        )  # fmt: skip
        return reasoned, before

    def _states(self) -> tuple[Record, ...]:
        """Every leaf, fact and habit that holds, newest first."""
        kinds: tuple[Kind, ...] = ("core", "habit", "fact")
        states = [record for kind in kinds for record in self.store.list(kind)]
        start = datetime.min.replace(tzinfo=UTC)
        return tuple(sorted(states, key=lambda r: r.valid_from or start, reverse=True))


@dataclass(frozen=True)
class HeardConversation:
    """A conversation that is in a memory: its file's content, the folder, and when it ended."""

    name: str
    told: Mapping[str, Any]
    folder: Path
    ended: datetime

    @property
    def style(self) -> Style:
        """The mean style of the user's turns."""
        styles = [read_style(turn["text"]) for turn in self.told["turns"]]
        return tuple(float(value) for value in np.mean(styles, 0))


@contextmanager
def heard(
    path: Path, listener: Listener, embedder: TextEmbedder | None
) -> Iterator[HeardConversation]:
    """A conversation, said turn by turn to an assistant on rules; the memory is gone afterwards."""
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        at = datetime.now(UTC)
        with open_memory(folder, "user") as store:
            assistant = Assistant(
                store, model=RuleModel(), listener=listener, text_embedder=embedder,
                style=StylePolicy(name="hybrid"),
            )  # fmt: skip
            for turn in told["turns"]:
                at = datetime.fromisoformat(turn["at"]).replace(tzinfo=UTC)
                assistant.say(turn["text"], at=at)
            assistant.close()  # by rules, so that no arm's model writes episodes
        yield HeardConversation(path.stem, told, Path(folder), at)


@dataclass(frozen=True)
class ArmAnswer:
    """What an arm answered to one question: calls, tokens read and written, milliseconds."""

    text: str
    calls: int
    tokens: float
    milliseconds: float


def asked(
    conversation: HeardConversation,
    arm: MemoryArm,
    model: LanguageModel,
    embedder: TextEmbedder | None,
    questions: Sequence[str],
    *,
    reply_tokens: int = 512,
    outputs: int = 6,
) -> list[ArmAnswer]:
    """The arm's answers, on the day after the last turn, from a copy of the memory."""
    answers = []
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "memory"
        shutil.copytree(conversation.folder, copy)
        with open_memory(copy, "user") as store:
            assistant = ArmAssistant(
                store, model=model, text_embedder=embedder, style=StylePolicy(name="hybrid"),
                arm=arm, reply_tokens=reply_tokens, outputs=outputs,
            )  # fmt: skip
            counted = Counted(assistant.model)  # the rules with their embedder
            assistant.model = counted
            for question in questions:
                calls, tokens, start = counted.calls, counted.tokens, time.perf_counter()
                text = assistant.say(question, at=conversation.ended + timedelta(days=1)).text
                spent = 1000 * (time.perf_counter() - start)
                answers.append(
                    ArmAnswer(text, counted.calls - calls, counted.tokens - tokens, spent)
                )
    return answers


def write_run(path: Path, run: Mapping[str, Any], key: str) -> None:
    """Put a run into a results file, in the place of the one with the same ``key``, if any."""
    before = read_json(path)["runs"] if path.is_file() else []
    write_json(path, {"runs": [*(r for r in before if r[key] != run[key]), run]})
