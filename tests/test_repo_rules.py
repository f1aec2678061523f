"""Rules of the repository that no linter knows: sizes, names, what an import may load, safety."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sources import parsed, statements

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80
NAMES_THAT_SAY_NOTHING = {"utils", "util", "common", "helpers", "helper", "misc"}
HEAVY = ("torch", "diffusers", "transformers", "numpy", "skia", "gradio", "bentoml")
# Modules whose readers can run what a file tells them to.
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
UNSAFE_CALLS = {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}

# The one module that may read pickles, for `consistent-gen weights convert`.
CONVERTER = ROOT / "consistent_gen" / "adapters" / "convert.py"

PRODUCT = sorted(
    file
    for folder in ("consistent_gen", "services", "ui", "benchmarks")
    for file in (ROOT / folder).rglob("*.py")
)
ALL = PRODUCT + sorted((ROOT / "tests").rglob("*.py"))


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def unsafe(nodes: Iterable[ast.AST]) -> list[str]:
    """Lines of a syntax tree that can make a file's content run."""
    found = []
    for node in nodes:
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.Call):
            modules = [dotted(node.func)]
            if any(keyword.arg == "allow_pickle" for keyword in node.keywords):
                found.append(f"line {node.lineno}: allow_pickle")
        for module in modules:
            if module.split(".")[0] in UNSAFE_MODULES or module in UNSAFE_CALLS:
                found.append(f"line {node.lineno}: {module}")
    return found


@dataclass
class Facts:
    """What the rules ask of one file; every file is parsed once for all of them."""

    lines: int
    functions: list[tuple[str, int, int]]  # name, first line, lines
    classes: list[str]
    unsafe: list[str]


@pytest.fixture(scope="module")
def facts() -> dict[Path, Facts]:
    return {file: facts_of(file.read_text(encoding="utf-8")) for file in ALL}


# What stands in every file that may unpickle; where it does not, expressions need no look.
SUSPECT = re.compile(
    "|".join((*UNSAFE_MODULES, *UNSAFE_CALLS, "allow_pickle", "from (torch|yaml)"))
)


def facts_of(text: str) -> Facts:
    tree = parsed(text)
    nodes = list(statements(tree.body))
    functions = [
        (node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    classes = [node.name for node in nodes if isinstance(node, ast.ClassDef)]
    found = unsafe(ast.walk(tree)) if SUSPECT.search(text) else []
    return Facts(text.count("\n"), functions, classes, found)


def test_files_are_short_and_their_names_say_something(facts: dict[Path, Facts]) -> None:
    too_long = {name_of(f): told.lines for f, told in facts.items() if told.lines > MAX_FILE_LINES}
    assert too_long == {}
    assert [name_of(file) for file in facts if file.stem in NAMES_THAT_SAY_NOTHING] == []


def test_functions_are_short(facts: dict[Path, Facts]) -> None:
    too_long = []
    for file, told in facts.items():
        is_recipe = file.parent == ROOT / "consistent_gen" / "training"
        for name, line, lines in told.functions:
            if lines > MAX_FUNCTION_LINES and not (is_recipe and name == "main"):
                too_long.append(f"{name_of(file)}:{line} {name} has {lines} lines")
    assert not too_long


def test_nothing_unpickles(facts: dict[Path, Facts]) -> None:
    others = [file for file in PRODUCT if file != CONVERTER]
    assert {name_of(f): facts[f].unsafe for f in others if facts[f].unsafe} == {}


def test_the_converter_of_pickles_builds_tensors_only_and_stands_alone() -> None:
    """Published weights come as pickles; one module reads these, once, without obeying them."""
    nodes = list(ast.walk(ast.parse(CONVERTER.read_text(encoding="utf-8"))))
    assert [found.partition(": ")[2] for found in unsafe(nodes)] == ["torch.load"]
    calls = [n for n in nodes if isinstance(n, ast.Call) and dotted(n.func) == "torch.load"]
    told = {k.arg: ast.literal_eval(k.value) for call in calls for k in call.keywords}
    assert told["weights_only"] is True
    users = [
        name_of(file) for file in PRODUCT if "adapters.convert" in file.read_text(encoding="utf-8")
    ]
    assert users == ["consistent_gen/cli/weights.py"]


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from torch import load",
        "import torch\ntorch.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import yaml\nyaml.load('x', yaml.Loader)",
    ],
)
def test_the_safety_rule_catches(text: str) -> None:
    assert len(unsafe(ast.walk(ast.parse(text)))) == len(facts_of(text).unsafe) == 1


@pytest.mark.parametrize(
    "code",
    [
        "import consistent_gen",
        "import consistent_gen; dir(consistent_gen); consistent_gen.StoryError",
        "from consistent_gen.cli import main; main(['--help'])",
        "from consistent_gen.cli import main; main(['story', '--help'])",
    ],
)
def test_import_and_help_load_nothing_heavy(code: str) -> None:
    program = (
        "import sys\n"
        f"try:\n    exec({code!r})\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"


def test_no_class_name_stands_for_two_things(facts: dict[Path, Facts]) -> None:
    places: dict[str, list[str]] = {}
    for file in PRODUCT:
        for name in facts[file].classes:
            places.setdefault(name, []).append(name_of(file))
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert twice == {}
