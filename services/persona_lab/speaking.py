"""Who speaks for a persona: the language model of the settings, or the card's own lines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from consistent_gen.errors import Cancelled
from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.language.endpoints import Endpoint
from consistent_gen.language.models import LANGUAGE_MODELS, EndpointModel, LanguageModel, Message
from consistent_gen.registry import resolve
from services.settings import LanguageSettings

_MOST_LINES = 400  # of a card that are compared with what was said


class CardLines:
    """Speaks without a language model: says the line of the card that is nearest to what was said,
    by spelling, and none twice. It shows how a talk works; it does not understand anything.
    """

    sees = False
    name = "the card's own lines (no language model)"

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        """The next line that was not said yet."""
        told = messages[0].content if messages[0].role == "system" else ""
        lines = [line[2:] for line in told.splitlines() if line.startswith("- ")][:_MOST_LINES]
        said = {message.content for message in messages if message.role == "assistant"}
        left = [line for line in dict.fromkeys(lines) if line not in said]
        if not left:
            return "I have told you all that my card says."
        heard = messages[-1].content.rpartition("\n\n")[2]  # behind what is remembered
        vectors = HashedNgrams().text([heard, *left])
        return left[int((vectors[1:] @ vectors[0]).argmax())]


class OneAtATime:
    """A model whose weights only one thread may use; `stopped` ends whoever waits or goes on."""

    def __init__(
        self, model: LanguageModel, lock: threading.Lock, stopped: Callable[[], bool]
    ) -> None:
        self._model, self._lock, self._stopped = model, lock, stopped
        self.name, self.sees = model.name, model.sees

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        """The model's reply. Raises ``Cancelled`` once it is stopped."""
        with self._lock:
            if self._stopped():
                raise Cancelled("stopped")
            return self._model.chat(messages, max_tokens=max_tokens)


def language_model(language: LanguageSettings) -> LanguageModel:
    """The model that the settings name. Raises ``MissingExtraError`` where it is not installed."""
    if language.model == "card":
        return CardLines()
    made: LanguageModel
    if language.model == "endpoint":
        made = EndpointModel(Endpoint(url=language.url, api_key=language.key), language.name)
    elif language.model == "transformers":
        made = resolve(LANGUAGE_MODELS, language.model)(language.folder)
    else:
        made = resolve(LANGUAGE_MODELS, language.model)()
    return made
