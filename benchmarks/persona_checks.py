"""The checks of persona papers that no file of somebody else's is needed for, as figures.

`python -m benchmarks.persona_checks [--out FILE.json]`

Each plants a world in which the answer is known and runs our measure on it; what must come out is
held by the test that docs/systems.md names in the same row. Seeds are fixed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from consistent_gen.checkpoints import write_json
from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.persona.evaluate import persobench, personaeval, personafeedback
from consistent_gen.persona.evaluate.conflicts import fairness
from consistent_gen.persona.evaluate.eval4sim import eval4sim, fit_reference, scripted_corpus
from consistent_gen.persona.evaluate.pair_scorer import LexicalPairs
from consistent_gen.persona.judging import OrderSwapped
from consistent_gen.persona.population.cohorts import cohort_agreement, scripted_pupils

Values = dict[str, float]


def personafeedback_arms() -> Values:
    """A judge that reads profiles and nothing else, with the right profile and with another's."""
    cases = [
        personafeedback.FeedbackCase(n % 20 + 1, f"user {n % 20}", f"q{n}", f"for user {n % 20}!",
                                     "for anybody", "general", "easy")
        for n in range(240)
    ]  # fmt: skip

    def reads(context: str, first: str, second: str) -> float:
        profile = context.partition("\n")[0].removeprefix("Profile: ")
        fits = [f"for {profile}!" in answer for answer in (first, second)]
        return 0.5 if fits[0] == fits[1] else float(fits[0])

    report = personafeedback.feedback_report(cases, OrderSwapped("reads", reads), 3)
    return {m.name.removeprefix("general easy, "): m.value for m in report}


def hachimi_cohorts() -> Values:
    """Spearman of constructs with a planted agreement, none, and the wrong way round."""
    planted = {"agrees": 1.0, "noise": 0.0, "wrong way": -1.0}
    report = cohort_agreement(*scripted_pupils(1, planted))
    return {name: report[f"{name}, Spearman"].value for name in planted}


def persobench_failures() -> Values:
    """A fifth of the outputs malformed, by ten seeds: what the failure ratio says."""
    found = [persobench.recovery(seed, 0.2).value for seed in range(10)]
    return {"planted": 0.2, "found": sum(found) / len(found)}


def eval4sim_corpora() -> Values:
    """The lowest of the three scores of a second human-like corpus, and its smallest lead in any of
    them over a corpus that shows too little of a persona, or copies it.
    """
    embedder, scorer, sizes = HashedNgrams(), LexicalPairs(), (6, 12, 24, 40)
    human = fit_reference(scripted_corpus("human"), embedder, scorer, sizes)
    scores = {
        kind: [m.value for m in eval4sim(scripted_corpus(kind, 1), human, embedder, scorer)][:3]
        for kind in ("human", "under", "over")
    }
    leads = [
        mine - theirs
        for kind in ("under", "over")
        for mine, theirs in zip(scores["human"], scores[kind], strict=True)
    ]
    return {"human, lowest": min(scores["human"]), "smallest lead": min(leads)}


def personaeval_judges() -> Values:
    """Top-1 of an oracle and of judges that know nothing, and the ECE of a calibrated one."""
    cases, truth = personaeval.planted(1, 2000, 5)

    def card(name: str, ask: personaeval.Ask) -> personaeval.JudgeCard:
        return personaeval.qualify_judge(name, ask, cases, "planted")

    calibrated = card("calibrated", personaeval.scripted_judge(0.7, truth))
    ece = next(m.value for m in calibrated.measurements if m.name.startswith("ECE"))
    return {
        "oracle": card("oracle", personaeval.scripted_judge(1.0, truth)).top1.value,
        "uniform": card("uniform", lambda p, shown, d: [1 / len(shown)] * len(shown)).top1.value,
        "first": card("first", lambda p, shown, d: [1.0] + [0.0] * (len(shown) - 1)).top1.value,
        "ECE of a calibrated one": ece,
    }


def contradicting_metrics() -> Values:
    """Parity and equal opportunity of truthful answers at base rates of 0.6 and 0.2: no rule of
    answering has both, and a report keeps both.
    """
    a = [(True, True)] * 6 + [(False, False)] * 4
    b = [(True, True)] * 2 + [(False, False)] * 8
    return {m.name: m.value for m in fairness({"a": a, "b": b})}


CHECKS: dict[str, Callable[[], Values]] = {
    "personafeedback": personafeedback_arms,
    "hachimi": hachimi_cohorts,
    "persobench": persobench_failures,
    "eval4sim": eval4sim_corpora,
    "personaeval": personaeval_judges,
    "contradiction": contradicting_metrics,
}


def main(argv: list[str] | None = None) -> None:
    """Print every check's values."""
    parser = argparse.ArgumentParser(description="Checks of persona papers on planted worlds.")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    found = {name: check() for name, check in CHECKS.items()}
    for name, values in found.items():
        print(f"{name}: {', '.join(f'{key} {value:.3f}' for key, value in values.items())}")
    if options.out is not None:
        write_json(options.out, found)


if __name__ == "__main__":
    main()
