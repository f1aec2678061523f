"""docs/methods.md from the registry: `python -m consistent_gen.methods.index > docs/methods.md`."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from typing import Any

from consistent_gen.attention.settings import Recipe
from consistent_gen.methods import DEFAULT_METHOD, METHODS
from consistent_gen.registry import resolve

STEPS = 50  # of which the calls are counted in the table
HEAD = """\
# Methods

Made from the registry by `python -m consistent_gen.methods.index > docs/methods.md`; a test holds
the two together. A story file names a method with `method:`, the command line with `--method`, your
own diffusers pipeline with `consistent_gen.share(pipe, NAME)`. What each of them costs and keeps is
measured in [benchmarks](benchmarks.md).
"""


def index() -> str:
    """The text of docs/methods.md."""
    rows = ["| method | anchors | calls per added frame | reads pictures |", "|---|---|---|---|"]
    sections = []
    for name, target in METHODS.items():
        method = resolve(METHODS, name)
        recipe: Recipe = method().recipe()
        anchors = str(recipe.anchors) if method.couples_frames else "none"
        calls = f"{recipe.calls(STEPS)} in {STEPS} steps"
        reads = "yes" if method.reads_references else "no"
        shown = f"`{name}`" + (" (default)" if name == DEFAULT_METHOD else "")
        rows.append(f"| {shown} | {anchors} | {calls} | {reads} |")
        sections.append(_section(name, target, method))
    return "\n".join([HEAD, *rows, "", *sections])


def _section(name: str, target: str, method: type) -> str:
    module = inspect.getmodule(method)
    assert module is not None and module.__doc__, "every method file says what it is"
    settings = [f"{field.name}={_shown(field.default)}" for field in fields(method)]
    path = target.partition(":")[0].replace(".", "/")
    lines = [f"## `{name}`", "", inspect.cleandoc(module.__doc__), ""]
    if settings:
        about = inspect.cleandoc(method.__doc__ or "")
        lines += [about, "", f"Defaults: `{', '.join(settings)}`", ""]
    return "\n".join([*lines, f"Source: [{path}.py](../{path}.py)", ""])


def _shown(default: Any) -> str:
    """A setting's default; of a group of settings at their own defaults, its class."""
    group = is_dataclass(default) and not isinstance(default, type)
    plain = group and default == type(default)()
    return f"{type(default).__name__}()" if plain else repr(default)


if __name__ == "__main__":
    print(index(), end="")
