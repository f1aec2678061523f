"""Tables that authors of persona papers published, computed again from their files.

`python -m benchmarks.persona_tables [--data DIR] [--out FILE.json]`

The files are not ours and are not shipped: get them from the public repositories below, keep their
relative paths, each repository in a folder of its own under DIR (or in the folder that
CONSISTENT_GEN_PERSONA_DATA names). What a file gives is compared with the values that the paper or
its repository states; a table whose files are absent is told as such.

    personality_illusion    github.com/psychology-of-AI/Personality-Illusion   data/
    personalized_judge      github.com/dong-river/Personalized-Judge           outputs/
    personagym              github.com/vsamuel2003/PersonaGym                  evaluations/
    deeppersona             github.com/thzva/Deeppersona                       social_simulation_ca/output/
    lmedr                   github.com/Chenrj233/LMEDR                         results/
    prodigy                 github.com/LanD-FBK/prodigy-dataset                dataset/, experimental_partitions/
                            with prodigy_dataset.json, or Cornell's movie_conversations.txt and
                            movie_lines.txt beside
    spasm                   the set's data/spasm_deepseek_v4_flash_500x10.jsonl
"""  # noqa: E501

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np
from numpy.typing import NDArray

from consistent_gen.checkpoints import file_sha256, write_json
from consistent_gen.errors import InputError
from consistent_gen.persona.evaluate.personagym import TASKS, persona_score
from consistent_gen.persona.evaluate.personal_judge import accuracy, read_outputs
from consistent_gen.persona.evaluate.prodigy import (
    PARTITIONS,
    read_characters,
    read_dialogues,
    read_partition,
    read_speakers,
    splits,
)
from consistent_gen.persona.evaluate.reply_consistency import read_generations
from consistent_gen.persona.simulate.spasm_set import read_released

VARIABLE = "CONSISTENT_GEN_PERSONA_DATA"
Values = dict[str, float]
MISSPELT = "consciencienes"  # so in the published files
REPORTS = (MISSPELT, "extraversion", "agreeableness", "neuroticism", "self_regulation")


def data_folder() -> Path | None:
    """The folder that the variable names, if it is there."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named and Path(named).is_dir() else None


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def _mean(rows: Sequence[Mapping[str, str]], column: str, model: str | None = None) -> float:
    try:
        picked = [r[column] for r in rows if model in (None, r["Model"])]
    except KeyError:
        raise InputError(f"no column {column!r}; there are {', '.join(rows[0])}") from None
    return fmean(float(value) for value in picked if value)


def personality_illusion(root: Path) -> Values:
    """Injected traits move what models say of themselves, hardly what they do.

    Differences are means over models of (injected - baseline); "up" counts models.
    """
    data = root / "data"
    said = _rows(data / "baseline_responses" / "instruct_models_selfreport.csv")
    did = _rows(data / "baseline_responses" / "instruct_models_behavioral_tasks.csv")
    base = _rows(data / "baseline_responses" / "base_models_selfreport.csv")
    models = sorted({row["Model"] for row in said})
    found: Values = {
        "agreeableness": _mean(said, "agreeableness"),
        "self_regulation": _mean(said, "self_regulation"),
        "sycophancy": _mean(did, "sycophancy_rate"),
        "cards": _mean(did, "CCT_cold_avg"),
    }
    tasks = (("agreeableness", "sycophancy_rate"), ("self_regulation", "CCT_cold_avg"))
    for trait, task in tasks:
        for strategy in (1, 2, 3):
            path = data / "persona_injection" / trait / f"prompt_strategy_{strategy}.csv"
            rows = _rows(path)
            report = [_mean(rows, trait, m) - _mean(said, trait, m) for m in models]
            behaviour = [_mean(rows, task, m) - _mean(did, task, m) for m in models]
            found[f"{trait} report {strategy}"] = fmean(report)
            found[f"{trait} report up {strategy}"] = sum(d > 0 for d in report)
            found[f"{trait} behaviour {strategy}"] = fmean(behaviour)
            found[f"{trait} behaviour up {strategy}"] = sum(d > 0 for d in behaviour)
    for column in REPORTS:
        for name, rows in (("instruct", said), ("base", base)):
            found[f"spread {column} {name}"] = _spread(rows, column)
    return found


def _spread(rows: Sequence[Mapping[str, str]], column: str) -> float:
    """Mean over models of the standard deviation within a model."""
    models = sorted({row["Model"] for row in rows})
    values = [[float(r[column]) for r in rows if r["Model"] == m and r[column]] for m in models]
    return fmean(pstdev(v) for v in values)


JUDGE_FILES = {
    "prism key gpt-4o": "prism_all_features_key_features_gpt-4o",
    "prism all command-r+": "prism_all_features_command-r-plus",
    "prism none command-r+": "prism_no_persona_command-r-plus_new",
    "prism least gpt-4o": "prism_all_features_least_imp_feature_gpt-4o",
    "empathetic gpt-4o": "ec_all_features_gpt-4o",
    "empathetic command-r+": "ec_all_features_command-r-plus",
    "authors gpt-4o": "ap_all_features_all_features_gpt-4o_jun5",
}


def personalized_judge(root: Path) -> Values:
    """Agreement of all items and of those at least 80 (or 61) certain, with their numbers."""
    found: Values = {}
    for name, file in JUDGE_FILES.items():
        pairs = read_outputs(root / "outputs" / f"{file}.jsonl")
        for level in (0, 61, 80):
            share, n = accuracy(pairs, level)
            found[f"{name} >= {level} n"] = n
            if n:
                found[f"{name} >= {level}"] = share
    return found


def personagym(root: Path) -> Values:
    """PersonaScore of each published run from its five task scores."""
    found: Values = {}
    paths = sorted((root / "evaluations").glob("*/scores.json"))
    if not paths:
        raise InputError(f"{root} has no evaluations/*/scores.json")
    for path in paths:
        told = json.loads(path.read_text(encoding="utf-8"))
        model = re.sub(r"^\d+_", "", path.parent.name)
        found[f"{model} stated"] = told["PersonaScore"]
        found[f"{model} computed"] = persona_score({task: told[task] for task in TASKS})
    return found


Floats = NDArray[np.float64]


def four_distances(a: Floats, b: Floats) -> Floats:
    """Kolmogorov-Smirnov, Wasserstein, Jensen-Shannon (the distance, natural logarithm, 19 bins
    over both ranges, empty ones at 1e-10) and the difference of means, as DeepPersona has them.
    """
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import ks_2samp, wasserstein_distance

    edges = np.linspace(min(a.min(), b.min()), max(a.max(), b.max()), 20)
    shares = [np.clip(np.histogram(x, edges, density=True)[0], 1e-10, None) for x in (a, b)]
    js = jensenshannon(*(s / s.sum() for s in shares))
    ks = ks_2samp(a, b).statistic
    return np.array([ks, wasserstein_distance(a, b), js, abs(a.mean() - b.mean())])


def deeppersona(root: Path) -> Values:
    """The four distances of three kinds of personas to a real survey, means over six questions.

    The repository's table holds two of the three against the survey's first rows only, as many as
    there are personas ("first rows"); all against the whole survey is what they should mean.
    """
    output = root / "social_simulation_ca" / "output"
    people = _survey(output / "all_Canda_survey_responses.csv")
    found: Values = {}
    for name in ("our", "llm", "opencharacter"):
        answers = _survey(output / f"{name}_responses.csv")
        whole, first = [], []
        for question, real in people.items():
            given = answers[question]
            rows = np.flatnonzero(~np.isnan(given))
            whole.append(four_distances(given[rows], real[~np.isnan(real)]))
            rows = rows[~np.isnan(real[rows])]
            first.append(four_distances(given[rows], real[rows]))
        for kind, table in (("whole survey", whole), ("first rows", first)):
            for metric, value in zip(("KS", "Wasserstein", "JS", "mean"), np.mean(table, 0),
                                     strict=True):  # fmt: skip
                found[f"{name} {metric}, {kind}"] = float(value)
    return found


def _survey(path: Path) -> dict[str, Floats]:
    rows = _rows(path)
    questions = [name for name in rows[0] if name.startswith("Q")]
    if not questions:
        raise InputError(f"{path} has no questions (columns Q...)")
    return {
        q: np.array([float(row[q]) if row[q] not in ("", "nan") else math.nan for row in rows])
        for q in questions
    }


def lmedr(root: Path) -> Values:
    """Rows, different profiles and the mean number of statements of the released generations."""
    found: Values = {}
    for kind in ("original", "revised"):
        replies = read_generations(root / "results" / f"persona_{kind}.tsv")
        found[f"{kind} rows"] = len(replies)
        found[f"{kind} profiles"] = len({reply.persona for reply in replies})
        found[f"{kind} statements"] = fmean(len(reply.persona) for reply in replies)
    return found


def prodigy(root: Path) -> Values:
    """Characters, sizes of the partitions, and their overlap, where it is known who speaks."""
    characters = read_characters(root / "dataset" / "characters.json")
    folder = root / "experimental_partitions"
    partitions = {name: read_partition(folder / f"{name}.json") for name in PARTITIONS}
    found: Values = {
        "characters": len(characters),
        "biography": fmean(len(p.statements) for p in characters.values()),
    }
    for name, sides in partitions.items():
        found |= {f"{name} {side}": len(ids) for side, ids in sides.items()}
    talks, lines = root / "movie_conversations.txt", root / "movie_lines.txt"
    if talks.is_file() and lines.is_file():
        spoken = read_dialogues(talks, lines, characters)
        chosen = [
            spoken[i] for ids in partitions[PARTITIONS[0]].values() for i in ids if i in spoken
        ]
        found["dialogues"] = len(chosen)
        found["turns"] = sum(len(one.transcript.turns) for one in chosen)
    for place in (root / "dataset" / "prodigy_dataset.json", root / "movie_conversations.txt"):
        if place.is_file() and place.stat().st_size:
            speakers = {
                dialogue: tuple(who for who in ids if who in characters)
                for dialogue, ids in read_speakers(place).items()
            }
            for name, split in splits(partitions, speakers).items():
                found[f"overlap of {split.file}, {name}"] = split.overlap
            break
    return found


def spasm(root: Path) -> Values:
    """Dialogues, utterances, their range, and how many ended naturally."""
    rows = read_released(root / "data" / "spasm_deepseek_v4_flash_500x10.jsonl")
    turns = [len(row.transcript.turns) for row in rows]
    natural = sum(row.transcript.stop_reason == "natural_termination" for row in rows)
    return {"dialogues": len(rows), "utterances": sum(turns), "shortest": min(turns),
            "longest": max(turns), "mean": fmean(turns), "natural": natural}  # fmt: skip


TABLES: dict[str, Callable[[Path], Values]] = {
    function.__name__: function
    for function in (personality_illusion, personalized_judge, personagym, deeppersona, lmedr,
                     prodigy, spasm)
}  # fmt: skip


def hashes(root: Path) -> dict[str, str]:
    """SHA-256 of every file of a table by its relative path; empty files were not had."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size)
    return {path.relative_to(root).as_posix(): file_sha256(path) for path in files}


def main(argv: list[str] | None = None) -> None:
    """Print every table's values with the hashes of its files."""
    parser = argparse.ArgumentParser(description="Published tables of persona papers, again.")
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    if options.data is None or not options.data.is_dir():
        raise SystemExit(f"error: no folder of published files; give --data DIR or set {VARIABLE}")
    found = {}
    for name, function in TABLES.items():
        root = options.data / name
        try:
            values = function(root)
        except OSError as error:
            print(f"{name}: not here ({error.strerror}: {error.filename})")
            continue
        except InputError as error:
            print(f"{name}: {error}")
            continue
        files = hashes(root)
        found[name] = {"values": values, "sha256": files}
        print(f"{name}: {len(files)} files")
        for key, value in values.items():
            print(f"  {key}: {value:.4g}")
    if options.out is not None:
        write_json(options.out, found)


if __name__ == "__main__":
    main()
