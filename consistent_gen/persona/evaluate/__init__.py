"""Measuring personas: does somebody keep to what is true of them, and who may judge it.

Every measure is held to planted truth: `RECOVERIES` names, for each, a function
`recovery(seed, parameter) -> Measurement` that plants the parameter in scripted models and measures
them as a user would, the parameters to plant, and the one at which there is nothing to find.
"""

from __future__ import annotations

_HERE = "consistent_gen.persona.evaluate"
# name -> (recovery, planted parameters, null or None where that is no possible world)
RECOVERIES: dict[str, tuple[str, tuple[float, ...], float | None]] = {
    "broken_statements": (f"{_HERE}.faithfulness:recovery", (0.0, 0.2, 0.4, 0.7), 0.0),
    "contradicting_replies": (f"{_HERE}.reply_consistency:recovery", (0.0, 0.2, 0.4, 0.7), 0.0),
    "malformed_replies": (f"{_HERE}.persobench:recovery", (0.0, 0.2, 0.4, 0.7), 0.0),
    "naturalness": (f"{_HERE}.eval4sim:recovery", (0.0, 0.2, 0.4, 0.7), None),
    "judge_parse_rate": (f"{_HERE}.personagym:recovery", (0.3, 0.6, 0.8, 1.0), None),
    "judge_reads_profile": (f"{_HERE}.personafeedback:recovery", (0.5, 0.65, 0.8, 0.95), 0.5),
    "judge_knows_speaker": (f"{_HERE}.personaeval:recovery", (0.25, 0.5, 0.7, 0.9), 0.25),
    "judge_certainty": (f"{_HERE}.personal_judge:recovery", (0.5, 0.65, 0.8, 0.95), 0.5),
}
