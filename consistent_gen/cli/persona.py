"""`consistent-gen persona`: cards in and out, checked; populations; a talk; a story's character."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consistent_gen.cli.chat import add_drawing_options, add_model_options, build_model
from consistent_gen.cli.memory import _at_least_one, opened
from consistent_gen.errors import ConsistentGenError, InputError

if TYPE_CHECKING:
    from consistent_gen.language.models import LanguageModel
    from consistent_gen.persona.cards import Card
    from consistent_gen.persona.persona import Persona
    from consistent_gen.persona.rules import Issue
    from consistent_gen.story.types import Story

NO_MODEL = "none"


def add_command(commands: Any) -> None:
    """Add `persona` with its actions to the commands of `consistent-gen`."""
    parser = commands.add_parser(
        "persona",
        help="personas: check and convert cards, make populations, talk",
        description="Personas as one object: read from character cards, made in populations, "
        "talked with, and drawn. CARD is a character card (.png, .json or .charx, versions 1 to "
        "3), a persona of ours (.json) or a PersonaChat list (.txt).",
    )
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (help, run, arguments) in _ACTIONS.items():
        action = actions.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        for flags, options in arguments:
            action.add_argument(*flags, **options)
        if run in (run_chat, run_make, run_deepen, run_audit):
            add_model_options(action, NO_MODEL)
        if run is run_chat:
            add_drawing_options(action)
            action.add_argument("--memory-key", metavar="FILE", help="key of an encrypted memory")
        action.set_defaults(run=run)


def run_check(options: argparse.Namespace) -> int:
    """Print what is to be said about a card; 1 where something of it is an error."""
    from consistent_gen.persona.cards import check_card
    from consistent_gen.persona.population.spec import read_spec
    from consistent_gen.persona.rules import validate

    persona, card = _read(options)
    issues = [] if card is None else check_card(card)
    if options.rules is not None:
        issues += validate(persona, read_spec(options.rules).rules)
    if options.json:
        told = [vars(issue) for issue in issues]
        print(json.dumps({"name": persona.name, "issues": told}, ensure_ascii=False, indent=2))
    else:
        for issue in issues:
            print(f"{issue.severity:<8} {issue}")
        print(_summary(persona, card, issues))
    return 1 if any(issue.severity == "error" for issue in issues) else 0


def _summary(persona: Persona, card: Card | None, issues: list[Issue]) -> str:
    counts = {s: sum(i.severity == s for i in issues) for s in ("error", "warning", "note")}
    told = ", ".join(f"{n} {s}{'' if n == 1 else 's'}" for s, n in counts.items() if n)
    kind = "a persona" if card is None else f"a card of version {card.spec[1]}"
    return f"{persona.name}: {kind}, {len(persona.statements)} statements; {told or 'no issues'}"


def run_import(options: argparse.Namespace) -> int:
    """A card becomes a persona file."""
    from consistent_gen.persona.cards import check_card, secrets_of
    from consistent_gen.persona.cards.files import write_persona

    out = _new_file(options.out, (".json",))
    persona, card = _read(options)
    if card is not None:
        secrets = [issue for issue in secrets_of(card) if issue.severity == "error"]
        if secrets and not options.keep_secrets:
            listed = "; ".join(map(str, secrets[:5]))
            raise InputError(f"{listed}; or add --keep-secrets", source=options.card)
        for issue in check_card(card):
            if issue.severity != "note":
                print(f"{issue.severity}: {issue}", file=sys.stderr)
    write_persona(persona, out)
    print(f"{persona.name}, {len(persona.statements)} statements: {out}")
    return 0


def run_export(options: argparse.Namespace) -> int:
    """A persona becomes a card."""
    from consistent_gen.persona.cards.files import write_card

    out = _new_file(options.out, (".json", ".png", ".charx"))
    persona, _ = _read(options)
    spec = write_card(persona, out, picture=options.picture, version=options.version or "")
    print(f"{persona.name}, a card of version {spec[1]}: {out}")
    return 0


def run_make(options: argparse.Namespace) -> int:
    """A population, by lists or by a model; an interrupted one goes on where it was."""
    from consistent_gen.persona.population.spec import read_spec
    from consistent_gen.persona.population.writing import PopulationFolder, make_population

    spec = read_spec(options.spec)
    seed = spec.seed if options.seed is None else options.seed
    slots = spec.slots(options.count, seed)
    model = _model(options)
    by = "lists" if model is None else model.name
    meta = {"spec": spec.told, "count": len(slots), "seed": seed, "by": by}
    out = PopulationFolder(options.out, meta)
    loop = spec.loop(model)

    def tell(done: int) -> None:
        if done % 1_000 == 0 and sys.stderr.isatty():
            print(f"\r{done:,} of {len(slots):,}", end="", file=sys.stderr)

    report = make_population(loop, slots, spec.quotas, out, seed=seed, tell=tell)
    off, failed = report["cells_off"], report["failed"]
    print(f"{report['personas']:,} personas by {by}, {failed} slots empty: {options.out}")
    tally = loop.tally
    print(f"{tally.revised:,} revisions, {tally.duplicates:,} near-duplicates refused")
    asked = getattr(loop.proposer, "asked", None)
    if asked is not None:
        print(f"{asked.calls:,} answers, {asked.unreadable} unreadable, {asked.incomplete} short")
    for cell in off[:20]:
        print(f"cell {cell['cell']}: {cell['there']} of {cell['wanted']}", file=sys.stderr)
    return 1 if failed or off else 0


def run_deepen(options: argparse.Namespace) -> int:
    """More attributes for a persona, each asked with what is known before it."""
    import random

    from consistent_gen.language.embedders import default_embedder
    from consistent_gen.persona.cards.files import write_persona
    from consistent_gen.persona.population.taxonomy import (
        OURS,
        AskingFill,
        Taxonomy,
        deepen,
        stratified_attributes,
    )

    out = _new_file(options.out, (".json",))
    persona, _ = _read(options)
    tree = Taxonomy.load(options.taxonomy or OURS)
    model = _model(options)
    if model is None:
        raise InputError("values come from a language model; add --model", source="persona deepen")
    draw = random.Random(options.seed or 0)
    attributes = stratified_attributes(
        persona.prompt(), tree, options.attributes, default_embedder(), draw, preset=options.preset
    )
    fill = AskingFill(model)
    deep = deepen(persona, attributes, fill, draw)
    write_persona(deep, out)
    added = len(deep.statements) - len(persona.statements)
    print(f"{deep.name}: {added} attributes more, {fill.unsaid} unsaid: {out}")
    return 0


def run_story(options: argparse.Namespace) -> int:
    """The persona as the character of a story file."""
    from consistent_gen.cli.importing import new_story_file, put_story

    out = new_story_file(options.out)
    persona, _ = _read(options)
    said = options.frame or ["standing", "walking in the forest", "reading a book"]
    put_story(_story(persona, options.looks, said), (), out, f"the persona {persona.name}")
    return 0


def _story(persona: Persona, looks: str | None, scenes: list[str]) -> Story:
    """A story with the persona as its character; {char} in a scene stands for it."""
    from consistent_gen.persona.picturing import looks_of
    from consistent_gen.story.script import NAME
    from consistent_gen.story.types import Character, Frame, Story

    found = NAME.search(persona.name.replace("{", "").replace("}", ""))
    name = found[0].strip() if found else "Persona"
    words = looks_of(persona, looks)
    holes = [scene.replace("{char}", f"{{{name}}}") for scene in scenes]
    frames = tuple(
        Frame(prompt=scene if f"{{{name}}}" in scene else f"{{{name}}} {scene}") for scene in holes
    )
    characters = {name: Character(name=name, description=words)}
    return Story(title=persona.name[:80], characters=characters, frames=frames)


def run_chat(options: argparse.Namespace) -> int:
    """Talk with a persona, line by line; a mistake in one line does not end the talk."""
    from consistent_gen.cli.chat import _lines, drawer_of, saved_picture
    from consistent_gen.persona.cards.prose import with_names
    from consistent_gen.persona.picturing import scene_asked
    from consistent_gen.persona.talk import Conversation

    persona, card = _read(options)
    model = _model(options)
    if model is None:
        raise InputError("a talk needs a language model; add --model", source="persona chat")
    told = persona.fields.get("instructions") or {}
    instructions = ""
    if options.card_instructions:
        instructions = with_names("\n\n".join(told.values()), persona.name, options.me)
    elif told and card is not None:
        print("(the card's instructions are left out; --card-instructions uses them)")
    drawer = drawer_of(options)
    store = None
    if options.memory is not None:
        options.user = options.user or persona.id
        store = opened(options)
    try:
        talk = Conversation(
            persona, model, user=options.me, store=store, instructions=instructions,
            statements=options.statements,
        )  # fmt: skip
        print(f"({persona.name} by {model.name}{'' if store is None else ', remembering'})")
        if talk.greeting:
            print(talk.greeting)
        for line in _lines():
            if line.strip() in ("/quit", "/exit"):
                break
            try:
                scene = None if drawer is None else scene_asked(line, persona.name)
                if drawer is None or scene is None:
                    print(talk.say(line.strip()))
                    continue
                picture = drawer.draw(_story(persona, options.looks, [scene]))
                print(talk.drawn(line.strip(), scene))
                print(f"  {saved_picture(picture, Path(options.pictures))}")
            except ConsistentGenError as error:
                print(f"! {error}")
    finally:
        if store is not None:
            store.close()
    return 0


def run_audit(options: argparse.Namespace) -> int:
    """Measure a persona in a model, and write a page to read."""
    from consistent_gen.persona.evaluate.audit import PAGE, audit, read_report

    persona, _ = _read(options)
    questions: list[str] = []
    if options.questions is not None:
        try:
            text = Path(options.questions).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InputError(f"cannot be read: {error}", source=options.questions) from None
        questions = [line.strip() for line in text.splitlines() if line.strip()]
        if not questions:
            raise InputError("has no questions; write one a line", source=options.questions)
    baseline = None if options.baseline is None else read_report(options.baseline)
    model = _model(options)
    if model is None:
        raise InputError("an audit asks a language model; add --model", source="persona audit")
    report = audit(
        persona, model, options.out, questions=questions, ask=options.ask,
        statements=options.statements, baseline=baseline, seed=options.seed or 0,
    )  # fmt: skip
    if len(persona.statements) > options.statements:
        print(f"(about the first {options.statements} of {len(persona.statements)} statements)")
    for m in report.measurements:
        interval = "" if math.isnan(m.low) else f" ({m.low:.2f} to {m.high:.2f})"
        failed = f", {m.failed} failed" if m.failed else ""
        print(f"{m.name}: {m.value:.2f}{interval}, {m.n} cases{failed}")
    print(f"open {Path(options.out) / PAGE}")
    return 0


def _read(options: argparse.Namespace) -> tuple[Persona, Card | None]:
    from consistent_gen.persona.cards.files import read_persona

    return read_persona(options.card, user=options.me)


def _model(options: argparse.Namespace) -> LanguageModel | None:
    from consistent_gen.language.models import LANGUAGE_MODELS

    if options.model == NO_MODEL:
        return None
    return build_model(options, {NO_MODEL: "", **LANGUAGE_MODELS})


def _new_file(name: str, suffixes: tuple[str, ...]) -> Path:
    out = Path(name)
    if out.exists():
        raise InputError(f"{out} is there already; choose another", source="--out")
    if out.suffix.lower() not in suffixes:
        kinds = " or ".join(suffixes)
        raise InputError(f"{out} is no name of a {kinds} file", source="--out")
    return out


def _whole(text: str) -> int:
    """A seed; argparse turns the error into one line."""
    if not re.fullmatch(r"\d{1,18}", text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)


_CARD = (("card",), {"metavar": "CARD", "help": "card, persona or PersonaChat list"})
_ME = (("--me",), {
    "metavar": "NAME", "default": "User", "help": "what the card calls its reader (default: User)",
})  # fmt: skip
_ACTIONS: dict[str, tuple[str, Any, tuple[tuple[tuple[str, ...], dict[str, Any]], ...]]] = {
    "check": ("say what is wrong or odd about a card, and how to mend it", run_check, (
        _CARD, _ME,
        (("--rules",), {"metavar": "SPEC", "help": "also hold it to the rules of a spec"}),
        (("--json",), {"action": "store_true", "help": "print it as JSON"}))),
    "import": ("make a persona file of a card", run_import, (
        _CARD, _ME,
        (("--out",), {"metavar": "FILE", "required": True, "help": "a new .json file"}),
        (("--keep-secrets",), {"action": "store_true",
                               "help": "import a card that holds what looks like a key"}))),
    "export": ("make a character card of a persona", run_export, (
        _CARD, _ME,
        (("--out",), {"metavar": "FILE", "required": True,
                      "help": "a new .json, .png or .charx file"}),
        (("--picture",), {"metavar": "FILE", "help": "the picture that a .png card is put into, or "
                                               "the archive whose files a .charx takes along"}),
        (("--version",), {"metavar": "V", "help": "v2 or v3, for a persona that was no card "
                                                  "(default: v2; v3 of .charx)"}))),
    "make": ("make a population with quotas and rules; an interrupted one goes on", run_make, (
        (("--spec",), {"metavar": "SPEC", "required": True,
                       "help": "a spec file, or students (shipped)"}),
        (("--out",), {"metavar": "DIR", "required": True, "help": "a new folder, or one to go on"}),
        (("--count",), {"metavar": "N", "type": _at_least_one,
                        "help": "how many (default: what the spec says)"}),
        (("--seed",), {"metavar": "N", "type": _whole,
                       "help": "another number, another population"}))),
    "deepen": ("say more about a persona, attribute by attribute, with a model", run_deepen, (
        _CARD, _ME,
        (("--out",), {"metavar": "FILE", "required": True, "help": "a new .json file"}),
        (("--attributes",), {"metavar": "N", "type": _at_least_one, "default": 40,
                             "help": "at most so many (default: 40)"}),
        (("--preset",), {"metavar": "NAME", "default": "code",
                         "help": "code (the nearest 40 %%) or paper (5:3:2 at random)"}),
        (("--taxonomy",), {"metavar": "FILE", "help": "a tree of attributes (default: ours)"}),
        (("--seed",), {"metavar": "N", "type": _whole, "help": "another number, another choice"}))),
    "story": ("make a story file with the persona as its character", run_story, (
        _CARD, _ME,
        (("--out",), {"metavar": "STORY", "help": "the story file (default: standard output)"}),
        (("--looks",), {"metavar": "TEXT", "help": "how the character looks, in words"}),
        (("--frame",), {"metavar": "TEXT", "action": "append",
                        "help": "what happens in a frame; {char} is the persona; repeat"}))),
    "audit": ("measure how a model keeps to a persona, and write a page to read", run_audit, (
        _CARD, _ME,
        (("--out",), {"metavar": "DIR", "required": True,
                      "help": "folder of report.html and report.json"}),
        (("--questions",), {"metavar": "FILE",
                            "help": "one question a line (default: made from the card)"}),
        (("--ask",), {"metavar": "N", "type": _at_least_one, "default": 24,
                      "help": "how many questions are made from the card (default: 24)"}),
        (("--statements",), {"metavar": "N", "type": _at_least_one, "default": 100,
                             "help": "of a longer card, its first N statements (default: 100)"}),
        (("--baseline",), {"metavar": "JSON", "help": "report.json of an audit to compare with"}),
        (("--seed",), {"metavar": "N", "type": _whole, "help": "of what is drawn by chance"}))),
    "chat": ("talk with a persona", run_chat, (
        _CARD, _ME,
        (("--memory",), {"metavar": "PLACE", "help": "remember in this folder of memories"}),
        (("--user",), {"metavar": "NAME", "help": "whose memory (default: the persona's id)"}),
        (("--looks",), {"metavar": "TEXT", "help": "how the persona looks, for its pictures"}),
        (("--statements",), {"metavar": "N", "type": _at_least_one,
                             "help": "of a long card, let its first N statements speak in every "
                                     "turn (default: all)"}),
        (("--card-instructions",), {"action": "store_true",
                                    "help": "let the card's own instructions reach the model"}))),
}  # fmt: skip
