"""Published persona benchmarks, run on files that somebody has: one of our measures on each.

`python -m benchmarks.persona_sets SET PATH ... [--model NAME] [--rows N] [--out FILE.json]`

    apc TABLE                     pairs that people wrote (benchmarks/persona_pairs/*.tsv)
    lmedr TSV                     released generations: persona, query, response
    persobench PROMPTS RESPONSES  the two CSV files of a model; both modes
    eval4sim HUMAN SIMULATED      JSON lines: persona, speaker, dialogues (transcripts)
    personagym QUESTIONS          one persona's JSON file; --model answers and grades
    personafeedback FOLDER        with data/ and persona/; --model judges, else length does
    personaeval CSV               a track; --model is qualified
    spasm JSONL                   released dialogues: echoes, and whether a client is found again
    prodigy FOLDER                characters.json and Cornell's movie_conversations.txt and
                                  movie_lines.txt: do characters contradict their biography?
    contradiction REPORT REPORT   report.json of two audits: their verdict and conflicts

Models are those of `consistent-gen` by name ("smollm2", "qwen-small"). Nothing of the files is
kept; `--out` gets values, intervals and failures without quotes. Whether a licence lies beside the
files is told in one line, since some of these sets were published without one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from consistent_gen.checkpoints import file_sha256, write_json
from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.language.embedders import default_embedder
from consistent_gen.language.models import LANGUAGE_MODELS, LanguageModel, Message
from consistent_gen.persona.evaluate.audit import read_report
from consistent_gen.persona.evaluate.conflicts import metric_conflicts
from consistent_gen.persona.evaluate.eval4sim import SpeakerDialogues, eval4sim, fit_reference
from consistent_gen.persona.evaluate.faithfulness import apc
from consistent_gen.persona.evaluate.pair_scorer import default_scorer, tools
from consistent_gen.persona.evaluate.persobench import personalization_report, read_rows
from consistent_gen.persona.evaluate.personaeval import asked_of, qualify_judge
from consistent_gen.persona.evaluate.personaeval import read_cases as read_who
from consistent_gen.persona.evaluate.personafeedback import (
    LengthJudge,
    feedback_report,
    read_cases,
)
from consistent_gen.persona.evaluate.personagym import RubricJudge, read_questions, rubric_report
from consistent_gen.persona.evaluate.personal_judge import PersonalJudge
from consistent_gen.persona.evaluate.prodigy import read_characters, read_dialogues
from consistent_gen.persona.evaluate.reply_consistency import (
    Reply,
    c_scores,
    read_generations,
    shuffled,
)
from consistent_gen.persona.measurement import Measurement
from consistent_gen.persona.persona import Statement
from consistent_gen.persona.simulate.spasm import echo_rate, persona_retrieval
from consistent_gen.persona.simulate.spasm_set import personas, read_released
from consistent_gen.persona.statistics import measured
from consistent_gen.persona.transcript import Transcript
from consistent_gen.registry import resolve
from consistent_gen.training.statement_pairs import LABELS, read_pairs

POOLS = (5, 10, 20, 50, 100)


def model_of(options: argparse.Namespace) -> LanguageModel:
    """The model that `--model` names."""
    if not options.model:
        raise InputError(f"{options.set} needs --model; one of {', '.join(LANGUAGE_MODELS)}")
    found: LanguageModel = resolve(LANGUAGE_MODELS, options.model, kind="language model")()
    return found


def run_apc(paths: Sequence[Path], options: argparse.Namespace) -> list[Measurement]:
    """dAPC of replies by what people say of them: it should rise from the first to the last."""
    scorer, found = default_scorer(), []
    pairs = read_pairs(paths[0])[: options.rows]
    for label, name in enumerate(LABELS):
        values = [apc((Statement(p.statement),), p.question, p.reply, scorer).dapc
                  for p in pairs if p.label == label]  # fmt: skip
        found.append(measured(f"dAPC of {name} replies", values, tools=tools(scorer)))
    return found


def run_lmedr(paths: Sequence[Path], options: argparse.Namespace) -> list[Measurement]:
    """C-score and contradictions, then the same replies under somebody else's profile."""
    replies, scorer = read_generations(paths[0])[: options.rows], default_scorer()
    other = c_scores(shuffled(replies), scorer)
    return [
        *c_scores(replies, scorer),
        *(replace(m, name=f"{m.name}, another's profile") for m in other),
    ]


def run_persobench(paths: Sequence[Path], options: argparse.Namespace) -> list[Measurement]:
    """The corrected table, then the released one."""
    rows, scorer = read_rows(paths[0], paths[1])[: options.rows], default_scorer()
    return [
        *personalization_report(rows, scorer),
        *personalization_report(rows, scorer, "released"),
    ]


def run_eval4sim(paths: Sequence[Path], options: argparse.Namespace) -> list[Measurement]:
    """The simulated corpus against the human one."""
    human, simulated = (_corpus(path) for path in paths[:2])
    least = min(sum(len(one.dialogues) for one in corpus) for corpus in (human, simulated))
    most = max(len(one.dialogues) for corpus in (human, simulated) for one in corpus)
    sizes = [size for size in POOLS if most < size <= least]
    embedder, scorer = default_embedder(), default_scorer()
    reference = fit_reference(human, embedder, scorer, sizes)
    return eval4sim(simulated, reference, embedder, scorer)


def _corpus(path: Path) -> list[SpeakerDialogues]:
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            told = json.loads(line)
            talks = tuple(Transcript.from_json(one) for one in told["dialogues"])
            found.append(SpeakerDialogues(tuple(told["persona"]), told["speaker"], talks))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}, line {number}: expected persona, speaker and dialogues ({error})"
            ) from None
    return found


def run_personagym(paths: Sequence[Path], options: argparse.Namespace) -> list[Measurement]:
    """A model answers as the persona that the file is named after, and grades itself."""
    model, persona = model_of(options), paths[0].stem
    judge = RubricJudge(model)
    grades: dict[str, list[list[int | None]]] = {}
    for task, questions in read_questions(paths[0]).items():
        row: list[int | None] = []
        for question in questions[: options.rows]:
            asked = (Message("system", f"You are {persona}. Stay so."), Message("user", question))
            row.append(judge.grade(task, persona, question, model.chat(asked, max_tokens=160))[0])
        grades[task] = [row]
    return rubric_report(grades, [judge.name])


def run_personafeedback(paths: Sequence[Path], options: argparse.Namespace) -> list[Measurement]:
    """By kind, tier and arm."""
    judge = PersonalJudge(model_of(options)) if options.model else LengthJudge()
    return feedback_report(read_cases(paths[0])[: options.rows], judge)


def run_personaeval(paths: Sequence[Path], options: argparse.Namespace) -> list[Measurement]:
    """The card of the model on the track that the file is named after."""
    model = model_of(options)
    cases = read_who(paths[0])[: options.rows]
    card = qualify_judge(model.name, asked_of(model), cases, paths[0].stem)
    print(card)
    return [card.top1, *card.measurements]


def run_spasm(paths: Sequence[Path], options: argparse.Namespace) -> list[Measurement]:
    """Echoes of the client, and whether its persona is found among all personas of the file."""
    spoken = read_released(paths[0], options.rows)
    return [echo_rate(spoken), persona_retrieval(spoken, personas(spoken), default_embedder())]


def run_prodigy(paths: Sequence[Path], options: argparse.Namespace) -> list[Measurement]:
    """What characters say, turn after turn, held against their biographies."""
    folder = paths[0]
    dialogues = read_dialogues(
        folder / "movie_conversations.txt",
        folder / "movie_lines.txt",
        read_characters(folder / "characters.json"),
    )
    replies = [
        Reply(tuple(s.text for s in spoken.characters[turn.speaker].statements), before.text,
              turn.text)
        for spoken in dialogues.values()
        for before, turn in itertools.pairwise(spoken.transcript.turns)
        if turn.speaker in spoken.characters
    ]  # fmt: skip
    return c_scores(replies[: options.rows], default_scorer())


def licence(path: Path) -> str:
    """One line about the licence of a published file: a file named for it, or the word in a readme,
    in its folder or the two above.
    """
    start = path.resolve() if path.is_dir() else path.resolve().parent
    for folder in (start, *start.parents[:2]):
        for file in sorted(folder.iterdir()):
            name = file.name.casefold()
            told = name.startswith(("licen", "copying"))
            if name.startswith(("readme", "dataset_card")) and file.is_file():
                text = file.read_bytes()[:200_000].decode("latin-1")
                told = re.search("licen[cs]e", text, re.I) is not None
            if told:
                return f"licence: see {file.name} beside {path.name}"
    return (
        f"licence: none lies beside {path.name}; its authors decide what may be done with it, so "
        "pass on numbers only, or ask them"
    )


def run_contradiction(paths: Sequence[Path], options: argparse.Namespace) -> list[Measurement]:
    """Verdict and conflicts of two reports; all their measurements stay."""
    first, second = (read_report(path) for path in paths[:2])
    print(f"{first.subject} against {second.subject}: {first.against(second).standing}")
    for conflict in metric_conflicts([first, second]):
        print(f"{conflict.better}: better in {conflict.gains}, worse in {conflict.losses}")
    return list(first.measurements)


SETS: dict[str, tuple[Callable[[Sequence[Path], argparse.Namespace], list[Measurement]], int]] = {
    "apc": (run_apc, 1),
    "lmedr": (run_lmedr, 1),
    "persobench": (run_persobench, 2),
    "eval4sim": (run_eval4sim, 2),
    "personagym": (run_personagym, 1),
    "personafeedback": (run_personafeedback, 1),
    "personaeval": (run_personaeval, 1),
    "spasm": (run_spasm, 1),
    "prodigy": (run_prodigy, 1),
    "contradiction": (run_contradiction, 2),
}


def main(argv: list[str] | None = None) -> None:
    """Run one set and print its measurements."""
    parser = argparse.ArgumentParser(description="Published persona benchmarks on your files.")
    parser.add_argument("set", choices=SETS)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    function, needed = SETS[options.set]
    try:
        if len(options.paths) != needed:
            raise InputError(f"{options.set} takes {needed} paths; got {len(options.paths)}")
        found = function(options.paths, options)
        if options.set != "contradiction":
            print(*(licence(path) for path in options.paths), sep="\n")
    except (ConsistentGenError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    for m in found:
        print(f"{m.name}: {m.value:.4f} ({m.low:.4f} to {m.high:.4f}), n {m.n}, failed {m.failed}")
        for kind, tool in m.tools.items():
            print(f"    {kind}: {tool}")
    if options.out is not None:
        hashes = {path.name: file_sha256(path) for path in options.paths if path.is_file()}
        told = [m.as_json() | {"items": []} for m in found]
        write_json(options.out, {"set": options.set, "sha256": hashes, "measurements": told})


if __name__ == "__main__":
    main()
