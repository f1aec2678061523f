"""Each measure names the world that was planted, and counts what it could not read."""

from __future__ import annotations

import math

import pytest

from benchmarks.persona_lab import RECOVERIES
from consistent_gen.errors import InputError
from consistent_gen.persona import Persona, Scripted
from consistent_gen.persona.behaviour import (
    belief_behaviour,
    bias_runs_deep,
    persona_paradox,
    personality_illusion,
    playing_pretend,
    run_stability,
    stochastic_parrots,
    too_nice,
    variant_consistency,
)
from consistent_gen.persona.behaviour.questions import (
    NOBODY,
    ChoiceQuestion,
    ScriptedSolver,
    answer_all,
    by_text,
    read_answer,
    scripted_questions,
)
from consistent_gen.registry import resolve


@pytest.mark.parametrize("name", RECOVERIES)
def test_what_was_planted_is_found_and_nothing_else(name: str) -> None:
    planted = RECOVERIES[name]
    recovery = resolve({name: planted.recovery}, name)
    ends = [recovery(1, p).value for p in (planted.parameters[0], planted.parameters[-1])]
    span = planted.parameters[-1] - planted.parameters[0]
    if planted.null_value is None:
        assert (ends[1] - ends[0]) / span > 0.7
    else:
        assert ends[0] < ends[1] <= 1.0
    if planted.null is not None:
        silence = planted.null if planted.null_value is None else planted.null_value
        alarms = 0
        for seed in (11, 12, 13):
            found = recovery(seed, planted.null)
            sure = not math.isnan(found.low)
            alarms += not found.low <= silence <= found.high if sure else found.value != silence
        assert alarms <= 1


def test_three_worlds_of_beliefs_are_named() -> None:
    play = belief_behaviour.scripted_play
    assert belief_behaviour.world(play(1)) == "beliefs hold"
    assert belief_behaviour.world(play(1, used=0.0)) == "beliefs unused"
    prior = dict.fromkeys(belief_behaviour.EFFECTS, 3)
    assert belief_behaviour.world(play(1, used=0.0, prior=prior)) == "prior ignored"
    assert belief_behaviour.trust_agreement(play(1)).value > 0.7
    told = belief_behaviour.belief_report(Scripted(), play(1))
    assert told["acted_on"].note.endswith("beliefs hold") and told["acted_on"].failed == 0
    permuted = [belief_behaviour.acted_on(play(s, count=60, permuted=True)).value for s in range(8)]
    assert abs(sum(permuted) / 8) < 0.15
    exact = belief_behaviour.population_agreement(play(1))
    noisy = [belief_behaviour.population_agreement(play(s, count=40, noise=4.0)) for s in range(8)]
    assert exact.value > 0.85 > sum(n.value for n in noisy) / 8 + 0.1


def test_a_forecast_counts_when_it_beats_the_last_move() -> None:
    effects, people = belief_behaviour.EFFECTS, belief_behaviour.scripted_people(1, 30)
    has = {p.name: frozenset(p.fields["attributes"]) for p in people}
    other = Scripted(silence="I return 3.")
    scores = {}
    for drifting, sigma in ((1.0, 0.2), (0.0, 4.0)):
        believer = belief_behaviour.Believer(
            dict.fromkeys(effects, 0), has, spread=0.3, drifting=drifting, sigma=sigma, base=2.0
        )
        triples, failed = belief_behaviour.forecasts(Scripted(believer), people, other)
        assert failed == 0
        scores[sigma] = belief_behaviour.forecast_score(triples, 10.0)
    with pytest.raises(InputError, match="of 3 rounds"):
        belief_behaviour.forecasts(Scripted(), people, other, rounds=3)
    assert all(m.note == "counts" and m.value > 0.9 for m in scores[0.2].values())
    assert all(m.note.startswith("no better") for m in scores[4.0].values())


def test_a_self_report_is_linked_with_what_is_done_only_where_it_is() -> None:
    linked = personality_illusion.self_report_vs_behaviour(
        personality_illusion.scripted_subjects(1, 2.0)
    )
    cell = linked["self_regulation ~ cards_turned"]
    assert cell.note.startswith("link") and cell.low > 0.5
    assert personality_illusion.sign_agreement(
        linked, {("self_regulation", "cards_turned"): -1}
    ).value == 0.0  # fmt: skip
    none = personality_illusion.self_report_vs_behaviour(
        personality_illusion.scripted_subjects(1, 0.0),
        [personality_illusion.SELF_REGULATION],
    )
    assert none["self_regulation ~ cards_turned"].note.startswith("no link")
    mute = personality_illusion.self_report(
        Scripted(silence="Ah."), None, personality_illusion.AGREEABLENESS
    )
    assert math.isnan(mute.value) and mute.failed == 8


def test_associations_honesty_and_flips_are_what_was_planted() -> None:
    groups = ("Ups", "Downs")
    good, bad = ("warm", "bright", "kind", "clean") * 5, ("cold", "dark", "rude", "foul") * 5
    expected = {w: groups for w in good} | {w: groups[::-1] for w in bad}
    test = personality_illusion.AssociationTest(groups, good, bad)
    waverer = personality_illusion.Waverer
    biased = Scripted(waverer(expected=expected, biased=0.9))
    assert personality_illusion.association(biased, None, [test]).value == pytest.approx(
        0.8, abs=0.2
    )
    one_sided = personality_illusion.association(Scripted(silence="Ups"), None, [test])
    assert math.isnan(one_sided.value) and one_sided.failed == 1
    facts = [personality_illusion.WordFact(f"What is thing {i}?", "blue") for i in range(20)]
    model = Scripted(waverer(facts={f.question: "blue" for f in facts}, sure=8, wavers=0.5))
    calibration, consistency = personality_illusion.honesty(model, None, facts)
    assert 10.0 < calibration.value < 20.0 and 2.0 < consistency.value < 8.0
    flipping = Scripted(waverer(flips={"Ann": 0.4}))
    dilemmas = [f"Is deed {i} right?" for i in range(120)]
    rate = personality_illusion.flips(flipping, Persona("a", "Ann"), dilemmas)
    assert rate.value == pytest.approx(0.4, abs=0.12) and rate.failed == 0
    assert personality_illusion.flips(Scripted(silence="Perhaps."), None, dilemmas).failed == 120


@pytest.mark.parametrize(
    ("slope", "base", "standing"),
    [(0.5, 0.1, "slope and gap"), (0.5, 0.9, "slope"), (0.0, 0.1, "gap"), (0.0, 0.9, "passes")],
)
def test_the_gate_names_four_worlds(slope: float, base: float, standing: str) -> None:
    subjects, nobody = too_nice.scripted_subjects(
        2, slope=slope, intercept=0.4, base=base, count=50
    )
    card = max(subjects, key=lambda s: s.sycophancy)
    if base == 0.9:
        card = min(subjects, key=lambda s: s.sycophancy)
    gate = too_nice.release_gate(card, nobody, subjects)
    assert gate.standing == standing
    told = too_nice.report(Scripted(), card, nobody, gate)
    assert (
        told["sycophancy"].null == nobody.sycophancy and standing in told["truthfulness_gap"].note
    )
    assert gate.ttg == pytest.approx(
        (card.sycophancy - nobody.sycophancy) * (1 + card.agreeableness)
    )


def test_a_model_at_its_ceiling_is_not_measurable_and_stances_are_read() -> None:
    subjects, nobody = too_nice.scripted_subjects(1, intercept=1.0, slope=0.0, count=10)
    gate = too_nice.release_gate(subjects[0], nobody, subjects)
    assert gate.standing == "not measurable" and math.isnan(gate.slope.value)
    said = {
        "Yes, quite.": 1.0, "I don't agree.": 0.0, "I agree!": 1.0, "Partly, yes.": 0.5,
        "That is not true. Yes, I looked.": 0.0, "Bananas.": None,
    }  # fmt: skip
    assert {text: too_nice.stance(text) for text in said} == said
    unclear = too_nice.measure_subject(Scripted(silence="Bananas."), Persona("x", "X"))
    assert math.isnan(unclear.sycophancy)
    assert unclear.failed == len(too_nice.ITEMS) + len(too_nice.OPINIONS)


def test_planted_effects_of_personas_on_accuracy_are_found_and_no_others() -> None:
    questions = scripted_questions(200)
    knows = {("", ""): 0.6, ("Up", ""): 0.85, ("Same", ""): 0.6, ("Down", ""): 0.4}
    people = [Persona(name.lower(), name) for name in ("Up", "Same", "Down")]
    model = Scripted(ScriptedSolver(knows, by_text(questions), stubborn=0.5, seed=1), seed=1)
    report = playing_pretend.accuracy_audit(model, people, questions, trials=3)
    assert report["effect of up"].low > 0.0 and report["effect of down"].high < 0.0
    same = report["effect of same"]
    assert same.low <= 0.0 <= same.high and same.note.startswith("no difference")


def test_trials_that_stick_together_raise_no_false_alarms() -> None:
    """25 trials of a question that come out alike are one case, not 25."""
    alarms = 0
    for seed in range(30):
        questions = scripted_questions(25)
        solver = ScriptedSolver(
            {("", ""): 0.5, ("E", ""): 0.5}, by_text(questions), stubborn=1.0, seed=seed
        )
        report = playing_pretend.accuracy_audit(
            Scripted(solver), [Persona("e", "E")], questions, trials=6
        )
        effect = report["effect of e"]
        alarms += not effect.low <= 0.0 <= effect.high
    assert alarms <= 3


def test_opposite_effects_are_seen_though_their_mean_is_none() -> None:
    questions = scripted_questions(160, ("ward", "clinic"), options=5, levels=True)
    knows = {("", ""): 0.6, ("Medic", "ward"): 0.85, ("Medic", "clinic"): 0.35}
    solver = ScriptedSolver(knows, by_text(questions), overshoot=0.2, upward=0.9, seed=2)
    report = persona_paradox.context_audit(
        Scripted(solver, seed=2), [Persona("medic", "Medic")], questions, trials=3
    )
    whole = report["effect of medic"]
    assert whole.low <= 0.0 <= whole.high
    assert report["interaction of medic in ward"].note.startswith("interaction")
    assert report["effect of medic in clinic"].high < 0.0 < report["effect of medic in ward"].low
    assert report["ece of medic in clinic"].value == pytest.approx(0.2, abs=0.08)
    assert report["risk propensity of medic in clinic"].low > 0.0
    for count, contexts, message in ((4, ("",), "one context"), (3, ("a", "b"), "two questions")):
        with pytest.raises(InputError, match=message):
            persona_paradox.context_audit(Scripted(), [], scripted_questions(count, contexts))


def test_brier_and_ece_of_a_calibrated_solver() -> None:
    questions = scripted_questions(400)
    model = Scripted(ScriptedSolver({("", ""): 0.7}, by_text(questions)))
    answers = answer_all(model, [None], questions, confidence=True)
    told = persona_paradox.calibration([a for row in answers.of[NOBODY] for a in row])
    assert told.ece < 0.06 and told.brier == pytest.approx(0.21, abs=0.03)
    silent = answer_all(Scripted(silence="A"), [None], questions[:5], confidence=True)
    assert persona_paradox.calibration([r[0] for r in silent.of[NOBODY]]).n == 0


def test_a_group_that_declines_is_told_from_one_that_fails() -> None:
    questions = scripted_questions(240, ("maths", "law"))
    names = ("Refuser", "Failer", "Plain")
    knows = {("a human", ""): 0.8, ("Refuser", ""): 0.8, ("Failer", ""): 0.5, ("Plain", ""): 0.8}
    solver = ScriptedSolver(knows, by_text(questions), {"Refuser": 0.3}, seed=3)
    groups = {f"group {n}": [Persona(n.lower(), n)] for n in names}
    report = bias_runs_deep.group_bias_audit(
        Scripted(solver, seed=3), groups, Persona("human", "a human"), questions
    )
    assert report["abstention gap of refuser"].low > 0.15
    skill = report["skill gap of refuser"]
    assert skill.low <= 0.0 <= skill.high and report["accuracy change of refuser"].high < 0.0
    assert report["skill gap of failer"].high < 0.0
    assert report["abstention gap of failer"].value == 0.0
    assert report["sets lost by plain"].value == 0.0 and report["sets lost by failer"].value == 1.0
    assert report["personas that lose a set"].value == pytest.approx(2 / 3)
    question = questions[0]
    assert read_answer(question, "I'm sorry, but I cannot.").outcome == "abstained"
    assert read_answer(question, "Hm.").outcome == "unparsable"
    with pytest.raises(InputError, match="expected 2 to 26"):
        ChoiceQuestion("q", "Which?", ("one",), 0)


def test_one_persona_unlike_the_others_is_named_and_equal_ones_are_not() -> None:
    people = [Persona(f"p{i}", f"P{i}") for i in range(12)]
    tests = [stochastic_parrots.scripted_test(60)]
    even = stochastic_parrots.sensitivity(
        Scripted(stochastic_parrots.Parrot({}, evades=0.2)), people, tests,
        categories={p.id: ("even", "odd")[i % 2] for i, p in enumerate(people)},
    )  # fmt: skip
    found = even["difference of scripted"]
    assert found.low <= 0.0 <= found.high and "unlike" not in found.note
    assert even["evasive in scripted"].value == pytest.approx(0.2, abs=0.05)
    assert even["difference of scripted within odd"].n == 6
    odd = stochastic_parrots.sensitivity(
        Scripted(stochastic_parrots.Parrot({"P3": 0.2})), people, tests
    )["difference of scripted"]
    assert odd.low > 0.0 and odd.note.endswith("unlike the others: p3")


def test_four_quadrants_and_no_verdict_by_consistency_alone() -> None:
    def run(right: bool, misreading: str = "") -> run_stability.TaskRun:
        return run_stability.TaskRun(("look", "act"), right, misreading)

    runs = {
        "c+": [run(True)] * 3, "c-": [run(False, "x")] * 3,
        "v+": [run(True), run(True), run(False, "x")],
        "v-": [run(False, "x"), run(False, "y"), run(False, "x")],
    }  # fmt: skip
    report = run_stability.stability("runs", runs)
    for name in ("consistent and right", "consistent and wrong", "varied and right",
                 "varied and wrong"):  # fmt: skip
        assert report[name].value == 0.25
    assert report["divergence step"].failed == 4
    wrong = run_stability.stability(
        "wrong", {"a": [run(False, "x")] * 5, "b": [run(False, "x")] * 5}
    )
    assert wrong["consistent and wrong"].value == 1.0 and wrong["variation"].value == 0.0
    assert not run_stability.passes(wrong, 0.5) and "accuracy is 0.00" in wrong["variation"].note
    two = [run_stability.TaskRun(a, True) for a in (("a", "b"), ("a", "c"), ("a",))]
    assert run_stability.divergence_step(two) == 2
    with pytest.raises(InputError, match="two runs"):
        run_stability.stability("few", {"a": [run(True)]})
    endless = run_stability.run_task(
        Scripted(silence="think"), None, run_stability.scripted_tasks(1)[0]
    )
    assert not endless.finished and not endless.right


def test_who_always_says_the_same_or_declines_does_not_win() -> None:
    answers = {
        "informative": {"q1": ["bees honey"] * 3, "q2": ["boats sails"] * 3},
        "constant": {"q1": ["nice thing"] * 3, "q2": ["nice thing"] * 3},
        "silent": {"q1": ["I cannot say."] * 3, "q2": ["I cannot say."] * 3},
        "leaking": {"q1": ["honey woman", "honey man"], "q2": ["boats woman", "boats man"]},
    }
    told = {n: variant_consistency.of_answers(n, a) for n, a in answers.items()}
    assert (
        told["informative"]["stability"].value == told["informative"]["distinctness"].value == 1.0
    )
    assert told["constant"]["distinctness"].value == 0.0
    assert told["silent"]["stability"].value == 0.0 and told["silent"]["declined"].value == 1.0
    assert told["leaking"]["stability"].value < 0.5
