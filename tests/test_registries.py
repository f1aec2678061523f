"""Every registry table found in the source resolves, and resolving names what is wrong."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from consistent_gen.errors import MissingExtraError, UnknownNameError
from consistent_gen.registry import EXTRA_OF_PACKAGE, OUR_PACKAGES, nearest, resolve, unknown_name

ROOT = Path(__file__).resolve().parent.parent
ENTRY = re.compile(rf"({'|'.join(OUR_PACKAGES)})(\.\w+)*:\w+")


def tables(text: str) -> dict[str, dict[str, str]]:
    """Module-level dict literals whose every value reads "module:Name" with a module of ours."""
    found = {}
    for node in ast.parse(text).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if not (isinstance(target, ast.Name) and isinstance(value, ast.Dict) and value.keys):
            continue
        try:
            literal = ast.literal_eval(value)
        except ValueError:
            continue
        if all(isinstance(v, str) and ENTRY.fullmatch(v) for v in literal.values()):
            found[target.id] = literal
    return found


FOUND = [
    (file.relative_to(ROOT).as_posix(), table, name, entry)
    for package in OUR_PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
    for table, entries in tables(file.read_text(encoding="utf-8")).items()
    for name, entry in entries.items()
]


def test_tables_are_found() -> None:
    assert any(table == "_PUBLIC" for _, table, _, _ in FOUND)
    assert any(table == "METHODS" for _, table, _, _ in FOUND)


def test_every_entry_resolves() -> None:
    for file, table, name, entry in FOUND:
        try:
            found = resolve({name: entry}, name)
        except MissingExtraError as error:
            assert error.extra is not None, f"{file} {table}: {error}; no extra brings that package"
            continue
        assert found is not None, f"{file} {table}: {name}"


def test_resolve_imports_on_use_only() -> None:
    table = {"good": "consistent_gen.errors:StoryError", "bad": "consistent_gen.no_such:Thing"}
    assert resolve(table, "good").__name__ == "StoryError"
    with pytest.raises(ModuleNotFoundError):
        resolve(table, "bad")


def test_resolve_names_the_nearest_and_all() -> None:
    with pytest.raises(UnknownNameError) as caught:
        resolve({"consistory": "a:B", "vanilla": "a:C"}, "Consistori", kind="method")
    text = str(caught.value)
    assert "method 'Consistori'" in text
    assert "did you mean 'consistory'?" in text
    assert "consistory, vanilla" in text


def test_resolve_names_the_extra_of_an_absent_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wants_more.py").write_text("import package_that_is_absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(EXTRA_OF_PACKAGE, "package_that_is_absent", "face")
    with pytest.raises(MissingExtraError, match=r"pip install 'consistent-gen\[face\]'"):
        resolve({"x": "wants_more:X"}, "x", kind="encoder")


def test_extras_of_packages_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(EXTRA_OF_PACKAGE.values()) <= set(project["optional-dependencies"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Consistori", "consistory"), ("VANILLA", "vanilla"), ("zzz", None), ("", None)],
)
def test_nearest(name: str, expected: str | None) -> None:
    assert nearest(name, ["vanilla", "consistory"]) == expected


def test_unknown_name_without_a_near_one_or_any() -> None:
    assert str(unknown_name("key", "zzz", ["a", "b"])) == "unknown key 'zzz'; known: a, b"
    assert str(unknown_name("key", "zzz", [])) == "unknown key 'zzz'; known: none"
    assert str(unknown_name("key", "k", [], source="f.yaml", line=3)).startswith("f.yaml:3: ")
