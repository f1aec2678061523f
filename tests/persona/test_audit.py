"""The audit of a card: a page that tells the worst first, and trusts nothing that a card says."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from consistent_gen.errors import InputError
from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.language.models import Message
from consistent_gen.persona import Measurement, Persona, PersonaReport, Scripted, Statement
from consistent_gen.persona.evaluate import wording
from consistent_gen.persona.evaluate.audit import (
    MEASURES,
    PAGE,
    VALUES,
    Interview,
    audit,
    interview,
    read_report,
)
from consistent_gen.persona.evaluate.faithfulness import KeepsStatements, TruthTable
from consistent_gen.persona.evaluate.personaeval import planted, qualify_judge, scripted_judge
from consistent_gen.persona.evaluate.wording import MindsTheWording
from consistent_gen.persona.statistics import share

EVIL = "<script>alert(1)</script> & \"quotes\" 'too'"
MIA = Persona(
    "mia", f"Mia {EVIL}", "A keeper.",
    tuple(Statement(t) for t in ("I keep bees.", f"I hate {EVIL}", "I have two sons.")),
    {"openness": 0.8, f"<b>{EVIL}": 0.3},
)  # fmt: skip


def run(folder: Path, breaks: float, **given: object) -> PersonaReport:
    model = Scripted(KeepsStatements(breaks), seed=1, name=f"breaks {breaks}")
    return audit(MIA, model, folder, scorer=TruthTable(), embedder=HashedNgrams(), **given)  # type: ignore[arg-type]


def test_an_audit_tells_the_worst_first_and_runs_nothing(tmp_path: Path) -> None:
    cases, truth = planted(1, 60)
    judge = qualify_judge("weak <i>judge</i>", scripted_judge(0.5, truth), cases, "Drama")
    report = run(tmp_path / "out", 1.0, judge=judge)
    page = (tmp_path / "out" / PAGE).read_text()
    body = page.partition("</head>")[2]
    # Of all tags only the page's own are there, and nothing is loaded or run.
    tags = set(re.findall(r"<\s*/?\s*([a-zA-Z0-9]+)", body))
    assert tags <= {"body", "h1", "h2", "p", "ul", "li", "blockquote", "strong", "div", "table",
                    "thead", "tbody", "tr", "th", "td", "svg", "line", "rect", "text", "circle",
                    "polyline", "span", "br", "html"}  # fmt: skip
    assert not re.search(r"\s(on\w+|href|src)\s*=", page)
    assert "default-src 'none'" in page
    assert page.index("Worst quotes") < page.index("All measures")
    assert "It is false that I keep bees." in body.partition("Statement by statement")[0]
    assert TruthTable.accuracy in body and "NOT qualified" in body
    assert "Simulated trait levels" in body and "polyline" in body
    assert (
        report["dAPC per statement"].value < run(tmp_path / "good", 0.0)["dAPC per statement"].value
    )
    assert {m.name for m in report.measurements} >= {"drift", "contradicts own last five turns"}


def test_values_are_read_back_and_compared(tmp_path: Path) -> None:
    good = run(tmp_path / "a", 0.0)
    back = read_report(tmp_path / "a" / VALUES)
    assert back.subject == good.subject
    assert [repr(m) for m in back.measurements] == [repr(m) for m in good.measurements]
    worse = run(tmp_path / "b", 1.0, baseline=back)
    page = (tmp_path / "b" / PAGE).read_text()
    assert worse.against(back).standing in ("dominated", "trade-off")
    assert f"<strong>{worse.against(back).standing}</strong>" in page
    # The same again: the same bytes.
    before = (tmp_path / "a" / PAGE).read_bytes()
    run(tmp_path / "a", 0.0)
    assert (tmp_path / "a" / PAGE).read_bytes() == before
    (tmp_path / "broken.json").write_text("[1]")
    with pytest.raises(InputError, match=r"not the report\.json"):
        read_report(tmp_path / "broken.json")


def failing(told: Interview) -> list[Measurement]:
    raise InputError(f"{told.persona.name} cannot be measured so")


def test_a_measure_that_fails_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    table = {"mine": f"{__name__}:failing", "drift": MEASURES["drift"]}
    report = run(tmp_path / "out", 0.5, measures=table)
    assert "Not measured" in (tmp_path / "out" / PAGE).read_text()
    assert json.loads((tmp_path / "out" / VALUES).read_text())["failures"].keys() == {"mine"}
    assert report["drift"].n == 6
    with pytest.raises(InputError, match="no measurement"):
        report["mine"]


def test_wording_matters_only_where_it_does(tmp_path: Path) -> None:
    many = Persona("m", "Mia", "", tuple(Statement(f"I own boat {n}.") for n in range(12)))
    given = {"scorer": TruthTable(), "embedder": HashedNgrams(), "statements": 10, "ask": 8}
    found = {}
    for name, breaks in (("minds", 1.0), ("steady", 0.0)):
        cut = replace(many, statements=many.statements[:10])
        model = Scripted(MindsTheWording(cut.prompt(), breaks), name=name)
        found[name] = audit(many, model, tmp_path / name, **given)[wording.NAME]  # type: ignore[arg-type]
    rates = {item.id: item.value for item in found["minds"].items}
    assert rates == {wording.AS_WRITTEN: 1.0, wording.BACKWARDS: 0.0, wording.SHUFFLED: 0.0,
                     wording.PARAGRAPH: 1.0}  # fmt: skip
    assert found["minds"].value == found["minds"].high == pytest.approx(1 / 3)  # the most there is
    assert found["steady"].value == 0.0 and math.isnan(found["steady"].low)  # no false certainty
    for item in found["minds"].items:
        limits = share(round(6 * item.value), 6)
        assert (item.low, item.high) == pytest.approx((limits.low, limits.high))
    page = (tmp_path / "minds" / PAGE).read_text()
    assert f"<h2>{wording.NAME.capitalize()}</h2>" in page and "from the end: 0 of 6 pass" in page
    assert "the first 10 of 12 statements" in page
    quotes = page.partition("Worst quotes")[2].partition("Statement by statement")[0]
    assert wording.NAME not in quotes  # a rate is nobody's answer
    back = read_report(tmp_path / "minds" / VALUES)[wording.NAME]
    assert repr(back) == repr(found["minds"])
    assert [one.id for one in wording.wordings(MIA)] == list(rates)
    alone = Persona("a", "Ann", statements=(Statement("I keep bees."),))
    assert [one.id for one in wording.wordings(alone)] == [wording.AS_WRITTEN, wording.PARAGRAPH]


def test_whoever_speaks_as_a_program_is_quoted(tmp_path: Path) -> None:
    def half(messages: Sequence[Message], draw: random.Random) -> str:
        if "bees" in messages[-1].content:
            return "As an AI language model, I don\u2019t keep bees."
        return "I like aid and maids."

    mia = Persona("m", "Mia", "", MIA.statements[::2])
    given = {"scorer": TruthTable(), "embedder": HashedNgrams(), "ask": 2}
    role = audit(mia, Scripted(half), tmp_path / "mia", **given)["speaks as a program"]  # type: ignore[arg-type]
    assert (role.value, role.n) == (0.5, 4)  # each question alone and in the conversation
    page = (tmp_path / "mia" / PAGE).read_text()
    assert "As an AI language model" in page.partition("Statement by statement")[0]
    robot = replace(mia, summary="A robot.")
    audit(robot, Scripted(half), tmp_path / "robot", **given)  # type: ignore[arg-type]
    assert "which may speak as one" in (tmp_path / "robot" / PAGE).read_text()


def test_what_cannot_be_audited_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = Scripted(KeepsStatements(0.0))
    with pytest.raises(InputError, match="no statements"):
        audit(Persona("a", "Ann"), model, tmp_path / "out")
    with pytest.raises(InputError, match="at most"):
        run(tmp_path / "out", 0.0, questions=["Why?"] * 201)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match="is a file"):
        run(tmp_path / "file", 0.0)
    assert (tmp_path / "file").read_text() == "kept" and not (tmp_path / "out").exists()
    assert model.calls == 0


def test_the_interview_remembers_and_names_differ() -> None:
    seen: list[int] = []

    def listens(messages, draw):  # type: ignore[no-untyped-def]
        seen.append(len(messages))
        return "Yes."

    talk = interview(Persona("i", "interviewer"), Scripted(listens), ("One?", "Two?"))
    assert seen == [2, 4] and len(set(talk.speakers)) == 2
