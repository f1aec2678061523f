"""The public list in consistent_gen/__init__.py agrees with itself and with reality."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import consistent_gen
from consistent_gen.errors import MissingExtraError

SOURCE = Path(consistent_gen.__file__).read_text(encoding="utf-8")


def names_for_the_checker() -> dict[str, str]:
    """name -> module of what the ``if TYPE_CHECKING`` block imports."""
    block = next(node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    return {
        alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_the_three_lists_agree() -> None:
    assert set(consistent_gen.__all__) == {*consistent_gen._PUBLIC, "__version__"}
    lazy = {name: entry.partition(":")[0] for name, entry in consistent_gen._PUBLIC.items()}
    assert names_for_the_checker() == lazy
    assert dir(consistent_gen) == sorted(consistent_gen.__all__)


def test_every_public_name_resolves_to_what_its_module_defines() -> None:
    for name in sorted(consistent_gen._PUBLIC):
        try:
            found = getattr(consistent_gen, name)
        except MissingExtraError:
            continue
        assert found.__name__ == name
        assert consistent_gen._PUBLIC[name] == f"{found.__module__}:{name}"
        assert found.__doc__, f"{name} is public and has no docstring"


def test_every_error_of_the_tree_is_public() -> None:
    from consistent_gen import errors

    tree = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, Exception)}
    assert tree <= set(consistent_gen.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(consistent_gen, "no_such_" + "name")
