"""The systems this project grew from, and what of each runs today: the page `docs/systems.md`.

The page is made by ``python -m benchmarks.systems > docs/systems.md``; a test holds the two
together, and that what a row names is there. A cell is empty where nothing runs yet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from benchmarks.markdown import table
from benchmarks.tables import RESULTS

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
            value = value[int(key)] if isinstance(value, list) else value[key]
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
    System(
        11,
        "PersonaFeedback",
        "benchmarks/persona_sets.py",
        "python -m benchmarks.persona_sets personafeedback FOLDER --model NAME",
        Figure(
            "accuracy of scripted judges: planted and found correlate by {:.3f}",
            "persona_lab",
            ("measures", "judge_reads_profile", "correlation"),
        ),
    ),
    System(
        12,
        "Synchrony-Stability frontier",
        "consistent_gen/memory/talk/style_policy.py",
        "consistent-gen chat --style cap",
    ),
    System(
        13,
        "LMEDR",
        "benchmarks/persona_sets.py",
        "python -m benchmarks.persona_sets lmedr persona_original.tsv",
        Figure(
            "C-score {:.2f} over the first 300 released replies, by our pair scorer",
            "persona_lmedr",
            ("measurements", "0", "value"),
        ),
    ),
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
    System(
        16,
        "SPASM",
        "consistent_gen/persona/simulate/spasm.py",
        "python -m benchmarks.persona_lab echo_rate",
        Figure(
            "echo rate: planted and found correlate by {:.3f}",
            "persona_lab",
            ("measures", "echo_rate", "correlation"),
        ),
    ),
    System(
        17,
        "USP (Know You First)",
        "consistent_gen/persona/simulate/usp.py",
        "python -m benchmarks.persona_lab fact_recall",
        Figure(
            "recall of facts: planted and found correlate by {:.3f}",
            "persona_lab",
            ("measures", "fact_recall", "correlation"),
        ),
    ),
    System(
        18,
        "PsyPlay",
        "consistent_gen/persona/simulate/psyplay.py",
        "python -m benchmarks.persona_lab portrayal_success",
        Figure(
            "portrayal success: planted and found correlate by {:.3f}",
            "persona_lab",
            ("measures", "portrayal_success", "correlation"),
        ),
    ),
    System(
        19,
        "APC",
        "benchmarks/persona_sets.py",
        "python -m benchmarks.persona_sets apc benchmarks/persona_pairs/open.tsv",
        Figure(
            "dAPC {:.2f} of entailed replies that people wrote; of contradicted ones below 0",
            "persona_apc",
            ("measurements", "2", "value"),
        ),
    ),
    System(
        20,
        "PersoBench",
        "benchmarks/persona_sets.py",
        "python -m benchmarks.persona_sets persobench PROMPTS RESPONSES",
        Figure(
            "C-score beside malformed replies: planted and found correlate by {:.3f}",
            "persona_lab",
            ("measures", "persobench_c_score", "correlation"),
        ),
    ),
    System(
        21,
        "Eval4Sim",
        "benchmarks/persona_sets.py",
        "python -m benchmarks.persona_sets eval4sim HUMAN SIMULATED",
        Figure(
            "naturalness: planted and found correlate by {:.3f}",
            "persona_lab",
            ("measures", "naturalness", "correlation"),
        ),
    ),
    System(
        22,
        "PersonaGym",
        "benchmarks/persona_sets.py",
        "python -m benchmarks.persona_sets personagym QUESTIONS --model NAME",
        Figure(
            "PersonaScore {:.2f} of Claude 3.5 Sonnet, again from its task scores",
            "persona_tables",
            ("personagym", "values", "claude_3.5_sonnet computed"),
        ),
    ),
    System(
        23,
        "Belief-behaviour consistency",
        "consistent_gen/persona/behaviour/belief_behaviour.py",
        "python -m benchmarks.persona_lab acted_on",
        Figure(
            "beliefs acted on: planted and found correlate by {:.3f}",
            "persona_lab",
            ("measures", "acted_on", "correlation"),
        ),
    ),
    System(
        24,
        "Personality Illusion",
        "consistent_gen/persona/behaviour/personality_illusion.py",
        "python -m benchmarks.persona_lab cards_turned",
        Figure(
            "{:.3f} false links where there is none",
            "persona_lab",
            ("measures", "cards_turned", "false_alarms"),
        ),
    ),
    System(
        25,
        "Too Nice to Tell the Truth",
        "consistent_gen/persona/behaviour/too_nice.py",
        "python -m benchmarks.persona_lab sycophancy_slope",
        Figure(
            "{:.3f} false alarms at no slope",
            "persona_lab",
            ("measures", "sycophancy_slope", "false_alarms"),
        ),
    ),
    System(
        26,
        "PersonaEval",
        "benchmarks/persona_sets.py",
        "python -m benchmarks.persona_sets personaeval CSV --model NAME",
        Figure(
            "top-1 of scripted judges: planted and found correlate by {:.3f}",
            "persona_lab",
            ("measures", "judge_knows_speaker", "correlation"),
        ),
    ),
    System(
        27,
        "LLM as personalized judge",
        "benchmarks/persona_tables.py",
        "python -m benchmarks.persona_tables --data DIR",
        Figure(
            "{:.3f} of what GPT-4o is at least 80 certain of, 12 % of all, again from its outputs",
            "persona_tables",
            ("personalized_judge", "values", "prism key gpt-4o >= 80"),
        ),
    ),
    System(
        28,
        "Playing Pretend",
        "consistent_gen/persona/behaviour/playing_pretend.py",
        "python -m benchmarks.persona_lab accuracy_audit",
        Figure(
            "{:.3f} false alarms, trials that stick together",
            "persona_lab",
            ("measures", "accuracy_audit", "false_alarms"),
        ),
    ),
    System(
        29,
        "Persona Paradox",
        "consistent_gen/persona/behaviour/persona_paradox.py",
        "python -m benchmarks.persona_lab context_audit",
        Figure(
            "interaction: planted and found correlate by {:.3f}",
            "persona_lab",
            ("measures", "context_audit", "correlation"),
        ),
    ),
    System(
        30,
        "Bias Runs Deep",
        "consistent_gen/persona/behaviour/bias_runs_deep.py",
        "python -m benchmarks.persona_lab group_bias_audit",
        Figure(
            "abstention gap: planted and found correlate by {:.3f}",
            "persona_lab",
            ("measures", "group_bias_audit", "correlation"),
        ),
    ),
    System(
        31,
        "Personalized Stochastic Parrots",
        "consistent_gen/persona/behaviour/stochastic_parrots.py",
        "python -m benchmarks.persona_lab sensitivity",
        Figure(
            "{:.3f} false alarms of equal personas",
            "persona_lab",
            ("measures", "sensitivity", "false_alarms"),
        ),
    ),
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
    System(
        43,
        "Consistency Amplifies",
        "consistent_gen/persona/behaviour/run_stability.py",
        "python -m benchmarks.persona_lab variation",
        Figure(
            "variation: planted and found correlate by {:.3f}",
            "persona_lab",
            ("measures", "variation", "correlation"),
        ),
    ),
    System(
        44,
        "PRODIGy",
        "benchmarks/persona_tables.py",
        "python -m benchmarks.persona_tables --data DIR",
        Figure(
            "{:.0f} characters, partitions of the published size",
            "persona_tables",
            ("prodigy", "values", "characters"),
        ),
    ),
    System(
        45,
        "Embracing Contradiction",
        "benchmarks/persona_sets.py",
        "python -m benchmarks.persona_sets contradiction report.json report.json",
        Figure(
            "changes that trade one metric for another: planted and found correlate by {:.3f}",
            "persona_lab",
            ("measures", "metric_conflicts", "correlation"),
        ),
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
