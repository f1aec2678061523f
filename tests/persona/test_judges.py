"""Judges: who may judge, when they abstain, what is published of them, and broken files."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from consistent_gen.errors import InputError
from consistent_gen.language.models import Message
from consistent_gen.persona import OrderSwapped, PairwiseJudge, Scripted
from consistent_gen.persona.evaluate.personaeval import (
    asked_of,
    parse_probabilities,
    qualify_judge,
    scripted_judge,
)
from consistent_gen.persona.evaluate.personaeval import (
    planted as planted_cases,
)
from consistent_gen.persona.evaluate.personaeval import (
    read_cases as read_who,
)
from consistent_gen.persona.evaluate.personafeedback import (
    FeedbackCase,
    LengthJudge,
    feedback_report,
    read_cases,
)
from consistent_gen.persona.evaluate.personagym import (
    TASKS,
    Grading,
    RubricJudge,
    parse_score,
    persona_score,
    read_questions,
    rubric_report,
    task_score,
    weighted_kappa,
)
from consistent_gen.persona.evaluate.personal_judge import (
    JudgedPair,
    PersonalJudge,
    accuracy,
    area_under_risk,
    choose_threshold,
    judge_report,
    parse_choice,
    read_outputs,
    risk_coverage,
)
from consistent_gen.persona.evaluate.personal_judge import (
    planted as planted_pairs,
)
from consistent_gen.persona.evaluate.prodigy import (
    read_characters,
    read_dialogues,
    read_partition,
    read_speakers,
    splits,
)

# PersonaGym --------------------------------------------------------------------------------------


def test_the_published_arithmetic_of_rubric_scores() -> None:
    assert parse_score("Good. Therefore, the final score is 4.") == 4
    assert parse_score("therefore the final score is **5**") == 5
    assert parse_score("The final score is high.") is None
    assert parse_score("Therefore, the final score is 9") is None
    # Two judges over two batches: zeros are left out, but a judge of zeros enters as 0.
    first = [5, 4, None, 4, 5, 3]
    second = [None, None, None, None, None, 5]
    batches = ((4.5 + 0.0) / 2, (3 + 5) / 2)
    assert task_score([first, second]) == pytest.approx(sum(batches) / 2)
    stated = dict(zip(TASKS, (4.37, 4.52, 3.98, 4.81, 4.88), strict=True))
    assert round(persona_score(stated), 2) == 4.51


def test_a_judge_who_fails_is_told_and_warned_of() -> None:
    judges = [
        RubricJudge(Scripted(Grading(unparsable=p), seed=s)) for s, p in enumerate((0.2, 0.0))
    ]
    task = "Linguistic Habits"
    rows = [[j.grade(task, "a cook", f"Q{n}", "Soup.")[0] for n in range(100)] for j in judges]
    alone = {m.name: m for m in rubric_report({task: rows[:1]}, [judges[0].name])}
    assert alone["parse rate"].value == pytest.approx(0.8, abs=0.1)
    assert "hold no score" in alone["parse rate"].note
    assert alone[task].failed == sum(g is None for g in rows[0])
    assert math.isnan(alone["judges' agreement"].value)  # nobody to agree with
    both = {m.name: m for m in rubric_report({task: rows}, [j.name for j in judges])}
    assert both[task].failed == 0
    assert both["judges' agreement"].value == 1.0  # both grade truly, where both grade
    assert weighted_kappa([(1, 1), (5, 5), (3, 3)]) == 1.0
    assert weighted_kappa([(1, 5), (5, 1)]) == -1.0
    assert math.isnan(weighted_kappa([]))


def test_a_judge_sees_every_example_whole() -> None:
    seen: list[str] = []

    def ask(messages: Sequence[Message], draw: random.Random) -> str:
        seen.append(messages[-1].content)
        return "Therefore, the final score is 2"

    judge = RubricJudge(Scripted(ask), {1: "Dunno.", 5: "Aye, the tide waits for none."})
    assert judge.grade("Linguistic Habits", "a sailor", "Well?", "Yes.")[0] == 2
    assert "Score 5: Aye, the tide waits for none." in seen[0]


def test_questions_are_read_in_the_published_format(tmp_path: Path) -> None:
    path = tmp_path / "A cook.json"
    path.write_text(json.dumps({task: ["Why?"] * 10 for task in TASKS}))
    assert list(read_questions(path)) == list(TASKS)
    path.write_text(json.dumps({"Wit": ["Why?"]}))
    with pytest.raises(InputError, match="Expected Action"):
        read_questions(path)


# PersonaFeedback ---------------------------------------------------------------------------------


def cases(count: int = 200) -> list[FeedbackCase]:
    return [
        FeedbackCase(n % 10 + 1, f"user {n % 10}", f"q{n}", f"for user {n % 10}, {n}",
                     f"for anybody at all, {n}", "specific", "hard")
        for n in range(count)
    ]  # fmt: skip


def test_a_judge_that_reads_the_profile_loses_without_it() -> None:
    def reads(context: str, first: str, second: str) -> float:
        profile = context.partition("\n")[0].removeprefix("Profile: ")
        fits = [f"for {profile}," in answer for answer in (first, second)]
        return 0.5 if fits[0] == fits[1] else float(fits[0])

    found = {m.name: m for m in feedback_report(cases(), OrderSwapped("reads", reads), 3)}
    assert found["specific hard, profile"].value == 1.0
    assert found["specific hard, no profile"].value == 0.5
    assert found["specific hard, another's profile"].value == 0.5
    assert found["specific hard, length alone"].value == 0.0
    # One that reads how good a reply sounds is unmasked: the wrong profile changes nothing.
    vain = OrderSwapped("vain", lambda c, a, b: float("anybody" not in a))
    blind = {m.name: m.value for m in feedback_report(cases(), vain, 3)}
    assert blind["specific hard, profile"] == blind["specific hard, another's profile"] == 1.0
    assert isinstance(LengthJudge(), PairwiseJudge)
    # Always the first answer: half right whatever the seed, since the side is drawn.
    first = OrderSwapped("first", lambda c, a, b: 1.0)
    assert feedback_report(cases(), first)[0].value == 0.5


def test_feedback_is_read_in_the_published_format(tmp_path: Path) -> None:
    for place in ("persona", "data/general", "data/spedific"):
        (tmp_path / place).mkdir(parents=True)
    people = [{"Name": "Ann"}, {"Name": "Bo"}]
    row = {"user_id": 2, "question": "q", "chosen": "c", "reject": "r"}
    (tmp_path / "persona/all_personas.jsonl").write_text("\n".join(map(json.dumps, people)))
    (tmp_path / "data/general/easy.jsonl").write_text(json.dumps(row))
    (tmp_path / "data/spedific/hard.jsonl").write_text(json.dumps(row))
    found = read_cases(tmp_path)
    assert [(c.kind, c.tier) for c in found] == [("general", "easy"), ("specific", "hard")]
    assert "Bo" in found[0].profile
    (tmp_path / "data/general/easy.jsonl").write_text(json.dumps(row | {"user_id": 3}))
    with pytest.raises(InputError, match="user 3 of 2"):
        read_cases(tmp_path)
    (tmp_path / "data/general/easy.jsonl").write_text('{"user_id": 1}')
    with pytest.raises(InputError, match="line 1: question, chosen, reject missing"):
        read_cases(tmp_path)


# PRODIGy -----------------------------------------------------------------------------------------


def test_splits_are_named_by_whom_they_share(tmp_path: Path) -> None:
    ann = {"character_name": "ANN", "movie_name": "x", "gender": "female", "mbti": "introvert"}
    people = {f"u{n}": {**ann, "biography": ["I sail."]} for n in range(6)}
    (tmp_path / "characters.json").write_text(json.dumps(people))
    characters = read_characters(tmp_path / "characters.json")
    assert characters["u3"].name == "Ann" and characters["u3"].statements[0].text == "I sail."
    lines = [f"u{n // 2} +++$+++ u9 +++$+++ m0 +++$+++ ['L1']" for n in range(10)]
    (tmp_path / "movie_conversations.txt").write_text("\n".join(lines))
    everybody = read_speakers(tmp_path / "movie_conversations.txt")
    speakers = {d: [c for c in ids if c in characters] for d, ids in everybody.items()}
    sides = ("train_dialogues", "valid_dialogues", "test_dialogues")
    apart = dict(zip(sides, (["c0", "c1", "c2", "c3"], ["c4", "c5"], ["c6", "c7"]), strict=True))
    mixed = dict(zip(sides, (["c0", "c2", "c4"], ["c6"], ["c1", "c3", "c7"]), strict=True))
    for name, table in (("inter", apart), ("intra", mixed)):
        (tmp_path / f"{name}.json").write_text(json.dumps(table))
    # Which file it is called does not matter.
    swapped = {"inter": read_partition(tmp_path / "intra.json"),
               "intra": read_partition(tmp_path / "inter.json")}  # fmt: skip
    found = splits(swapped, speakers)
    assert (found["unseen"].file, found["unseen"].overlap) == ("intra", 0.0)
    assert found["seen"].overlap == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="no partition keeps"):
        splits({"inter": swapped["inter"]}, speakers)
    with pytest.raises(InputError, match="nobody is known"):
        splits(swapped, {})
    (tmp_path / "intra.json").write_text(json.dumps(apart | {"test_dialogues": ["c0"]}))
    with pytest.raises(InputError, match="two sides"):
        read_partition(tmp_path / "intra.json")


CORNELL = """\
L1 +++$+++ u0 +++$+++ m0 +++$+++ ANN +++$+++ Do you sail?
L2 +++$+++ u9 +++$+++ m0 +++$+++ BO +++$+++ Caf\u00e9 first.
L3 +++$+++ u0 +++$+++ m0 +++$+++ ANN +++$+++
L4 +++$+++ u0 +++$+++ m0 +++$+++ ANN +++$+++ I said: it is false that I sail.
"""


def test_dialogues_of_the_corpus_that_the_ids_point_into(tmp_path: Path) -> None:
    ann = {"character_name": "ANN", "movie_name": "x", "gender": "female", "mbti": "introvert"}
    people = tmp_path / "characters.json"
    people.write_text(json.dumps({"u0": {**ann, "biography": ["I sail."]}}))
    lines, talks = tmp_path / "movie_lines.txt", tmp_path / "movie_conversations.txt"
    lines.write_text(CORNELL, encoding="latin-1")
    talks.write_text(
        "u8 +++$+++ u9 +++$+++ m0 +++$+++ ['L2', 'L2']\n"
        "u0 +++$+++ u9 +++$+++ m0 +++$+++ ['L1', 'L2', 'L3', 'L4']\n"
    )
    found = read_dialogues(talks, lines, read_characters(people))
    assert list(found) == ["c1"]  # counted from 0; nobody with a profile speaks in c0
    spoken = found["c1"]
    assert [turn.speaker for turn in spoken.transcript.turns] == ["u0", "u9", "u0"]
    assert spoken.transcript.turns[1].text == "Caf\u00e9 first." and list(spoken.characters) == [
        "u0"
    ]
    talks.write_text("u0 +++$+++ u9 +++$+++ m0 +++$+++ ['L7']\n")
    with pytest.raises(InputError, match="line 1: L7 not in"):
        read_dialogues(talks, lines, read_characters(people))
    lines.write_text("L1\tu0\tm0\tANN\tHi.\n")
    with pytest.raises(InputError, match=r"line 1 has 1 columns between '\+\+\+\$.*expected 5"):
        read_dialogues(talks, lines, read_characters(people))


# PersonaEval -------------------------------------------------------------------------------------


def test_who_may_judge() -> None:
    who, truth = planted_cases(1, 300, 5)
    oracle = qualify_judge("oracle", scripted_judge(1.0, truth), who, "Drama")
    assert oracle.qualified and oracle.top1.value == 1.0
    even = qualify_judge("even", lambda p, o, d: [0.2] * 5, who, "Drama")
    first = qualify_judge("first", lambda p, o, d: [1.0, 0, 0, 0, 0], who, "Drama")
    for card in (even, first):  # chance, whatever order the options come in
        assert not card.qualified
        assert card.top1.value == pytest.approx(0.2, abs=0.07)
        assert "NOT qualified" in str(card)
    calibrated = qualify_judge("calibrated", scripted_judge(0.7, truth, 4), who, "Drama")
    told = {m.name: m for m in calibrated.measurements}
    assert told["ECE"].value < 0.06  # of 300 cases
    assert told["top-2"].value > calibrated.top1.value
    mute = qualify_judge("mute", lambda p, o, d: None, who, "Drama")
    assert mute.top1.value == 0.0 and mute.measurements[-1].value == 1.0
    with pytest.raises(InputError, match="no cases"):
        qualify_judge("oracle", scripted_judge(1.0, truth), [], "Drama")


def test_a_model_answers_as_many_options_as_there_are(tmp_path: Path) -> None:
    assert parse_probabilities('So: {"1": 0.5, "2": 0.5}', 2) == [0.5, 0.5]
    for bad in ("", "{}", '{"1": 0.5, "2": 0.6}', '{"1": -1, "2": 2}', '{"1": 1}'):
        assert parse_probabilities(bad, 2) is None
    path = tmp_path / "Expertise.csv"
    head = ["prompt", "gt", *(f"option{i}{s}" for i in range(1, 6) for s in ("", "_profile"))]
    cells = ["Who?", "E", *(x for n in "ABCDE" for x in (n, f"about {n}"))]
    path.write_text(",".join(head) + "\n" + ",".join(cells) + "\n")
    (case,) = read_who(path)
    assert case.truth == 4 and len(case.options) == 5
    reply = json.dumps({str(i): float(i == 5) for i in range(1, 6)})
    ask = asked_of(Scripted(lambda m, d: reply))
    assert ask(case.prompt, case.options, case.profiles) == [0, 0, 0, 0, 1.0]
    path.write_text(",".join(head) + "\n" + ",".join(["Who?", "Z", *cells[2:]]) + "\n")
    with pytest.raises(InputError, match="line 2"):
        read_who(path)
    path.write_text("prompt,answer\n")
    with pytest.raises(InputError, match="expected prompt, gt"):
        read_who(path)


# The personalised judge --------------------------------------------------------------------------


def test_a_threshold_that_reaches_its_target_on_held_out_items() -> None:
    def rising(c: float) -> float:
        return 0.5 + 0.45 * c / 100

    pairs = planted_pairs(1, rising, 2000)
    curve = risk_coverage(pairs)
    assert curve[0].coverage == 1.0 and curve[-1].coverage < 0.02
    coarse = [accuracy(pairs, c)[0] for c in (1, 30, 60, 90)]
    assert coarse == sorted(coarse)
    threshold = choose_threshold(pairs)
    assert threshold is not None and threshold > 20
    assert accuracy(planted_pairs(2, rising, 4000), threshold)[0] >= 0.79
    assert area_under_risk(curve) < 1.0 - accuracy(pairs)[0]


def test_a_right_threshold_is_hardly_ever_refused() -> None:
    """The lowest certainty for 80 % is about 55 here; which half chooses it is luck."""
    worlds = [planted_pairs(s, lambda c: 0.95 if c > 70 else 0.5) for s in range(20)]
    found = [choose_threshold(pairs) for pairs in worlds]
    given = [threshold for threshold in found if threshold is not None]
    assert len(given) >= 19
    assert 50 <= sum(given) / len(given) <= 62


def test_worthless_certainty_gets_no_threshold() -> None:
    alarms = [choose_threshold(planted_pairs(s, lambda c: 0.6)) is not None for s in range(40)]
    assert sum(alarms) <= 3
    report = judge_report("coin", planted_pairs(1, lambda c: 0.6))
    assert any("no threshold" in m.note for m in report)
    assert choose_threshold(planted_pairs(1, lambda c: 0.95)) is not None  # good as it is
    unread = judge_report("mute", [JudgedPair(True, math.nan)] * 50)
    assert next(m for m in unread if m.name == "certainty unreadable").value == 1.0


def test_the_judge_asks_both_orders_and_may_abstain() -> None:
    def reply(certainty: int, prefers: str) -> Scripted:
        def ask(messages: Sequence[Message], draw: random.Random) -> str:
            text = messages[-1].content
            a = text.partition("Answer A: ")[2].partition("\n")[0]
            side = {"first": "A", "tea": "A" if a == "tea" else "B"}[prefers]
            return f"[[{side}]] [[{certainty}]]"

        return Scripted(ask)

    sure = PersonalJudge(reply(90, "tea"), threshold=80).compare("p", "tea", "gin")
    assert (sure.p_a, sure.abstained) == (1.0, False)
    assert PersonalJudge(reply(90, "tea")).compare("p", "gin", "tea").p_a == 0.0
    assert PersonalJudge(reply(30, "tea"), threshold=80).compare("p", "tea", "gin").abstained
    flipped = PersonalJudge(reply(90, "first")).compare("p", "tea", "gin")
    assert flipped.abstained and flipped.flipped
    mute = PersonalJudge(Scripted(lambda m, d: "Tea, I suppose."))
    assert mute.compare("p", "tea", "gin").abstained and mute.failures == 1
    assert parse_choice("[[b]] then [[7]]") == (0.0, 7.0)
    assert parse_choice("[[A]] [[101]]") is None


def test_published_outputs_are_read(tmp_path: Path) -> None:
    row = {"prompt": "", "answer": "A", "certainty": "85", "acc": 1, "ground_truth": "A"}
    path = tmp_path / "ap.jsonl"
    path.write_text(json.dumps(row | {"res": ""}) + "\n" + json.dumps(row | {"certainty": "?"}))
    pairs = read_outputs(path)
    assert pairs[0] == JudgedPair(True, 85.0) and math.isnan(pairs[1].certainty)
    path.write_text('{"prompt": ""}')
    with pytest.raises(InputError, match="line 1: answer, certainty, acc"):
        read_outputs(path)
