"""The systems this project grew from, and what of each runs today: the page `docs/systems.md`.

The page is made by ``python -m benchmarks.systems > docs/systems.md``; a test holds the two
together, and that what a row names is there. A cell is empty where nothing runs yet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from benchmarks.tables import RESULTS, table

HEAD = """\
# Systems

Made by `python -m benchmarks.systems > docs/systems.md`; a test holds the two together. One row for
each system that this project grew from. A row without a command does not run yet; a figure comes
from a file in `benchmarks/results`, and [benchmarks](benchmarks.md) tells how it was measured.
"""


@dataclass(frozen=True)
class Figure:
    """One number of a result file. words: with a place for it, formatted.

    result: the file's stem in `benchmarks/results`; keys: the way to the number in it.
    """

    words: str
    result: str
    keys: tuple[str, ...]

    def __str__(self) -> str:
        value = json.loads((RESULTS / f"{self.result}.json").read_text(encoding="utf-8"))
        for key in self.keys:
            value = value[key]
        return self.words.format(value)


@dataclass(frozen=True)
class System:
    """A system by its number and name. runs: our module or file; command: how it is used."""

    number: int
    name: str
    runs: str = ""
    command: str = ""
    figure: Figure | str = ""


_SYNTHETIC = ("results", "memories", "tree+hybrid", "recall@5", "mean")
SYSTEMS: tuple[System, ...] = (
    System(
        1,
        "StoryMaker",
        "consistent_gen/adapters/storymaker.py",
        "consistent-gen weights convert mask.bin",
    ),
    System(
        2,
        "ConsistentID",
        "consistent_gen/adapters/consistent_id.py",
        "consistent-gen weights convert ConsistentID-v1.bin",
    ),
    System(
        3,
        "ConsiStyle",
        "consistent_gen/methods/consistyle.py",
        "consistent-gen story FILE --out DIR --method consistyle",
        Figure(
            "style accuracy {:.3f}",
            "consistency_styles",
            ("methods", "consistyle", "style_accuracy"),
        ),
    ),
    System(
        4,
        "PaCo-RL",
        "consistent_gen/rewards/pairwise.py",
        "consistent-gen score DIR --judge URL --judge-name NAME",
        Figure(
            "tau {:.2f} of four candidates, by the small story-world form",
            "pair_reward",
            ("table", "rows", "pair_network", "tau"),
        ),
    ),
    System(5, "Improved consistency training (iCT)"),
    System(6, "ConsistentAvatar"),
    System(
        7,
        "PersonaVLM",
        "consistent_gen/memory/talk/assistant.py",
        "consistent-gen chat",
        Figure("recall@5 {:.2f}, synthetic users", "persona_synthetic", _SYNTHETIC),
    ),
    System(
        8,
        "Inside Out (PersonaTree, MemListener)",
        "consistent_gen/memory/listening/listener.py",
        "consistent-gen chat --listener model",
        Figure(
            "recall@5 {:.2f}, tree and rule listener",
            "persona_synthetic",
            ("results", "memories", "tree", "recall@5", "mean"),
        ),
    ),
    System(9, "PERMA", "benchmarks/persona.py", "python -m benchmarks.persona perma"),
    System(10, "PersonaMem", "benchmarks/persona.py", "python -m benchmarks.persona personamem"),
    System(11, "PersonaFeedback"),
    System(
        12,
        "Synchrony-Stability frontier",
        "consistent_gen/memory/talk/style_policy.py",
        "consistent-gen chat --style cap",
    ),
    System(13, "LMEDR"),
    System(
        14,
        "HACHIMI",
        "consistent_gen/persona/population/revising.py",
        "consistent-gen persona make --spec students --out DIR",
        Figure(
            "{} broken rules in 5,000, every quota cell exact",
            "persona_population",
            ("planted", "violations"),
        ),
    ),
    System(
        15,
        "DeepPersona",
        "consistent_gen/persona/population/taxonomy.py",
        "consistent-gen persona deepen CARD --model NAME --out FILE",
        Figure("{} attributes in our own tree", "persona_population", ("attributes", "our_leaves")),
    ),
    System(16, "SPASM"),
    System(17, "USP (Know You First)"),
    System(18, "PsyPlay"),
    System(19, "APC"),
    System(20, "PersoBench"),
    System(21, "Eval4Sim"),
    System(22, "PersonaGym"),
    System(23, "Belief-behaviour consistency"),
    System(24, "Personality Illusion"),
    System(25, "Too Nice to Tell the Truth"),
    System(26, "PersonaEval"),
    System(27, "LLM as personalized judge"),
    System(28, "Playing Pretend"),
    System(29, "Persona Paradox"),
    System(30, "Bias Runs Deep"),
    System(31, "Personalized Stochastic Parrots"),
    System(32, "Persona Non Grata"),
    System(33, "Personality Alignment (PAS, PAPI)"),
    System(34, "Assistant Axis"),
    System(35, "Personas to model truthfulness"),
    System(36, "PRISM"),
    System(37, "PersonaFuse"),
    System(38, "Jekyll & Hyde"),
    System(39, "Kardia-R1"),
    System(
        40,
        "SCIR",
        "benchmarks/pair_reward.py",
        "python -m benchmarks.pair_reward agreement",
        Figure(
            "{:.0%} of pairs masked: pair reward and photo features disagree",
            "pair_reward",
            ("agreement", "disagreement"),
        ),
    ),
    System(
        41,
        "Trickle-down reward inconsistency",
        "benchmarks/pair_reward.py",
        "python -m benchmarks.pair_reward checks",
        Figure(
            "response consistency {:.2f} of the pair reward",
            "pair_reward",
            ("checks", "pair_network", "response"),
        ),
    ),
    System(42, "Information-consistent GRPO"),
    System(43, "Consistency Amplifies"),
    System(44, "PRODIGy"),
    System(
        45,
        "Embracing Contradiction",
        "benchmarks/pair_reward.py",
        "python -m benchmarks.pair_reward vectors",
    ),
)


def page() -> str:
    """The whole page."""
    rows = [
        (
            str(system.number),
            system.name,
            system.runs and f"[`{system.runs}`](../{system.runs})",
            system.command and f"`{system.command}`",
            str(system.figure),
        )
        for system in SYSTEMS
    ]
    columns = ("number", "system", "what runs", "command", "figure")
    return f"{HEAD}\n{table(columns, rows)}"


if __name__ == "__main__":
    print(page(), end="")
