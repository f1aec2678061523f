"""What there is to say about somebody, and which of it to say (DeepPersona, arXiv 2511.07338).

A taxonomy is a tree of attributes; a deep persona says something about hundreds of its leaves.
Those are chosen by how near they are to what is already known: near ones deepen a persona, far ones
keep it from being a type. Then they are filled one after the other, each with what stands before it
in sight, and what the user gave (an anchor) is never overwritten.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import yaml

from consistent_gen.errors import InputError, LimitError
from consistent_gen.inputs import check_choice, missing_file
from consistent_gen.language.embedders import TextEmbedder
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.persona import Persona, Statement

OURS = Path(__file__).parent / "taxonomy.yaml"
MAX_LEAVES = 50_000
MAX_SUMMARY_WORDS = 300
FLOOR = 10  # leaves that every category gets, while it has them
MAX_VALUE = 300
FILLING = """\
You complete a description of an invented person, one attribute at a time. Answer with one short
phrase that fits all that is known, and nothing else; answer "unknown" where nothing can be said."""
_NOT_SAID = re.compile(r"\W*(?:unknown|n/?a|none|i can(?:no|')t|sorry|as an ai)\b", re.I)
Path_: TypeAlias = tuple[str, ...]
Preset: TypeAlias = Literal["code", "paper"]
BINS: dict[str, tuple[float, float, float]] = {"code": (0.4, 0.4, 0.2), "paper": (0.5, 0.3, 0.2)}


@dataclass(frozen=True)
class Taxonomy:
    """Attributes as paths from a root to a leaf, in order, each once."""

    leaves: tuple[Path_, ...]

    @classmethod
    def load(cls, path: str | Path = OURS) -> Taxonomy:
        """A tree in JSON or YAML: mappings down to lists of names, or to empty mappings.

        Raises:
            InputError: no such file, or no tree of names.
            LimitError: more leaves than are read.
        """
        source = Path(path)
        try:
            text = source.read_text(encoding="utf-8")
            told = json.loads(text) if source.suffix == ".json" else yaml.safe_load(text)
        except FileNotFoundError:
            raise missing_file(source, (".json", ".yaml")) from None
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise InputError(f"cannot be read: {error}", source=source) from None
        leaves = tuple(dict.fromkeys(_flat(told, (), source)))
        if not leaves:
            raise InputError("has no attributes", source=source)
        return cls(leaves)

    @property
    def roots(self) -> tuple[str, ...]:
        """The categories."""
        return tuple(dict.fromkeys(leaf[0] for leaf in self.leaves))

    def merge(self, other: Taxonomy) -> Taxonomy:
        """Both trees; paths that differ in case and spaces alone are one."""
        known = {_folded(leaf): leaf for leaf in self.leaves}
        for leaf in other.leaves:
            known.setdefault(_folded(leaf), leaf)
        return Taxonomy(tuple(known.values()))

    def merged_names(self, embedder: TextEmbedder, *, alike: float = 0.85) -> Taxonomy:
        """Without leaves whose name is as near as `alike` (cosine) to that of an earlier one.

        As in the paper, whose further check by a model is not made.
        """
        vectors = embedder.text([leaf[-1] for leaf in self.leaves])
        kept: list[int] = []
        for i in range(len(self.leaves)):
            if not kept or float(np.max(vectors[kept] @ vectors[i])) < alike:
                kept.append(i)
        return Taxonomy(tuple(self.leaves[i] for i in kept))


def _flat(told: Any, path: Path_, source: Path) -> list[Path_]:
    if len(path) > 16:
        raise LimitError("is nested deeper than 16", source=source)
    if isinstance(told, Mapping):
        if not told:
            return [path] if path else []
        found = [leaf for k, v in told.items() for leaf in _flat(v, (*path, str(k)), source)]
    elif isinstance(told, list) and all(isinstance(name, str) for name in told) and path:
        found = [(*path, name) for name in told]
    else:
        place = " > ".join(path) or "the top"
        raise InputError(f"{place} is {told!r:.60}; expected names", source=source)
    if len(found) > MAX_LEAVES:
        raise LimitError(f"has more than {MAX_LEAVES:,} attributes", source=source)
    return found


def _folded(leaf: Path_) -> Path_:
    return tuple(" ".join(part.casefold().split()) for part in leaf)


def stratified_attributes(
    profile: str,
    taxonomy: Taxonomy,
    target: int,
    embedder: TextEmbedder,
    draw: random.Random,
    *,
    preset: Preset = "code",
    bins: tuple[float, float, float] | None = None,
) -> tuple[Path_, ...]:
    """At most `target` attributes for what a profile says, in the taxonomy's order.

    Every category gets max(`FLOOR`, its share of `target`), as far as it has leaves; those are
    sorted by cosine to the profile and split into thirds. bins: shares of near, middle and far.

    "code" is what the authors' program does: of the near third the *nearest* are taken (so it is a
    top-k and no sample), of the middle and the far third a random choice, the rest at random, and
    in the end a random trim to `target`. "paper" is what the paper says: 5:3:2, each at random.

    Raises:
        InputError: fewer than one attribute, or shares that do not sum to 1.
    """
    check_choice(preset, ("code", "paper"), "preset")
    shares = BINS[preset] if bins is None else bins
    if target < 1 or min(shares) < 0.0 or abs(sum(shares) - 1.0) > 1e-6:
        raise InputError(f"target {target}, bins {shares}; expected 1 or more, and shares of 1")
    query = embedder.text([profile])[0]
    vectors = embedder.text([" ".join(leaf[-2:]) for leaf in taxonomy.leaves])
    near = vectors @ query
    chosen: list[int] = []
    for root in taxonomy.roots:
        own = [i for i, leaf in enumerate(taxonomy.leaves) if leaf[0] == root]
        own.sort(key=lambda i: (-float(near[i]), i))
        quota = min(len(own), max(FLOOR, int(target * len(own) / len(taxonomy.leaves))))
        chosen += _of_thirds(own, quota, shares, draw, top=preset == "code")
    if len(chosen) > target:
        chosen = draw.sample(chosen, target)
    return tuple(taxonomy.leaves[i] for i in sorted(chosen))


def _of_thirds(
    own: Sequence[int],
    quota: int,
    shares: tuple[float, float, float],
    draw: random.Random,
    *,
    top: bool,
) -> list[int]:
    third = max(1, len(own) // 3)
    thirds = (own[:third], own[third : 2 * third], own[2 * third :])
    taken: list[int] = []
    for number, (part, share) in enumerate(zip(thirds, shares, strict=True)):
        count = min(len(part), round(share * quota), quota - len(taken))
        if number == 0 and top:
            taken += part[:count]
        else:
            taken += draw.sample(list(part), count)
    rest = [i for i in own if i not in set(taken)]
    return taken + draw.sample(rest, min(len(rest), quota - len(taken)))


Fill = Callable[[Path_, Persona, random.Random], str]


def deepen(
    persona: Persona, attributes: Sequence[Path_], fill: Fill, draw: random.Random
) -> Persona:
    """The persona with a value and a statement for each attribute, in order.

    fill: the value of one attribute, given all that is known so far; "" says nothing. Attributes
    that are anchored (`fields.<leaf>`) or have a value already are left as they are.
    """
    for path in attributes:
        name = path[-1]
        if name in persona.fields or f"fields.{name}" in persona.anchors:
            continue
        value = fill(path, persona, draw).strip()
        if not value:
            continue
        statement = Statement(f"{name[0].upper()}{name[1:]}: {value}", f"taxonomy:{path[0]}")
        persona = replace(
            persona,
            fields={**persona.fields, name: value},
            statements=(*persona.statements, statement),
        )
    return persona


class AskingFill:
    """Asks a language model for one value after the other; what it will not say stays unsaid.

    calls, unsaid: how often it was asked, and how often nothing that can be used came back.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.calls, self.unsaid = model, 0, 0

    def __call__(self, path: Path_, persona: Persona, draw: random.Random) -> str:
        """The value, one line of at most `MAX_VALUE` characters; "" where there is none."""
        known = cut_to_words(persona.prompt())
        wanted = f"{path[-1]} ({' > '.join(path[:-1])})"
        reply = self.model.chat(
            [
                Message("system", FILLING),
                Message("user", f"{known}\n\nWhat is true of {persona.name}: {wanted}?"),
            ],
            max_tokens=60,
        )
        self.calls += 1
        lines = [line.strip() for line in reply.split("\n") if line.strip()]
        value = lines[0].strip("\"' ") if lines else ""
        if not value or len(value) > MAX_VALUE or _NOT_SAID.match(value):
            self.unsaid += 1
            return ""
        return value


def cut_to_words(text: str, most: int = MAX_SUMMARY_WORDS) -> str:
    """The text up to the last whole sentence within `most` words; words where none fits."""
    words = text.split()
    if len(words) <= most:
        return text.strip()
    cut = " ".join(words[:most])
    end = max(cut.rfind(mark) for mark in ".!?")
    return cut[: end + 1] if end > 0 else cut
