"""Personas: made with guarantees, talked with, and measured by metrics that find what was planted.

`persona`, `transcript`, `measurement`, `judging` and `scripted` are the kernel that everything
shares; `population` makes personas, `simulate` lets them talk, `evaluate` measures them.
"""

from consistent_gen.persona.judging import Choice, Nli, OrderSwapped, PairScorer, PairwiseJudge
from consistent_gen.persona.measurement import (
    Comparison,
    MeasuredItem,
    Measurement,
    PersonaReport,
    pareto,
)
from consistent_gen.persona.persona import BIG_FIVE, Persona, Statement
from consistent_gen.persona.scripted import Behaviour, Scripted
from consistent_gen.persona.transcript import Transcript, Utterance, project

__all__ = [
    "BIG_FIVE",
    "Behaviour",
    "Choice",
    "Comparison",
    "MeasuredItem",
    "Measurement",
    "Nli",
    "OrderSwapped",
    "PairScorer",
    "PairwiseJudge",
    "Persona",
    "PersonaReport",
    "Scripted",
    "Statement",
    "Transcript",
    "Utterance",
    "pareto",
    "project",
]  # fmt: skip
