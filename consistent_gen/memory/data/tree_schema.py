"""The schema of a persona tree: which dotted paths a core memory may fill.

Two schemas: the published one of PersonaTree (arXiv 2601.05171, 305 leaves), read from its JSON
file by path, and a compact one of our own for small models. A schema is data: leaves with a
line of explanation, and branches marked open, under which new leaves may be made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError, LimitError
from consistent_gen.registry import nearest

MAX_DEPTH = 4
MAX_LEAVES = 5_000
MAX_FILE_BYTES = 1024**2
_SEGMENT = re.compile(r"[^\W_][\w /&()'+-]{0,63}")


@dataclass(frozen=True)
class TreeSchema:
    """``leaves`` maps each path to a line about what belongs there (may be empty)."""

    name: str
    leaves: Mapping[str, str]
    open_branches: frozenset[str] = field(default_factory=frozenset)

    def knows(self, path: str) -> bool:
        """Whether ``path`` is a leaf of the schema or a well-formed new leaf of an open branch."""
        return path in self.leaves or self.open_branch(path) is not None

    def open_branch(self, path: str) -> str | None:
        """The open branch that ``path`` would be a new leaf of, or ``None``."""
        if path in self.leaves or any(path.startswith(f"{leaf}.") for leaf in self.leaves):
            return None
        segments = path.split(".")
        if len(segments) > MAX_DEPTH or not all(_SEGMENT.fullmatch(s) for s in segments):
            return None
        branches = (".".join(segments[:n]) for n in range(len(segments) - 1, 0, -1))
        return next((b for b in branches if b in self.open_branches), None)

    def nearest(self, path: str) -> str | None:
        """The leaf whose path looks most like ``path``, for an error message."""
        same_end = [leaf for leaf in self.leaves if leaf.split(".")[-1] == path.split(".")[-1]]
        return same_end[0] if len(same_end) == 1 else nearest(path, list(self.leaves))


def read_tree_schema(
    path: str | Path, *, open_branches: frozenset[str] = frozenset()
) -> TreeSchema:
    """A schema from the published layout: nested JSON objects whose leaves are empty strings.

    ``open_branches`` are dotted paths under which new leaves shall be allowed. Raises
    ``InputError`` for another layout and ``LimitError`` for one that is too large.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            "no such file; give the path of a tree schema in JSON, such as that of PersonaTree",
            source=path,
        )
    if path.stat().st_size > MAX_FILE_BYTES:
        raise LimitError(f"a tree schema may have {MAX_FILE_BYTES:,} bytes at most", source=path)
    try:
        tree = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not a tree schema in JSON: {error}", source=path) from None
    if not isinstance(tree, dict) or not tree:
        raise InputError("a tree schema is a JSON object of branches; this is not one", source=path)
    leaves = dict(_leaves(tree, (), path))
    if len(leaves) > MAX_LEAVES:
        raise LimitError(f"{len(leaves):,} leaves; the limit is {MAX_LEAVES:,}", source=path)
    for branch in open_branches:
        if branch in leaves or not any(leaf.startswith(f"{branch}.") for leaf in leaves):
            raise InputError(f"cannot open {branch!r}: it is not a branch of this tree schema")
    return TreeSchema(path.stem, leaves, open_branches)


def _leaves(
    node: Mapping[str, Any], above: tuple[str, ...], source: Path
) -> Iterator[tuple[str, str]]:
    if len(above) >= 8:
        raise InputError(f"branches nest too deep at {'.'.join(above)}", source=source)
    for name, below in node.items():
        if "." in name or not _SEGMENT.fullmatch(name):
            raise InputError(f"{name!r} cannot be part of a dotted path", source=source)
        here = (*above, name)
        if isinstance(below, Mapping) and below:
            yield from _leaves(below, here, source)
        elif isinstance(below, str):
            yield ".".join(here), below
        else:
            raise InputError(
                f"{'.'.join(here)} is {below!r}; a leaf is a string, a branch an object",
                source=source,
            )


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"the key {repeated!r} stands twice in one object")
    return dict(pairs)


_COMPACT = {
    "Identity": {
        "Name": "what the person is called",
        "Pronouns": "how to refer to them",
        "Age": "age or year of birth",
        "Birthday": "day and month",
        "Home": "where they live now",
        "Roots": "where they come from",
        "Languages": "languages they speak",
        "Beliefs": "faith, world view, values they state",
    },
    "Body": {
        "Looks": "what they look like",
        "Health": "conditions, allergies, injuries",
        "Diet": "what they eat or avoid, and why",
        "Sleep": "when and how they sleep",
        "Fitness": "sport and movement",
    },
    "Mind": {
        "Mood": "how they have felt lately",
        "Worries": "what troubles them",
        "Joys": "what delights them",
        "Thinking": "how they reason and decide",
        "Learning": "how they like things explained",
        "Self_View": "how they see themselves",
    },
    "Character": {
        "Temperament": "lasting traits in plain words",
        "Humour": "what makes them laugh",
        "Under_Stress": "how they cope",
        "Boundaries": "what not to raise or do",
    },
    "People": {
        "Partner": "spouse or partner",
        "Family": "parents, children, siblings",
        "Friends": "close friends",
        "Pets": "animals they live with",
        "Colleagues": "people at work or school",
    },
    "Work": {
        "Job": "occupation and employer",
        "Education": "schooling and degrees",
        "Skills": "what they are good at",
        "Projects": "what they are working on",
        "Money": "attitude to money, means",
    },
    "Life": {
        "Goals": "what they want to reach",
        "Plans": "what is coming up",
        "Past": "events that shaped them",
        "Routine": "an ordinary day or week",
        "Travel": "places they go or wish to go",
        "Devices": "tools and software they use",
    },
    "Likes": {
        "Food": "favourite and disliked dishes and drinks",
        "Music": "music they like or dislike",
        "Reading": "books and topics they read",
        "Screen": "films, series, games",
        "Hobbies": "what they do for pleasure",
    },
    "Talk": {
        "Tone": "how they want to be spoken to",
        "Length": "short or thorough replies",
    },
}
COMPACT = TreeSchema(
    "compact",
    {
        f"{branch}.{leaf}": line
        for branch, leaves in _COMPACT.items()
        for leaf, line in leaves.items()
    },
    frozenset({"Likes", "People"}),
)
