"""`consistent-gen memory`: look into a memory, mend it, undo, erase, carry it elsewhere."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consistent_gen.errors import InputError

if TYPE_CHECKING:
    from consistent_gen.memory.data.operations import Op
    from consistent_gen.memory.data.records import Record
    from consistent_gen.memory.data.store import ErasureReceipt, Outcome, Store
    from consistent_gen.memory.storage.keys import MemoryKey

DEFAULT_PLACE = "~/.consistent-gen/memory"
DEFAULT_USER = "me"


def add_command(commands: Any) -> None:
    """Add `memory` with its actions to the commands of `consistent-gen`."""
    parser = commands.add_parser(
        "memory",
        help="look into, correct and erase a long-term memory",
        description="The long-term memory of one user: everything in it can be seen and erased.",
    )
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (help, run, arguments) in _ACTIONS.items():
        action = actions.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        for flags, options in arguments:
            action.add_argument(*flags, **options)
        add_place(action)
        action.set_defaults(run=run)


def add_place(parser: argparse.ArgumentParser) -> None:
    """The two options that say whose memory is meant."""
    parser.add_argument(
        "--memory",
        metavar="PLACE",
        default=DEFAULT_PLACE,
        help=f"folder of memories, or a postgresql:// address (default: {DEFAULT_PLACE})",
    )
    parser.add_argument(
        "--user", metavar="NAME", default=DEFAULT_USER, help=f"default: {DEFAULT_USER}"
    )
    parser.add_argument(
        "--memory-key",
        metavar="FILE",
        help="key file of an encrypted memory (default: the environment variable "
        "CONSISTENT_GEN_MEMORY_KEY, else no encryption)",
    )


def opened(options: argparse.Namespace) -> Store:
    """The memory that the options name."""
    from consistent_gen.memory import open_memory

    place = options.memory
    if not place.startswith(("postgres://", "postgresql://")):
        place = str(Path(place).expanduser())
    return open_memory(place, options.user, key=_key(options))


def _key(options: argparse.Namespace) -> MemoryKey | None:
    from consistent_gen.memory.storage.keys import key_from_environment, key_from_file

    if options.memory_key is not None:
        return key_from_file(Path(options.memory_key).expanduser())
    return key_from_environment()


def run_list(options: argparse.Namespace) -> int:
    """Print live records, by kind, or as they were at a time."""
    from consistent_gen.inputs import check_choice
    from consistent_gen.memory.data.records import KINDS
    from consistent_gen.memory.data.store import AsOf

    if options.kind is not None:
        check_choice(options.kind, KINDS, "kind")
    as_of = AsOf(world=parse_time(options.as_of)) if options.as_of else None
    with opened(options) as store:
        for kind in KINDS if options.kind is None else (options.kind,):
            for record in store.list(kind, as_of=as_of, limit=options.limit):
                _print_record(record)
    return 0


def run_show(options: argparse.Namespace) -> int:
    """Print one record with all its fields."""
    import json

    with opened(options) as store:
        for name, value in vars(_one(store, options.id)).items():
            if value not in ("", (), None, {}):
                print(f"{name}: {json.dumps(value, default=str, ensure_ascii=False)}")
    return 0


def run_search(options: argparse.Namespace) -> int:
    """Print what fits some words, best first, with the reasons."""
    from consistent_gen.language.embedders import default_embedder
    from consistent_gen.memory.data.store import TimeWindow
    from consistent_gen.memory.recall.indexing import TEXT_ROLE
    from consistent_gen.memory.recall.retriever import CAPS, Retriever

    window = None
    if options.since or options.until:
        window = TimeWindow(
            start=parse_time(options.since) if options.since else None,
            end=parse_time(options.until) if options.until else None,
        )
    with opened(options) as store:
        embedder = default_embedder() if store.active_space(TEXT_ROLE) else None
        retriever = Retriever(store, embedder)
        if retriever.notice:
            print(f"({retriever.notice})")
        caps = {kind: max(cap, options.limit) for kind, cap in CAPS.items()}
        matches = retriever.search(options.words, window=window, caps=caps)[: options.limit]
        if not matches:
            when = " in this time" if window else ""
            print(f"nothing that is remembered{when} fits {options.words[:60]!r}")
        for found in matches:
            _print_record(found.record)
            print(f"    {'; '.join(found.reasons)}")
    return 0


def run_correct(options: argparse.Namespace) -> int:
    """Replace the text of a record, as the user's own word."""
    from consistent_gen.memory.data.operations import Update

    with opened(options) as store:
        record = _one(store, options.id)
        return _edit(
            store,
            Update(
                kind=record.kind,
                target=_target(record),
                value=options.text,
                correction=not options.changed,
            ),
        )


def run_end(options: argparse.Namespace) -> int:
    """End a record without erasing its history."""
    from consistent_gen.memory.data.operations import Delete

    with opened(options) as store:
        record = _one(store, options.id)
        return _edit(store, Delete(kind=record.kind, target=_target(record)))


def run_forget(options: argparse.Namespace) -> int:
    """Erase what some words mean, after showing it."""
    from consistent_gen.cli.recognising import picture_embedder
    from consistent_gen.memory.recall.concepts import ConceptBook
    from consistent_gen.memory.talk.forgetting import carry_out, plan_forgetting

    with opened(options) as store:
        book = ConceptBook(store, picture_embedder(store))
        plan = plan_forgetting(store, options.words, book)
        if plan.empty:
            print("nothing is remembered about that")
            return 1
        print("\n".join(plan.lines(limit=1_000)))
        if not options.yes:
            print("nothing was erased; add --yes to erase this for good")
            return 1
        pictures = "keep" if options.keep_pictures else "erase"
        for receipt in carry_out(store, plan, book, generated=pictures):  # type: ignore[arg-type]
            _print_receipt(receipt)
    return 0


def run_purge(options: argparse.Namespace) -> int:
    """Erase records, branches, kinds or everything, with all that was derived from it."""
    from consistent_gen.memory.data.store import Scope

    scope = Scope(
        ids=tuple(options.id),
        paths=tuple(options.path),
        kinds=tuple(options.kind),
        everything=options.everything,
    )
    if not options.yes:
        raise InputError("erasing cannot be undone; add --yes to do it", source="purge")
    with opened(options) as store:
        _print_receipt(store.purge(scope))
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Write everything to one zip file."""
    if _key(options) is not None and not options.plain:
        raise InputError(
            "the memory is encrypted but an export is not: whoever has the file can read it; "
            "add --plain to write it all the same",
            source="export",
        )
    with opened(options) as store:
        print(store.export(options.file))
    return 0


def run_new_key(options: argparse.Namespace) -> int:
    """Write a fresh key file."""
    from consistent_gen.memory.storage.keys import new_key

    print(new_key(Path(options.file).expanduser()))
    print("keep a copy in a safe place: without it an encrypted memory is lost")
    return 0


def run_import(options: argparse.Namespace) -> int:
    """Read an export into an empty memory."""
    with opened(options) as store:
        print(f"{store.restore(options.file)} record versions")
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """Check the whole memory; with --compact also finish erasures and shrink the files."""
    with opened(options) as store:
        result = store.compact() if options.compact else store.verify()
    print(f"{result.records} records, {result.vectors} vectors, {result.media} media files")
    for problem in result.problems:
        print(f"problem: {problem}")
    return 0 if result.ok else 1


def run_history(options: argparse.Namespace) -> int:
    """Print every version of a record, or the log of operations."""
    with opened(options) as store:
        if options.id is None:
            for outcome in store.outcomes(status=options.status, limit=options.limit):
                _print_outcome(outcome)
            return 0
        versions = store.history(options.id)
        if not versions:
            raise InputError(f"no record {options.id!r}; `memory list` prints the ids")
        for record in versions:
            held = f"{_day(record.valid_from)} to {_day(record.valid_to)}"
            state = "" if record.live else f"  (retired {_day(record.retired_at)})"
            print(f"version {record.version}  held {held}{state}\n    {record.text}")
            print(f"    written by {record.created_by}")
    return 0


def run_undo(options: argparse.Namespace) -> int:
    """Take back one earlier write."""
    with opened(options) as store:
        receipt = store.undo(options.batch)
        print(f"undone; memory is at version {receipt.version}")
    return 0


def run_release(options: argparse.Namespace) -> int:
    """Apply a quarantined operation, or discard it."""
    with opened(options) as store:
        if options.discard:
            store.discard(options.outcome)
            print("discarded")
            return 0
        for outcome in store.release(options.outcome).outcomes:
            _print_outcome(outcome)
    return 0


def run_reembed(options: argparse.Namespace) -> int:
    """Re-embed texts and pictures with the best embedders there are, then switch to them."""
    from consistent_gen.cli.recognising import offered
    from consistent_gen.language.embedders import EMBEDDERS, default_embedder
    from consistent_gen.memory.recall.concepts import reembed_pictures
    from consistent_gen.memory.recall.indexing import IMAGE_ROLE, change_embedder
    from consistent_gen.registry import resolve

    name = options.embedder
    embedder = resolve(EMBEDDERS, name, kind="embedder")() if name else default_embedder()
    with opened(options) as store:
        print(f"{change_embedder(store, embedder)} texts; now {embedder.description}")
        best = offered()[0]
        if store.active_space(IMAGE_ROLE) not in (None, best.space):
            print(f"{reembed_pictures(store, best)} pictures; now {best.description}")
    return 0


def _at_least_one(text: str) -> int:
    """A count for an option; argparse turns the error into one line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def _edit(store: Store, op: Op) -> int:
    from consistent_gen.memory.data.operations import Batch

    receipt = store.apply(Batch(ops=(op,), author="user"))
    for outcome in receipt.outcomes:
        _print_outcome(outcome)
    if all(outcome.status in ("applied", "normalised") for outcome in receipt.outcomes):
        print(f"undo with: memory undo {receipt.batch}")
        return 0
    return 1


def _one(store: Store, id: str) -> Record:
    found = store.get([id])
    if not found:
        raise InputError(f"no live record {id!r}; `memory list` prints the ids")
    return found[0]


def _target(record: Record) -> str:
    return record.label if record.kind == "core" else record.id


def parse_time(text: str) -> datetime:
    """A date or time in ISO 8601; UTC unless it says otherwise. Raises ``InputError``."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{text!r} is not a date or time such as 2026-03-01 or 2026-03-01T09:30"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _day(moment: datetime | None) -> str:
    return "open" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _print_record(record: Record) -> None:
    label = f"{record.label}: " if record.label else ""
    text = " ".join(f"{label}{record.text}".split())
    print(f"{record.id}  {record.kind:<7}  {_day(record.valid_from)}  {record.origin}  {text}")


def _print_outcome(outcome: Outcome) -> None:
    target = getattr(outcome.op, "target", "") or outcome.record
    reason = f"  ({outcome.rule}: {outcome.reason})" if outcome.rule else ""
    print(f"{outcome.id}  {outcome.status}  {outcome.op.name} {target}{reason}")


def _print_receipt(receipt: ErasureReceipt) -> None:
    rows = ", ".join(f"{count} {kind}" for kind, count in sorted(receipt.rows.items())) or "no rows"
    also = f"{receipt.vectors} vectors, {receipt.media} files, {receipt.log} log lines"
    print(f"erased {rows}; {also}")
    print("no byte is left" if receipt.scrubbed else f"pending: {'; '.join(receipt.pending)}")


_ID = (("id",), {"metavar": "ID", "help": "a record's id, as `list` prints it"})
_WORDS = (("words",), {"metavar": "WORDS", "help": "what to look for"})
_YES = (("--yes",), {"action": "store_true", "help": "do it; without this nothing is erased"})
_LIMIT = (
    ("--limit",),
    {"metavar": "N", "type": _at_least_one, "default": 50, "help": "default: 50"},
)
_ACTIONS: dict[str, tuple[str, Any, tuple[tuple[tuple[str, ...], dict[str, Any]], ...]]] = {
    "list": ("print what is remembered", run_list, (
        (("--kind",), {"metavar": "KIND", "help": "core, fact, habit, concept, episode, ..."}),
        (("--as-of",), {"metavar": "TIME", "help": "as things were at this date or time (UTC)"}),
        _LIMIT)),
    "show": ("print one record with all its fields", run_show, (_ID,)),
    "search": ("print what fits some words, best first, with reasons", run_search, (
        _WORDS,
        (("--since",), {"metavar": "TIME", "help": "only from this date or time on (UTC)"}),
        (("--until",), {"metavar": "TIME", "help": "only before this date or time (UTC)"}),
        _LIMIT)),
    "correct": ("replace the text of a record", run_correct, (
        _ID, (("text",), {"metavar": "TEXT", "help": "what it shall say"}),
        (("--changed",), {"action": "store_true",
                          "help": "the old text was true until now (otherwise it never was)"}))),
    "end": ("end a record but keep its history", run_end, (_ID,)),
    "forget": ("erase what some words mean, after showing it", run_forget, (
        _WORDS, _YES,
        (("--keep-pictures",), {"action": "store_true",
                                "help": "keep drawn pictures, without link or prompt"}))),
    "purge": ("erase records and all that was derived from them", run_purge, (
        (("--id",), {"metavar": "ID", "action": "append", "default": [], "help": "a record"}),
        (("--path",), {"metavar": "PATH", "action": "append", "default": [],
                       "help": "a tree path or branch"}),
        (("--kind",), {"metavar": "KIND", "action": "append", "default": [], "help": "all of it"}),
        (("--everything",), {"action": "store_true", "help": "the whole memory"}), _YES)),
    "export": ("write everything to one zip file", run_export, (
        (("file",), {"metavar": "FILE", "help": "a new .zip file"}),
        (("--plain",), {"action": "store_true",
                        "help": "agree that the export of an encrypted memory is readable"}))),
    "new-key": ("write a fresh key file for an encrypted memory", run_new_key, (
        (("file",), {"metavar": "FILE", "help": "a new file"}),)),
    "import": ("read an export into an empty memory", run_import, (
        (("file",), {"metavar": "FILE", "help": "a file that `export` wrote"}),)),
    "verify": ("check the whole memory", run_verify, (
        (("--compact",), {"action": "store_true", "help": "also finish erasures and shrink"}),)),
    "history": ("print a record's versions, or the log of operations", run_history, (
        (("id",), {"metavar": "ID", "nargs": "?", "help": "a record's id; without it the log"}),
        (("--status",), {"metavar": "STATUS", "help": "applied, refused, quarantined, ..."}),
        _LIMIT)),
    "undo": ("take back one earlier write", run_undo, (
        (("batch",), {"metavar": "BATCH", "help": "what `correct` or `history ID` printed"}),)),
    "release": ("apply an operation that waits in quarantine", run_release, (
        (("outcome",), {"metavar": "ENTRY", "help": "the id of a log entry"}),
        (("--discard",), {"action": "store_true", "help": "erase it from the log instead"}))),
    "reembed": ("embed all texts and pictures anew and switch to the new vectors", run_reembed, (
        (("--embedder",), {"metavar": "NAME", "help": "minilm or ngrams (default: the better)"}),)),
}  # fmt: skip
