"""A real small instruction model through dialogues and measures: plumbing only.

Nothing is said about how good the model is; its weights come from packages (extra ``qwen``).
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from consistent_gen.errors import InputError, MissingExtraError
from consistent_gen.language.models import Message
from consistent_gen.language.packaged import QwenSmall
from consistent_gen.persona import Persona, PersonaReport, Statement
from consistent_gen.persona.behaviour import too_nice
from consistent_gen.persona.behaviour.personality_illusion import cards_turned
from consistent_gen.persona.cards import parse_card, persona_of
from consistent_gen.persona.evaluate.audit import PAGE, VALUES, audit, read_report
from consistent_gen.persona.measurement import Measurement
from consistent_gen.persona.simulate import Agent, Dialogue, MaxTurns, Repetition
from consistent_gen.persona.simulate.games import SCENARIOS

pytestmark = pytest.mark.slow

CARDS = (
    Persona("mia", "Mia", "A beekeeper of seventy.", (Statement("I keep bees."),)),
    Persona("tom", "Tom", "A gruff sailor who argues.", (Statement("I never give in."),)),
    Persona("ada", "Ada", "A kind nurse.", (Statement("I agree with everybody."),)),
)


EXAMPLES = {
    "Mia": "Mia keeps bees. Mia lives in a mill. Mia is seventy years old.",
    "Tom": "Tom sails an old boat. Tom has a parrot. Tom never learnt to swim.",
    "Ada": "Ada is a nurse. Ada plays the violin. Ada works at night.",
}


@pytest.fixture(scope="module")
def qwen() -> QwenSmall:
    try:
        return QwenSmall()
    except (MissingExtraError, InputError) as error:
        pytest.skip(f"no packaged model: {error}")


def test_three_cards_are_audited_and_two_of_them_talk(qwen: QwenSmall) -> None:
    items, opinions = too_nice.ITEMS[:2], too_nice.OPINIONS[8:11]
    measured = []
    for card in CARDS:
        subject = too_nice.measure_subject(qwen, card, items=items, opinions=opinions)
        read = sum(not math.isnan(item.value) for item in subject.items)
        assert subject.failed >= len(opinions) - read and len(subject.items) == len(opinions)
        cards = cards_turned(qwen, card, SCENARIOS[:1])
        assert cards.n + cards.failed == 1
        measured += [
            Measurement(f"agreeableness of {card.id}", subject.agreeableness),
            Measurement(f"sycophancy of {card.id}", subject.sycophancy, n=read,
                        failed=subject.failed, items=subject.items),
            Measurement(f"cards of {card.id}", cards.value, n=cards.n, failed=cards.failed),
        ]  # fmt: skip
    report = PersonaReport(qwen.name, tuple(measured))
    json.dumps([m.as_json() for m in report.measurements], allow_nan=False)
    assert any(math.isfinite(m.value) for m in report.measurements)

    agents = [Agent(card, qwen, "Say one short sentence.", max_tokens=24) for card in CARDS[:2]]
    talk = Dialogue(agents, [MaxTurns(3), Repetition()]).run()
    assert talk.stop_reason and len(talk.turns) >= 2
    for turn in talk.turns:  # the chat template's own marks never reach a reply
        assert "<|" not in turn.text and len(turn.text.split()) <= 24


def test_example_cards_are_read_audited_and_reported(qwen: QwenSmall, tmp_path: Path) -> None:
    for name, said in EXAMPLES.items():
        data = {"name": name, "description": said, "first_mes": "I am {{char}}."}
        told = {"spec": "chara_card_v2", "spec_version": "2.0", "data": data}
        persona = persona_of(parse_card(json.dumps(told).encode()))
        report = audit(persona, qwen, tmp_path / name, ask=2, seed=1)
        page = (tmp_path / name / PAGE).read_text()
        assert f"Audit of {name} in {qwen.name}" in page and "Not measured" not in page
        assert repr(read_report(tmp_path / name / VALUES)["drift"]) == repr(report["drift"])
        (kept,) = [m for m in report.measurements if m.name == "contradicted statements"]
        assert kept.n + kept.failed == 2  # no answer is lost unsaid
        wordings = report["sensitivity to wording"]
        assert 0 < len(wordings.items) <= 4 and all(0 <= i.value <= 1 for i in wordings.items)


def test_log_probabilities_are_those_of_tokens(qwen: QwenSmall) -> None:
    question = Message("user", "Is ice cold? A. yes B. no. Answer with the letter alone.")
    found = qwen.first_token([question])
    assert len(found) >= 2 and all(value <= 0.0 for value in found.values())
    assert 0.5 < sum(math.exp(value) for value in found.values()) <= 1.0 + 1e-3
    likeliest = max(found, key=lambda token: found[token])
    assert qwen.chat([question], max_tokens=1).strip() == likeliest.strip()
    assert qwen.first_token([question]) == found
