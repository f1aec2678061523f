"""A newcomer's walk: what of ours lies between a story file and its picture.

    PYTHONPATH=. python tests/walk.py examples/two_friends.yaml [--method vanilla]

Draws the story in two steps and looks at six points: where the file is opened, where the story, the
plan and a request are made, at the first call of the denoiser, and where the first PNG is opened
for writing. Two counts are printed, each of distinct modules and functions of ours:

- on the stack: what is on the call stack at the six points;
- on the way: what is entered from the first point to the denoiser, apart from the loading of the
  model, and what is on the stack at the PNG. Whoever follows the way in the debugger meets these.

The points are found by what they do, or by the name of the class that is made, so that the same
script walks through older versions too.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

POINTS = ("file read", "story", "plan", "request", "first denoiser call", "PNG")
LOADING = ("load_model", "load_backbone")
OPTIMIZED = 2  # CO_NEWLOCALS: set for functions, not for the bodies of modules and classes

Name = tuple[str, str]
on_stack: dict[str, list[Name]] = {}
on_the_way: dict[Name, None] = {}


def name_of(frame: FrameType) -> Name | None:
    """(module, function) of a frame if it is ours, with the functions inside it."""
    module, code = frame.f_globals.get("__name__", ""), frame.f_code
    ours = module.partition(".")[0] in ("consistent_gen", "services")
    if not ours or not code.co_flags & OPTIMIZED or not code.co_filename.endswith(".py"):
        return None
    name = code.co_qualname.partition(".<locals>")[0]
    return None if name.startswith("<") else (module, name)


def mark(point: str, frame: FrameType | None = None) -> None:
    """Note our functions on the stack, outermost first, when a point is met for the first time."""
    if point in on_stack:
        return
    if point == POINTS[0]:
        sys.setprofile(follow)
    if point == "first denoiser call":
        sys.setprofile(None)
    here: list[Name] = []
    at = frame or sys._getframe(1)
    while at is not None:
        if (name := name_of(at)) is not None:
            here.append(name)
        at = at.f_back  # type: ignore[assignment]
    on_stack[point] = here[::-1]


loading = 0


def follow(frame: FrameType, event: str, _argument: object) -> None:
    """Note what is entered, but for what the loading of the model enters."""
    global loading
    name = name_of(frame) if event in ("call", "return") else None
    if name is None:
        return
    if name[1] in LOADING:
        loading += 1 if event == "call" else -1
    elif not loading and event == "call":
        on_the_way.setdefault(name)


def mark_class(package: str, name: str, point: str) -> None:
    """Mark a point wherever a class of that name in a package is made."""
    classes = set()
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        made = getattr(importlib.import_module(info.name), name, None)
        if inspect.isclass(made) and made.__module__.startswith(package):
            classes.add(made)
    for made in classes:
        plain = made.__init__

        def init(self: Any, *args: Any, _plain: Any = plain, **kwargs: Any) -> None:
            mark(point)
            _plain(self, *args, **kwargs)

        made.__init__ = init


def watch_files(story: Path, out: Path) -> None:
    """Mark the points where the story is opened and where the first picture is."""

    def opened(event: str, args: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(args[0], str | Path):
            return
        path = Path(args[0])
        if path == story:
            mark("file read", sys._getframe(1))
        elif path.suffix == ".png" and out.parent in path.parents:
            mark("PNG", sys._getframe(1))

    sys.addaudithook(opened)


def watch_denoiser() -> None:
    """Mark the first call of a UNet."""
    import diffusers

    plain = diffusers.UNet2DConditionModel.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        mark("first denoiser call")
        return plain(self, *args, **kwargs)

    diffusers.UNet2DConditionModel.forward = forward


def main(story: Path, options: list[str]) -> None:
    """Walk, and print what was met."""
    from consistent_gen.cli import main as command

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        watch_files(story, out)
        watch_denoiser()
        mark_class("consistent_gen.story", "Story", "story")
        mark_class("consistent_gen.story", "StoryPlan", "plan")
        mark_class("consistent_gen.engine", "FrameRequest", "request")
        code = command(["story", str(story), "--out", str(out), "--steps", "2", *options])
        assert code == 0 and set(on_stack) == set(POINTS), f"met: {set(on_stack)}"
    for point in POINTS:
        print(f"{point}: {' > '.join(f'{m}.{n}' for m, n in on_stack[point])}")
    on_the_way.update(dict.fromkeys(on_stack["PNG"]))
    for module, count in Counter(module for module, _ in on_the_way).items():
        print(f"{module} ({count}): {', '.join(n for m, n in on_the_way if m == module)}")
    stack = {name for point in POINTS for name in on_stack[point]}
    for what, names in (("on the stack", stack), ("on the way", set(on_the_way))):
        print(f"{what}: {len({module for module, _ in names})} modules, {len(names)} functions")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
