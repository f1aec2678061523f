"""docs/methods.md, made from the registry by `python -m consistent_gen.methods.docs_page`."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import is_dataclass
from typing import Any

from consistent_gen.attention.settings import Recipe
from consistent_gen.methods import DEFAULT_METHOD, METHODS
from consistent_gen.methods.tuning import recipe_of, setting
from consistent_gen.registry import resolve

STEPS = 50  # of which the calls are counted in the table
HEAD = """\
# Methods

Made from the registry by `python -m consistent_gen.methods.docs_page > docs/methods.md`; a test
holds the two together. A story file names a method with `method:`, the command line with
`--method`, your own diffusers pipeline with `consistent_gen.share(pipe, NAME)`. What each of them
costs and keeps is measured in [benchmarks](benchmarks.md).
"""


def index() -> str:
    """The text of docs/methods.md."""
    rows = ["| method | anchors | calls per added frame | reads pictures |", "|---|---|---|---|"]
    sections = []
    for name, target in METHODS.items():
        recipe = recipe_of(name)
        anchors = str(recipe.anchors or "none")
        calls = f"{recipe.calls(STEPS)} in {STEPS} steps"
        reads = "yes" if recipe.rules else "no"
        reads = "yes, with edit models" if recipe.pictures else reads
        shown = f"`{name}`" + (" (default)" if name == DEFAULT_METHOD else "")
        rows.append(f"| {shown} | {anchors} | {calls} | {reads} |")
        sections.append(_section(name, target))
    return "\n".join([HEAD, *rows, "", *sections])


def _section(name: str, target: str) -> str:
    module = target.partition(":")[0]
    about = inspect.getdoc(importlib.import_module(module))
    assert about, "every method file says what it is"
    recipe: Recipe = resolve(METHODS, name)
    settings = [f"{key}={_shown(setting(recipe, key))}" for key in recipe.settings]
    lines = [f"## `{name}`", "", about, ""]
    lines += [f"Defaults: `{', '.join(settings)}`", ""] if settings else []
    path = module.replace(".", "/")
    return "\n".join([*lines, f"Source: [{path}.py](../{path}.py)", ""])


def _shown(default: Any) -> str:
    """A setting's default; of a group of settings at their own defaults, its class."""
    group = is_dataclass(default) and not isinstance(default, type)
    plain = group and default == type(default)()
    return f"{type(default).__name__}()" if plain else repr(default)


if __name__ == "__main__":
    print(index(), end="")
