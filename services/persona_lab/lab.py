"""The persona lab of one server: its cards, who speaks for them and what measures them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from consistent_gen.client.persona_lab import AuditOut, TalkOut
from consistent_gen.client.types import CharacterIn, FrameIn, StoryIn
from consistent_gen.errors import ConsistentGenError
from consistent_gen.language.embedders import TextEmbedder, default_embedder
from consistent_gen.language.models import LanguageModel
from consistent_gen.persona.evaluate.pair_scorer import default_scorer
from consistent_gen.persona.judging import PairScorer
from consistent_gen.persona.picturing import looks_of
from services.errors import BusyError
from services.persona_lab import talks
from services.persona_lab.audits import Audits
from services.persona_lab.cards import CardShelf
from services.persona_lab.speaking import OneAtATime, language_model
from services.settings import LanguageSettings

SCENES = ("standing", "walking in the forest", "reading a book")


class PersonaLab:
    """Cards below `folder`, and everything that is done with them. Threads share it.

    embedder, scorer: make what measures, once; by default the best that is installed.
    """

    def __init__(
        self,
        folder: Path,
        settings: LanguageSettings,
        *,
        embedder: Callable[[], TextEmbedder] = default_embedder,
        scorer: Callable[[], PairScorer] = default_scorer,
    ) -> None:
        self.shelf = CardShelf(folder)
        self.audits = Audits(self.shelf)
        self._settings = settings
        self._embedder_of, self._scorer_of = embedder, scorer
        self._making, self._speaking = threading.Lock(), threading.Lock()
        self._model: LanguageModel | None = None
        self._embedder: TextEmbedder | None = None
        self._scorer: PairScorer | None = None
        self._talking: set[Path] = set()

    def talk(self, owner: str, card: str) -> TalkOut:
        """The talk with a card so far. Raises ``NotFound``."""
        turns = talks.turns_of(self.shelf.place(owner, card))
        try:
            by = self._language_model().name
        except ConsistentGenError:  # told when somebody speaks; what was said can be read
            by = f"{self._settings.model}, which is not installed"
        return talks.shown(turns, by, self._measure())

    def say(self, owner: str, card: str, text: str, draw: talks.Drawer | None = None) -> TalkOut:
        """One turn; where it asks for a picture of the persona, ``draw`` has it drawn.

        Raises as ``talks.say`` and ``draw``, and ``BusyError`` while another turn is answered.
        """
        kept = self.shelf.get(owner, card)
        with self._making:
            if kept.folder in self._talking:
                raise BusyError("the persona is still answering; wait for it", 2.0)
            self._talking.add(kept.folder)
        try:
            model = OneAtATime(self._language_model(), self._speaking, lambda: False)
            return talks.say(self.shelf, kept, text, model, self._measure(), draw)
        finally:
            self._talking.discard(kept.folder)

    def forget_talk(self, owner: str, card: str) -> None:
        """Begin anew: the talk goes, and what the persona remembers of it. Raises ``BusyError``."""
        folder = self.shelf.place(owner, card)
        if folder in self._talking:
            raise BusyError("the persona is still answering; wait for it", 2.0)
        (folder / talks.TALK).unlink(missing_ok=True)
        shutil.rmtree(folder / talks.MEMORY, ignore_errors=True)

    def audit(self, owner: str, card: str, questions: int) -> AuditOut:
        """Start an audit. Raises as ``Audits.start``."""
        kept, model = self.shelf.get(owner, card), self._language_model()

        def speaker(stopped: Callable[[], bool]) -> LanguageModel:
            return OneAtATime(model, self._speaking, stopped)

        return self.audits.start(owner, kept, questions, speaker, self._tools)

    def drawable(
        self,
        owner: str,
        card: str,
        name: str | None,
        looks: str | None,
        scenes: Sequence[str] = SCENES,
    ) -> StoryIn:
        """A story with the persona as its character in each of the scenes, to edit and draw.

        Raises:
            Conflict: the card has errors. InputError: nothing says how the persona looks.
        """
        persona = self.shelf.get(owner, card).sound()
        words = looks_of(persona, looks)
        called = story_name(name or persona.name)
        return StoryIn(
            title=persona.name[:80],
            characters={called: CharacterIn(description=words)},
            frames=[FrameIn(prompt=f"{{{called}}} {scene}") for scene in scenes],
        )

    def close(self) -> None:
        """Stop audits; talks that are being answered end as they do."""
        self.audits.close()

    def _language_model(self) -> LanguageModel:
        with self._making:
            if self._model is None:
                self._model = language_model(self._settings)
            return self._model

    def _measure(self) -> TextEmbedder:
        with self._making:
            if self._embedder is None:
                self._embedder = self._embedder_of()
            return self._embedder

    def _tools(self) -> tuple[PairScorer, TextEmbedder]:
        embedder = self._measure()
        with self._making:
            if self._scorer is None:
                self._scorer = self._scorer_of()
            return self._scorer, embedder


def story_name(name: str) -> str:
    """What stories and the library call a persona of this name."""
    from consistent_gen.story.script import NAME

    found = NAME.search(name.replace("{", "").replace("}", ""))
    return found[0].strip() if found else "Persona"
