"""The import rules of docs/architecture.md, read from the syntax trees of the source files."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.sources import parsed, statements

ROOT = Path(__file__).resolve().parent.parent
OUTER = ("services", "ui", "benchmarks")

LEVEL_0 = {
    *("errors", "registry", "config", "draw_settings", "runtime", "checkpoints"),
    *("inputs", "sqlite"),
}
# What travels over HTTP, for the server, the command line and the UI alike.
LEVEL_0_AND_HTTP = {"client"}
LEVEL_1 = {"attention", "bulk", "encoders", "diffusion", "world", "language", "saved_character"}
LEVEL_2 = {
    "memory": {"language", "saved_character"},
    "methods": {"attention"},
    "adapters": {"attention", "encoders"},
    "rewards": {"encoders", "language"},
    "models": {"diffusion"},
    "persona": {"memory", "language", "rewards", "saved_character"},
    "avatar": {"attention", "diffusion", "encoders"},
}
LEVEL_3 = {
    "engine": {"models", "attention", "diffusion"},
    "story": {
        *("attention", "encoders", "language"),
        *("diffusion", "engine", "models", "methods", "adapters", "rewards"),
    },
    "training": LEVEL_1 | LEVEL_2.keys() | {"engine"},
    "pipeline": {"methods", "attention", "diffusion", "saved_character"},
}
LEVEL_4 = {"cli", *OUTER}
BELOW_4 = LEVEL_0 | LEVEL_0_AND_HTTP | LEVEL_1 | LEVEL_2.keys() | LEVEL_3.keys()

ALLOWED = {
    # The list of public names points everywhere; that it loads nothing is held by
    # tests/test_repo_rules.py.
    "consistent_gen": BELOW_4,
    **{name: set[str]() for name in LEVEL_0 | LEVEL_0_AND_HTTP | LEVEL_1},
    **LEVEL_2,
    **LEVEL_3,
    **{name: BELOW_4 for name in LEVEL_4},
}
# What one file may import beyond its package.
EXCEPTIONS = {"consistent_gen/story/cast.py": {"memory"}}
# Inside `consistent_gen.memory`: what each room may import of the others.
MEMORY_ROOMS: dict[str, set[str]] = {
    "data": set(),
    "judging": {"data"},
    "storage": {"data", "judging"},
    "recall": {"data", "judging"},
    "listening": {"data", "recall"},
    "talk": {"data", "recall", "listening"},
}
# Inside `services`: what each folder may import of the others. What stands beside the folders is
# for everybody (`settings`, `errors`) or for nobody (the commands and BentoML services).
SERVICE_FOLDERS: dict[str, set[str]] = {
    "keys": set(),
    "plans": set(),
    "scores": set(),
    "telemetry": set(),
    "safety": {"keys"},
    "store": {"keys"},
    "jobs": {"keys", "store"},
    "personas": {"store"},
    "persona_lab": {"store"},
    "painting": {"plans", "jobs"},
    "worker": {"painting", "jobs", "store", "safety", "telemetry"},
    "web": {
        *("keys", "store", "jobs", "plans", "scores", "safety", "personas", "persona_lab"),
        "telemetry",
    },
    "takedown": {"store", "personas", "web"},
    "launch": set(),
}
SERVICE_SHARED = {"settings", "errors"}
# Level 0 must work before anything heavy is there.
LEVEL_0_PACKAGES = {"numpy", "yaml"}


def sources() -> list[Path]:
    folders = ["consistent_gen", *OUTER]
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def owner(relative: Path) -> str:
    """The part of the table that a file belongs to."""
    if relative.parts[0] != "consistent_gen":
        return relative.parts[0]
    name = relative.parts[1].removesuffix(".py")
    return "consistent_gen" if name == "__init__" else name


def imported(nodes: Iterable[ast.AST], package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import; ``from a import b`` counts as ``a.b``."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


@functools.cache
def imports_in(text: str, package: tuple[str, ...]) -> list[tuple[int, str]]:
    """The same of a source text; two rules ask about most files, and parsing is what takes long."""
    return list(imported(statements(parsed(text).body), package))


def part_of(module: str) -> str | None:
    """The part of the table that a module belongs to, None for what is not ours."""
    head, *rest = module.split(".")
    if head in OUTER:
        return head
    if head != "consistent_gen":
        return None
    return rest[0] if rest and rest[0] in ALLOWED else "consistent_gen"


def violations(relative: Path, text: str) -> list[str]:
    part = owner(relative)
    allowed = ALLOWED[part] | LEVEL_0 | {part} | EXCEPTIONS.get(relative.as_posix(), set())
    found = []
    # Below level 4 a public name is imported from where it is defined; the version is at hand.
    if part in LEVEL_4:
        allowed = allowed | {"consistent_gen"}
    for line, module in imports_in(text, relative.parent.parts):
        target = part_of(module)
        if module == "consistent_gen.__version__":
            continue
        if target is not None and target not in allowed:
            found.append(f"{relative}:{line}: {part} must not import {module}")
    return found


def room_violations(relative: Path, text: str, root: str, rooms: dict[str, set[str]]) -> list[str]:
    """What a file in a room below ``root`` (dotted) imports of rooms that it must not know."""
    depth = root.count(".") + 1
    room = relative.parts[depth]
    allowed = rooms[room] | {room}
    found = []
    for line, module in imports_in(text, relative.parent.parts):
        parts = module.split(".")
        inside = parts[depth] if len(parts) > depth else ""
        if ".".join(parts[:depth]) == root and inside not in allowed:
            found.append(f"{relative}:{line}: {root}.{room} must not import {module}")
    return found


def service_violations(relative: Path, text: str) -> list[str]:
    """What a file in a folder of `services` imports of folders that it must not know."""
    rooms = {name: allowed | SERVICE_SHARED for name, allowed in SERVICE_FOLDERS.items()}
    return room_violations(relative, text, "services", rooms)


def memory_violations(relative: Path, text: str) -> list[str]:
    """As `service_violations`, for the rooms of the memory."""
    return room_violations(relative, text, "consistent_gen.memory", MEMORY_ROOMS)


def found_in(files: list[Path], rule: Callable[[Path, str], list[str]]) -> list[str]:
    """What a rule finds in these files, each finding with its file and line."""
    texts = {file.relative_to(ROOT): file.read_text(encoding="utf-8") for file in files}
    return [found for relative, text in texts.items() for found in rule(relative, text)]


def memory_files() -> list[Path]:
    """The files in rooms of the memory; what opens it stands beside them."""
    root = ROOT / "consistent_gen" / "memory"
    return [f for f in sorted(root.rglob("*.py")) if f.parent != root]


def service_files() -> list[Path]:
    """The files in folders of `services`; its commands may import all of them."""
    root = ROOT / "services"
    return [f for f in sorted(root.rglob("*.py")) if f.parent != root]


def test_every_folder_of_the_server_has_a_place_in_the_table() -> None:
    folders = {file.relative_to(ROOT).parts[1] for file in service_files()}
    assert folders == SERVICE_FOLDERS.keys()
    told = {name for allowed in SERVICE_FOLDERS.values() for name in allowed}
    assert told <= folders


def test_every_room_of_the_memory_has_a_place_in_the_table() -> None:
    assert {file.parts[-2] for file in memory_files()} == MEMORY_ROOMS.keys()
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for room, allowed in MEMORY_ROOMS.items():
        cell = " ".join(f"`{name}`" for name in MEMORY_ROOMS if name in allowed)
        told = [line for line in page.splitlines() if line.startswith(f"| `{room}` |")]
        ends = [line.rpartition("|")[0].rpartition("|")[2].strip() for line in told]
        assert ends == [cell], f"docs/architecture.md tells otherwise of {room}"


@pytest.mark.parametrize("rooms", [SERVICE_FOLDERS, MEMORY_ROOMS], ids=["services", "memory"])
def test_the_rooms_go_one_way(rooms: dict[str, set[str]]) -> None:
    """Nothing is above itself, by whatever way round."""
    left = dict(rooms)
    while left:
        free = {name for name, allowed in left.items() if not allowed & left.keys()}
        assert free, f"a circle: {sorted(left)}"
        left = {name: allowed for name, allowed in left.items() if name not in free}


def test_no_import_breaks_the_order_of_the_memory() -> None:
    assert found_in(memory_files(), memory_violations) == []


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("data/a.py", "from consistent_gen.memory.storage import rows"),
        ("recall/a.py", "from consistent_gen.memory.storage.rows import load"),
        ("judging/a.py", "import consistent_gen.memory.talk.requests"),
        ("listening/a.py", "def f():\n    from consistent_gen.memory.talk import assistant"),
        ("talk/a.py", "from consistent_gen.memory import open_memory"),
    ],
)
def test_the_order_of_the_memory_catches(place: str, line: str) -> None:
    assert len(memory_violations(Path("consistent_gen/memory") / place, line)) == 1


def test_no_import_breaks_the_order_of_the_server() -> None:
    assert found_in(service_files(), service_violations) == []


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("services/store/a.py", "from services.jobs import JobStore"),
        ("services/web/routes/a.py", "from services.painting.painter import Painter"),
        ("services/web/a.py", "import services.worker.loop"),
        ("services/painting/a.py", "from services import gateway"),
        ("services/launch/a.py", "def f():\n    from services.web import build_app"),
    ],
)
def test_the_order_of_the_server_catches(place: str, line: str) -> None:
    assert len(service_violations(Path(place), line)) == 1


def test_every_file_has_a_place_in_the_table() -> None:
    strangers = [
        str(f.relative_to(ROOT)) for f in sources() if owner(f.relative_to(ROOT)) not in ALLOWED
    ]
    assert not strangers, f"not in the level table of this test: {strangers}"


def test_no_import_breaks_the_levels() -> None:
    assert found_in(sources(), violations) == []


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("consistent_gen/world/a.py", "from consistent_gen.models import load_backbone"),
        ("consistent_gen/world/a.py", "from consistent_gen import models"),
        ("consistent_gen/world/a.py", "from ..models import words"),
        ("consistent_gen/models/a.py", "import consistent_gen.engine"),
        ("consistent_gen/story/a.py", "from consistent_gen.memory import store"),
        ("consistent_gen/errors.py", "import consistent_gen.world.spec"),
        ("consistent_gen/cli/a.py", "import services"),
        ("consistent_gen/engine/a.py", "def f():\n    from benchmarks import speed"),
        ("ui/a.py", "from services import story"),
        ("consistent_gen/engine/a.py", "from consistent_gen import Story"),
    ],
)
def test_the_rule_catches(place: str, line: str) -> None:
    assert len(violations(Path(place), line)) == 1


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("consistent_gen/world/a.py", "from .spec import Subject"),
        ("consistent_gen/world/a.py", "from consistent_gen import errors"),
        ("consistent_gen/story/cast.py", "from consistent_gen.memory import store"),
        ("consistent_gen/memory/talk/a.py", "from consistent_gen.language.words import STOP_WORDS"),
        ("consistent_gen/training/a.py", "from consistent_gen.rewards import base"),
        ("benchmarks/a.py", "from consistent_gen import Engine"),
    ],
)
def test_the_rule_allows(place: str, line: str) -> None:
    assert violations(Path(place), line) == []


@pytest.mark.parametrize("name", sorted(LEVEL_0))
def test_level_0_imports_nothing_heavy_at_module_level(name: str) -> None:
    import sys

    tree = ast.parse((ROOT / "consistent_gen" / f"{name}.py").read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    heads = {m.split(".")[0] for _, m in imported(top, ("consistent_gen",))}
    known = sys.stdlib_module_names | LEVEL_0_PACKAGES | {"consistent_gen"}
    assert heads <= known, f"{name} imports {heads - known}"
