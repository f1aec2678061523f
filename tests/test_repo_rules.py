"""Rules of the repository that no linter knows: sizes, names, what an import may load, safety."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80
NAMES_THAT_SAY_NOTHING = {"utils", "util", "common", "helpers", "helper", "misc"}
HEAVY = ("torch", "diffusers", "transformers", "numpy", "skia", "gradio", "bentoml")
# Modules whose readers can run what a file tells them to.
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
UNSAFE_CALLS = {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}

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


def unsafe(text: str) -> list[str]:
    """Lines of a source text that can make a file's content run."""
    found = []
    for node in ast.walk(ast.parse(text)):
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


@pytest.mark.parametrize("file", ALL, ids=name_of)
def test_file_is_short_and_its_name_says_something(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_FILE_LINES, f"{name_of(file)} has {lines} lines"
    assert file.stem not in NAMES_THAT_SAY_NOTHING


@pytest.mark.parametrize("file", ALL, ids=name_of)
def test_functions_are_short(file: Path) -> None:
    is_recipe = file.parent == ROOT / "consistent_gen" / "training"
    too_long = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > MAX_FUNCTION_LINES and not (is_recipe and node.name == "main"):
            too_long.append(f"{name_of(file)}:{node.lineno} {node.name} has {lines} lines")
    assert not too_long


@pytest.mark.parametrize("file", PRODUCT, ids=name_of)
def test_nothing_unpickles(file: Path) -> None:
    assert unsafe(file.read_text(encoding="utf-8")) == []


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
    assert len(unsafe(text)) == 1


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


def test_no_class_name_stands_for_two_things() -> None:
    places: dict[str, list[str]] = {}
    for file in PRODUCT:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name_of(file))
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert twice == {}
