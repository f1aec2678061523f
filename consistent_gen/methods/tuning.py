"""Methods with other settings than they are published with.

What a paper chose for SDXL need not suit a model of 20 million weights, and the other way round. So
a model folder may say, under `methods` of its `recommended.json`, with which settings a method acts
best on it. Methods without an entry, and models without the file, keep the published ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol, get_type_hints

from consistent_gen.attention.settings import Recipe, ScaleShared, TwinValues, has_edit
from consistent_gen.config import Source, convert, merged
from consistent_gen.errors import InputError
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

    Rules that then do nothing are left out, and what only they needed to know. Where anchors lead,
    first passes share nothing: what frames read then is clearer than anything in a first pass.

    Raises:
        UnknownNameError, InputError: no such method or setting, or a value of another type.
    """
    recipe: Recipe = resolve(METHODS, name, kind="method")
    for key, value in merged(settings or {}, overrides).items():
        if key not in recipe.settings:
            raise unknown_name("key", key, recipe.settings, source=source)
        for place in recipe.settings[key]:
            recipe = _changed(recipe, place, value, key, source)
    return _checked(_without_idle(recipe), source)


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
    the recipe, and then fields and numbers of parts. `name` says in errors whose value it is.
    """
    # What has a setting of its own is changed by that alone.
    below = [p for (p, *_) in recipe.settings.values() if p.startswith(f"{place}.")]
    own = {p.removeprefix(f"{place}.").partition(".")[0] for p in below}
    head, *path = place.split(".")
    if head in ("masks", "features"):
        part = _put(getattr(recipe, head), path, value, name, source)
        return replace(recipe, **{head: part})
    rules = tuple(
        _put(rule, path, value, name, source, own) if head in ("*", rule.name) else rule
        for rule in recipe.rules
    )
    return replace(recipe, rules=rules)


def _put(
    node: Any, path: list[str], value: Any, name: str, source: Source, keeps: Iterable[str] = ()
) -> Any:
    """`node`, a frozen dataclass or a tuple, with `value` at `path`; of what was there, `keeps`."""
    if not path:
        return convert(type(node), value, name, source)
    key, *rest = path
    if isinstance(node, tuple):
        number = int(key)
        before, old, after = node[:number], node[number], node[number + 1 :]
        if is_dataclass(old) and not rest:  # an edit is on or off
            return node if convert(bool, value, name, source) else (*before, *after)
        return (*before, _put(old, rest, value, name, source), *after)
    old = getattr(node, key)
    if rest:
        return replace(node, **{key: _put(old, rest, value, name, source, keeps)})
    part = convert(get_type_hints(type(node))[key], value, name, source)
    if keeps:
        part = replace(part, **{kept: getattr(old, kept) for kept in keeps})
    return replace(node, **{key: part})


def _checked(recipe: Recipe, source: Source) -> Recipe:
    masks = recipe.masks
    if masks is None or recipe.features is None:
        return recipe
    if masks.source == "running":
        raise InputError(
            "features are matched between finished masks, and 'running' has none; "
            "choose 'shared' or 'twin', or switch off what matches features",
            source=source,
        )
    if masks.source == "twin" or any(rule.topology.lead for rule in recipe.rules):
        return recipe.before_twins_shared()
    return recipe


def _without_idle(recipe: Recipe) -> Recipe:
    rules = tuple(
        replace(rule, align=tuple(edit for edit in rule.align if edit != ScaleShared()))
        for rule in recipe.rules
        if rule.mix.keys != "none" or not rule.idle
    )
    if recipe.features is None or any(rule.matches for rule in rules):
        return replace(recipe, rules=rules)
    masks = recipe.masks
    if masks is not None and not has_edit(rules, TwinValues):
        masks = replace(masks, source="running")  # nothing is left that needs a twin
    return replace(recipe, rules=rules, masks=masks, features=None)
