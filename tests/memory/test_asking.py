"""What counts as a question: by its mark, its order of words, or as people type in a hurry."""

from __future__ import annotations

import pytest

from consistent_gen.language.words import is_question
from consistent_gen.memory.listening.clauses import sentences

ASKED = (
    "when is the jab?", "what car do i drive", "Metoprolol. How much.", "What time", "And where.",
    "Her fella. Name.", "First board meeting is when", "how much we pay of rent now",
    "Remind me of the name of my driver.", "please remind me again what her dog is called",
    "tell me my sister's number", "what time's Ida at on Thursdays again", "How old's Becky",
    "since when am I off the drink", "Cardiologist's name",
)  # fmt: skip
TOLD = (
    "Remind me to call Ann.", "What a day.", "How nice.", "I don't know when.",
    "How much I loved that dog", "He asked me when", "When I was small, we had a dog.",
    "She said where", "I had a good time", "Where we live it rains", "Good name.",
    "Tell me about it.", "no idea how many", "It's my mum's number.", "My dog's name is Bo",
    "Forgot my mum's birthday",
)  # fmt: skip


@pytest.mark.parametrize("text", ASKED)
def test_what_is_asked(text: str) -> None:
    assert is_question(text)
    assert not [said for said, asked in sentences(text) if not asked and is_question(said)]


@pytest.mark.parametrize("text", TOLD)
def test_what_is_told(text: str) -> None:
    assert not is_question(text)


def test_what_somebody_wants_to_be_reminded_of_is_no_note() -> None:
    assert list(sentences("Remind me of the name of my driver.")) == [
        ("Remind me of the name of my driver.", True)
    ]
    assert list(sentences("Remind me that Bo sees the vet on Friday.")) == [
        ("Bo sees the vet on Friday.", False)
    ]
