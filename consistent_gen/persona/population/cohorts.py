"""Do made people answer as people do, group by group? HACHIMI's external check (arXiv 2603.04855).

Everybody of a population answers a questionnaire ("shadow"); the means of its groups (cohorts) are
compared with those of a survey of people. Each construct is told by itself: the paper finds some
near 0.9 and others at zero or below, and a mean over constructs would hide the second kind.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from statistics import fmean

from consistent_gen.errors import InputError, all_of
from consistent_gen.persona.measurement import Measurement, PersonaReport
from consistent_gen.persona.statistics import correlation

LEAST = 4  # cohorts; a correlation of fewer says nothing


def cohort_agreement(
    made: Mapping[str, Mapping[str, Sequence[float]]],
    people: Mapping[str, Mapping[str, float]],
    subject: str = "population",
) -> PersonaReport:
    """By construct: Spearman's and Pearson's correlation of cohort means with those of people.

    made: answers by construct and cohort, an answer per persona. people: means of the survey, by
    construct and cohort. Where an interval does not lie above 0, the note calls it weak.

    Raises:
        InputError: a construct without the same cohorts on both sides, with too few of them, or
            with a cohort that nobody answers in; all of them at once.
    """
    wrong = []
    for construct in sorted(made.keys() ^ people.keys()):
        wrong.append(InputError(f"{construct!r} is on one side only"))
    for construct in sorted(made.keys() & people.keys()):
        unlike = sorted(made[construct].keys() ^ people[construct].keys())
        empty = sorted(name for name, answers in made[construct].items() if not answers)
        if unlike:
            wrong.append(InputError(f"{construct!r}: {', '.join(unlike[:5])} on one side only"))
        if empty:
            wrong.append(InputError(f"{construct!r}: nobody of {', '.join(empty[:5])} answers"))
        if len(people[construct]) < LEAST:
            told = f"{len(people[construct])} cohorts; expected {LEAST} or more"
            wrong.append(InputError(f"{construct!r} has {told}"))
    if wrong:
        raise all_of(wrong)
    found = []
    for construct in made:
        cohorts = sorted(people[construct])
        ours = [fmean(made[construct][name]) for name in cohorts]
        theirs = [people[construct][name] for name in cohorts]
        for name, ranks in (("Spearman", True), ("Pearson", False)):
            r = correlation(ours, theirs, ranks=ranks)
            note = "as people answer" if r.low > 0.0 else "weak: no agreement is shown"
            name = f"{construct}, {name}"
            found.append(Measurement(name, r.value, r.low, r.high, r.n, null=0.0, note=note))
    return PersonaReport(subject, tuple(found))


# What is planted.


def scripted_pupils(
    seed: int, signal: Mapping[str, float], cohorts: int = 16, pupils: int = 30
) -> tuple[dict[str, dict[str, list[float]]], dict[str, dict[str, float]]]:
    """Answers of pupils and means of people. signal: by construct, how far a cohort's mean in the
    survey moves what its pupils answer; 0 is noise, below 0 the wrong way.
    """
    rng = random.Random(f"cohorts {seed}")
    people = {
        construct: {f"cohort {n}": rng.gauss(0.0, 1.0) for n in range(cohorts)}
        for construct in signal
    }
    made = {
        construct: {
            name: [strength * mean + rng.gauss(0.0, 1.0) for _ in range(pupils)]
            for name, mean in people[construct].items()
        }
        for construct, strength in signal.items()
    }
    return made, people
