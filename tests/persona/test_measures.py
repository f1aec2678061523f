"""Measures of personas: published arithmetic, planted truth, failures that are never left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from consistent_gen.errors import InputError, UnknownNameError
from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.persona import (
    Measurement,
    Nli,
    Persona,
    PersonaReport,
    Scripted,
    Statement,
    Transcript,
)
from consistent_gen.persona.evaluate.conflicts import fairness, metric_conflicts, pruned
from consistent_gen.persona.evaluate.eval4sim import (
    HumanReference,
    curve_score,
    eval4sim,
    fit_reference,
    scripted_corpus,
    two_sided,
)
from consistent_gen.persona.evaluate.faithfulness import (
    KeepsStatements,
    TruthTable,
    apc,
    faithfulness,
)
from consistent_gen.persona.evaluate.pair_scorer import LexicalPairs
from consistent_gen.persona.evaluate.persobench import (
    PersoRow,
    personalization_report,
    prompt,
    read_rows,
)
from consistent_gen.persona.evaluate.reply_consistency import (
    Reply,
    c_scores,
    discourse,
    planted,
    read_generations,
    recall,
    shuffled,
)


class Fixed:
    """A scorer that answers from a table by what was said."""

    name, accuracy = "fixed", "a table"

    def __init__(self, relevant: float, entailed: Mapping[str, tuple[float, ...]]) -> None:
        self.relevant, self.entailed = relevant, entailed
        self._at = 0

    def relevance(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [self.relevant] * len(pairs)

    def nli(self, pairs: Sequence[tuple[str, str]]) -> list[Nli]:
        reply = pairs[0][1].rpartition("\n")[2]
        return [Nli(0.0, 1.0 - e, e) for e in self.entailed[reply]]


def test_apc_orders_two_one_and_no_fact_by_the_published_values() -> None:
    """The example's 1.608, .996 and .033; the probabilities that give these sums are ours."""
    statements = (Statement("She lives in Wonderland."), Statement("She has a cat."))
    table = {"both": (0.804, 0.804), "one": (0.804, 0.192), "wrong": (0.0165, 0.0165)}
    found = [apc(statements, "Who are you?", said, Fixed(1.0, table)).apc for said in table]
    assert found == pytest.approx([1.608, 0.996, 0.033], abs=1e-6)


@pytest.mark.parametrize("relevant", [0.0, 0.3, 1.0])
def test_saying_nothing_is_worth_nothing(relevant: float) -> None:
    statements = (Statement("a"), Statement("b", weight=0.5))
    silent = apc(statements, "q", "s", Fixed(relevant, {"s": (0.0, 0.0)}))
    assert silent.dapc == 0.0
    told = apc(statements, "q", "s", Fixed(relevant, {"s": (0.5, 1.0)}))
    assert told.dapc == pytest.approx(told.active - told.passive)
    assert told.apc - told.dapc == pytest.approx(1.5 * (1.0 - relevant))
    with pytest.raises(InputError, match="no statements"):
        apc((), "q", "s", Fixed(1.0, {"s": ()}))


def test_an_answer_that_is_missing_counts_as_failed() -> None:
    persona = Persona("m", "Mia", statements=(Statement("I keep bees."),))
    measured, _ = faithfulness(persona, Scripted(lambda m, d: ""), TruthTable(), ("Who?", "Why?"))
    assert [m.failed for m in measured] == [2, 2, 2, 2]
    assert all(math.isnan(m.value) for m in measured)
    broken, answers = faithfulness(persona, Scripted(KeepsStatements(1.0)), TruthTable())
    assert broken[0].tools == {
        "pair scorer": "table: right by construction, about scripted answers only"
    }
    assert "I keep bees." in broken[0].worst[0].why
    assert broken[0].worst[0].value == 1.0 and broken[1].value == 0.0  # dAPC cannot tell a denial
    assert answers[0].scores[0].judged.contradicted == 1.0


# LMEDR -------------------------------------------------------------------------------------------


def test_c_score_is_the_sum_over_statements_and_knows_whose_profile_it_is() -> None:
    replies = planted(1, 0.5)
    score, against, spoken = c_scores(replies, TruthTable())
    assert spoken.value == pytest.approx(against.value)  # one statement each, all spoken to
    other = c_scores(shuffled(replies), TruthTable())
    assert score.value == pytest.approx(1.0 - 2.0 * against.value)
    denied = [reply for reply in planted(2, 1.0)]
    found = recall(denied, TruthTable())
    assert len(denied) == 200
    assert (found.value, found.null) == (1.0, 0.0)
    assert "table" in found.tools["pair scorer"]
    # Somebody else's profile: nothing is kept or broken, which lies outside both intervals.
    assert not score.low <= 1.0 <= score.high
    assert other[0].value == other[1].value == 0.0
    assert (other[2].n, other[2].note) == (0, "ours; 200 replies speak to none")
    empty = c_scores([*replies, Reply(("I own a boat.",), "And?", "")], TruthTable())[0]
    assert (empty.n, empty.failed) == (200, 1)


def test_somebody_elses_profile_is_contradicted_where_it_is_spoken_to() -> None:
    """Most of another's profile is about other things: the plain rate does not tell, that of what
    is spoken to rises, outside both intervals. A tenth denies its own town, planted.
    """
    replies = []
    for n in range(240):
        town, next_town = (f"I live in town {k % 6}." for k in (n, n + 1))
        profile = (town, f"I was born in year {n}.", f"I have {n} books.")
        said = f"It is false that {town if n % 10 == 0 else next_town}"
        replies.append(Reply(profile, "And you?", said if n % 10 < 4 else f"Yes: {profile[n % 3]}"))
    own, other = (c_scores(r, TruthTable()) for r in (replies, shuffled(replies)))
    assert other[0].high < own[0].low
    assert other[1].low < own[1].high and own[1].value == 0.1
    assert other[2].low > own[2].high


def test_discourse_looks_at_the_turn_before_and_the_last_five_own() -> None:
    talk = Transcript(("a", "b"))
    for text in ("I own a boat.", "Nice.", "It is false that I own a boat.", "Oh?"):
        talk = talk.said(talk.speakers[len(talk.turns) % 2], text)
    agrees, broken = discourse([talk], TruthTable())
    assert (agrees.n, broken.n) == (3, 2)
    assert broken.value == 0.5
    assert broken.worst[0].id == "0:2"


def test_released_generations_are_read_and_others_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    table = tmp_path / "persona_original.tsv"
    table.write_text('persona\tquery\tresponse\n"[\' i read .\', ""i\'m a cook""]"\t hi ?\tyes .\n')
    assert read_generations(table) == [Reply(("i read .", "i'm a cook"), "hi ?", "yes .")]
    table.write_text("persona\tquery\tresponse\n__import__('os')\thi\tyes\n")
    with pytest.raises(InputError, match="line 2"):
        read_generations(table)
    table.write_text("a\tb\n")
    with pytest.raises(InputError, match="columns"):
        read_generations(table)


# PersoBench --------------------------------------------------------------------------------------


def test_persobench_equals_a_table_made_by_hand_in_both_modes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """20 stored rows: 12 keep the persona, 5 break it, 3 are malformed."""
    keep = '{"response": "Yes: I own a boat."}'
    deny = 'Sure! {"reasoning": "x", "response": "It is false that I own a boat."}'
    raws = [keep] * 12 + [deny] * 5 + ["no JSON", '{"response": 3}', '{"answer": "x"}']
    rows = [PersoRow(("I own a boat.",), "Hi", "Yes: I own a boat.", raw, 2.0) for raw in raws]
    report = {m.name: m for m in personalization_report(rows, TruthTable())}
    assert report["C-score, corrected"].value == pytest.approx(7 / 17)
    assert report["C-score, corrected (invalid as worst)"].value == pytest.approx(4 / 20)
    assert report["UE, corrected"].value == pytest.approx(24 / 17)
    assert report["failure ratio"].value == pytest.approx(3 / 20)
    assert report["C-score, corrected"].failed == 3
    # Six words, of which ["yes"] is new: distinct-1 counts each once.
    assert report["distinct-1, corrected"].value == pytest.approx((12 + 5 * 1.0) / 17)
    assert report["response time"].value == 2.0
    assert "(none given)" in prompt((), "Hi") and '"reasoning"' in prompt((), "Hi", reasoning=True)
    swapped = personalization_report(rows, TruthTable(), "released")
    assert not {m.name for m in swapped if "C-score" in m.name} & set(report)
    asked, said = tmp_path / "p.csv", tmp_path / "r.csv"
    asked.write_text('personas,act_response,context\n"I own a boat.\nI sail.",gold,Hi\n')
    said.write_text("gen_response,response_time\noops,\n")
    (row,) = read_rows(asked, said)
    assert row.personas == ("I own a boat.", "I sail.") and row.response is None
    said.write_text("text\nx\n")
    with pytest.raises(InputError, match="gen_response, response_time missing"):
        read_rows(asked, said)


# Eval4Sim ----------------------------------------------------------------------------------------


def test_the_human_like_corpus_wins_on_both_sides() -> None:
    embedder, scorer, sizes = HashedNgrams(), LexicalPairs(), (6, 12, 24, 40)
    human = fit_reference(scripted_corpus("human"), embedder, scorer, sizes)
    assert HumanReference.from_json(human.as_json()) == human
    scores = {
        kind: [m.value for m in eval4sim(scripted_corpus(kind, 1), human, embedder, scorer)][:3]
        for kind in ("under", "human", "over")
    }
    assert min(scores["human"]) >= 0.9
    for kind in ("under", "over"):
        assert all(a < b for a, b in zip(scores[kind], scores["human"], strict=True)), scores
    assert two_sided(3.0, 1.0) == 0.0 and two_sided(1.0, 1.0) == 1.0
    assert curve_score({5: 0.2, 9: 0.1}, {5: 0.2, 9: 0.1}) == pytest.approx(1.0)
    with pytest.raises(InputError, match="other pools"):
        curve_score({5: 0.2}, {6: 0.2})
    with pytest.raises(InputError, match="not a human reference"):
        HumanReference.from_json({"adherence": {}})


# Embracing Contradiction -------------------------------------------------------------------------


def test_what_contradicts_cannot_be_left_out() -> None:
    """Parity and equal opportunity at unequal base rates: no rule of answering has both."""
    a = [(True, True)] * 6 + [(False, False)] * 4  # truthful: opportunity is equal, parity is not
    b = [(True, True)] * 2 + [(False, False)] * 8
    lenient = [(True, True)] * 2 + [(False, True)] * 4 + [(False, False)] * 4
    strict = [(True, True)] * 5 + [(True, False)] + [(False, True)] + [(False, False)] * 3
    reports = [
        PersonaReport("truthful", (*fairness({"a": a, "b": b}), Measurement("speed", 1.0))),
        PersonaReport("even", (*fairness({"a": strict, "b": lenient}), Measurement("speed", 1.0))),
    ]
    assert [m.value for m in reports[0].measurements[:2]] == pytest.approx([0.4, 0.0])
    (conflict,) = metric_conflicts(reports)
    assert {*conflict.gains, *conflict.losses} == {"parity gap", "opportunity gap"}
    kept = pruned(reports[0], ("parity gap", "opportunity gap"), reports)
    assert [m.name for m in kept.measurements] == ["parity gap", "opportunity gap"]
    for alone in ("parity gap", "opportunity gap"):
        with pytest.raises(InputError, match="a reader must see both"):
            pruned(reports[0], (alone, "speed"), reports)
    with pytest.raises(UnknownNameError, match="not measured"):
        pruned(reports[0], ("beauty",), reports)
    # Within its tolerance nothing conflicts.
    easy = [PersonaReport(r.subject, r.measurements, {"parity gap": 0.5}) for r in reports]
    assert metric_conflicts(easy) == []
