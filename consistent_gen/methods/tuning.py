"""Methods with other settings than they are published with.

What a paper chose for SDXL need not suit a model of 20 million weights, and the other way round. So
a model folder may say, under `methods` of its `recommended.json`, with which settings a method acts
best on it. Methods without an entry, and models without the file, keep the published ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol, get_type_hints

from consistent_gen.attention.settings import Recipe, ScaleShared, TwinValues, has_edit
from consistent_gen.config import Source, convert, merged
from consistent_gen.methods import METHODS
from consistent_gen.registry import resolve, unknown_name


class Recommending(Protocol):
    """Of a model (`models.backbone.Backbone`): its folder, and what that recommends."""

    @property
    def path(self) -> Path:
        """The folder."""

    @property
    def method_settings(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings of methods, by their names."""


def tuned(name: str, model: Recommending, overrides: Iterable[str] = ()) -> Recipe:
    """The method `name` of `METHODS` with the settings that the model's folder recommends for it.

    overrides: further settings, "key=value" (see `config.from_mapping`); they win.

    Raises:
        As `recipe_of`; a wrong setting in the folder is named with its file.
    """
    settings = model.method_settings.get(name, {})
    source = model.path / "recommended.json" if settings else None
    return recipe_of(name, settings, overrides, source=source)


def recipe_of(
    name: str,
    settings: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
    *,
    source: Source = None,
) -> Recipe:
    """The method `name` of `METHODS`, as published but for these settings.

    Rules that then do nothing are left out, and what only they needed to know.

    Raises:
        UnknownNameError, InputError: no such method or setting, or a value of another type.
    """
    recipe: Recipe = resolve(METHODS, name, kind="method")
    for key, value in merged(settings or {}, overrides).items():
        if key not in recipe.settings:
            raise unknown_name("key", key, recipe.settings, source=source)
        for place in recipe.settings[key]:
            recipe = _changed(recipe, place, value, key, source)
    return _without_idle(recipe)


def setting(recipe: Recipe, name: str) -> Any:
    """The value of one of a recipe's settings."""
    head, *path = recipe.settings[name][0].split(".")
    value: Any = getattr(recipe, head, None)
    if value is None:
        value = next(rule for rule in recipe.rules if head in ("*", rule.name))
    for key in path:
        value = value[int(key)] if isinstance(value, tuple) else getattr(value, key)
    return True if path and path[-2:-1] == ["align"] else value


def _changed(recipe: Recipe, place: str, value: Any, name: str, source: Source) -> Recipe:
    """The recipe with `value` at a place: the name of a rule, "*" for all of them, or a field of
    the recipe, and then fields and numbers of parts.
    """
    head, *path = place.split(".")
    if head in ("masks", "features"):
        part: Any = _put(getattr(recipe, head), path, value, name, source)
        return replace(recipe, **{head: part})
    if isinstance(value, Mapping) or is_dataclass(value):
        # What has a setting of its own is changed by that alone.
        own = {p.removeprefix(f"{place}.").partition(".")[0] for (p, *_) in recipe.settings.values()
               if p.startswith(f"{place}.")}  # fmt: skip
        whole = value if isinstance(value, Mapping) else {
            f.name: getattr(value, f.name) for f in fields(value)
        }  # fmt: skip
        value = {key: part for key, part in whole.items() if key not in own}
    rules = tuple(
        _put(rule, path, value, name, source) if head in ("*", rule.name) else rule
        for rule in recipe.rules
    )
    return replace(recipe, rules=rules)


def _put(node: Any, path: list[str], value: Any, name: str, source: Source) -> Any:
    """`node`, a frozen dataclass or a tuple, with `value` at `path`; `name` says so in errors."""
    if not path:
        if not isinstance(value, Mapping):
            return convert(type(node), value, name, source)
        for key, part in value.items():
            node = _put(node, [str(key)], part, f"{name}.{key}", source)
        return node
    key, *rest = path
    if isinstance(node, tuple):
        number = int(key)
        if rest or not is_dataclass(node[number]):
            part = _put(node[number], rest, value, name, source)
            return (*node[:number], part, *node[number + 1 :])
        keep = convert(bool, value, name, source)  # an edit is on or off
        return node if keep else (*node[:number], *node[number + 1 :])
    hints = get_type_hints(type(node))
    if key not in hints:
        raise unknown_name(f"key of {name.rpartition('.')[0]}", key, hints, source=source)
    old = getattr(node, key)
    if rest or (is_dataclass(old) and isinstance(value, Mapping)):
        part = _put(old, rest, value, name, source)
    else:
        part = convert(hints[key], value, name, source)
    return replace(node, **{key: part})


def _without_idle(recipe: Recipe) -> Recipe:
    rules = tuple(
        replace(rule, align=tuple(edit for edit in rule.align if edit != ScaleShared()))
        for rule in recipe.rules
        if rule.mix.keys == "concat" or not rule.idle
    )
    if recipe.features is None or any(rule.matches for rule in rules):
        return replace(recipe, rules=rules)
    masks = recipe.masks
    if masks is not None and not has_edit(rules, TwinValues):
        masks = replace(masks, source="running")  # nothing is left that needs a twin
    return replace(recipe, rules=rules, masks=masks, features=None)
