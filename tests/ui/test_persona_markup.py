"""What cards say is shown as text, and the drift in words and as a line."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime
from html import unescape

import pytest

from consistent_gen.client.persona_lab import (
    AuditFigure,
    AuditOut,
    CardBrief,
    CardFields,
    CardIssue,
    CardOut,
    CardStatement,
    TalkOut,
    TalkTurn,
)
from ui.persona_markup import (
    TalkPicture,
    audit_html,
    cards_html,
    drift_html,
    issues_html,
    persona_html,
    report_html,
    talk_html,
)

NOW = datetime(2026, 11, 30, tzinfo=UTC)
EVIL = "\"'><img src=x onerror=alert(1)>{{this}}${alert(1)}`"


def talk(*drifts: float, slope: float | None = None) -> TalkOut:
    turns = [TalkTurn(own=True, speaker=EVIL, text=EVIL, drift=drift) for drift in drifts]
    return TalkOut(turns=turns, slope=slope, by=EVIL, measured_by=EVIL)


def test_text_of_cards_is_text() -> None:
    issue = CardIssue(place=f"book[{EVIL}]", message=EVIL, severity="error", mend=EVIL)
    card = CardOut(
        id="crd_1", spec="v2", fields=CardFields(name=EVIL), issues=[issue], picture=False,
        statements=[CardStatement(text=EVIL, source=EVIL)], statement_count=3,
        created_at=NOW, updated_at=NOW,
    )  # fmt: skip
    figure = AuditFigure(name=EVIL, value=None, low=None, high=None, n=0, failed=2)
    shown = [
        cards_html([CardBrief(id=EVIL, name=EVIL, errors=1, warnings=1, created_at=NOW)]),
        issues_html([issue], places=True),
        persona_html(card),
        talk_html(talk(0.1), EVIL),
        drift_html(talk(0.1)),
        audit_html(AuditOut(state="failed", problem=EVIL)),
        audit_html(AuditOut(state="succeeded", by=EVIL, covers=EVIL, figures=[figure])),
        report_html(f"<p>{EVIL}</p>".encode()),
    ]
    for html in shown:
        assert "<img" not in html
        assert "onerror=alert(1)&gt;" in html
    source = re.search(r'srcdoc="([^"]*)"', shown[-1])
    assert source is not None
    assert unescape(source[1]) == f"<p>{EVIL}</p>"
    assert "and 2 more" in shown[2]
    assert "2 without an answer" in shown[6]


@pytest.mark.parametrize(
    ("drifts", "slope", "words"),
    [
        ((0.2, 0.4, 0.6), 0.2, "moves away by 0.200 with each turn"),
        ((0.6, 0.4, 0.2), -0.2, "comes nearer by 0.200 with each turn"),
        ((0.3, 0.3, 0.3), 0.0, "stays as near as it was"),
        ((0.3, 1.5), None, "1.50 away from the card."),
    ],
)
def test_drift_is_a_line_and_a_sentence(
    drifts: tuple[float, ...], slope: float | None, words: str
) -> None:
    html = drift_html(talk(*drifts, slope=slope))
    assert words in html
    found = re.search(r'polyline points="([^"]+)"', html)
    assert found is not None
    heights = [float(point.split(",")[1]) for point in found[1].split()]
    assert all(0.0 <= height <= 150.0 for height in heights)
    risen = [a > b for a, b in itertools.pairwise(heights)]
    assert risen == [a < b for a, b in itertools.pairwise(drifts)]


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (TalkPicture(busy=True), "is being drawn"),
        (TalkPicture(problem=EVIL), "was not drawn: &quot;&#x27;&gt;&lt;img"),
        (TalkPicture(), "ask for it again"),
    ],
)
def test_a_picture_that_is_not_there_says_why(picture: TalkPicture, words: str) -> None:
    html = talk_html(talk(0.1), pictures={0: picture})
    assert words in html
    assert ("being drawn" in html) == picture.busy


def test_nothing_yet_says_what_to_do() -> None:
    assert "Import a character card" in cards_html([])
    assert "Say something" in talk_html(None)
    assert drift_html(None) == ""
    assert "interviews" in audit_html(None)
