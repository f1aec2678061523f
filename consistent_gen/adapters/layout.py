"""Which tokens of a sequence are whose: named groups instead of numbers that a caller must know.

A group's name is a path: "background", "char:0/face", "char:1/body". Slices, masks, weights and
losses are asked for by path, and a path stands for all groups below it: "char:0" is everything of
the first character. Published systems find their tokens by the literal 77 or by counting from the
end, which breaks with longer prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from consistent_gen.registry import unknown_name

BACKGROUND = "background"


def person(number: int, part: str = "") -> str:
    """The path of a character, counted from 0, or of one part of it."""
    return f"char:{number}/{part}" if part else f"char:{number}"


@dataclass(frozen=True)
class TokenLayout:
    """Named groups of tokens in order: (name, how many)."""

    groups: tuple[tuple[str, int], ...]

    @cached_property
    def spans(self) -> dict[str, slice]:
        """Where every group stands."""
        found, start = {}, 0
        for name, count in self.groups:
            found[name] = slice(start, start + count)
            start += count
        return found

    def __len__(self) -> int:
        return sum(count for _, count in self.groups)

    def __add__(self, other: TokenLayout) -> TokenLayout:
        return TokenLayout(self.groups + other.groups)

    def span(self, name: str) -> slice:
        """Where a group stands.

        Raises:
            UnknownNameError: there is no such group.
        """
        if name not in self.spans:
            raise unknown_name("group of tokens", name, self.spans)
        return self.spans[name]

    def tokens(self, path: str) -> list[int]:
        """The numbers of all tokens at a path or below it, ascending; [] if there are none."""
        names = [name for name, _ in self.groups if name == path or name.startswith(path + "/")]
        return [i for name in names for i in range(*self.spans[name].indices(len(self)))]

    @cached_property
    def people(self) -> int:
        """How many characters have tokens."""
        return len({name.partition("/")[0] for name, _ in self.groups if name[:5] == "char:"})

    @cached_property
    def owners(self) -> tuple[int | None, ...]:
        """For every token the number of its character; None for what is nobody's."""
        owned: list[int | None] = [None] * len(self)
        for number in range(self.people):
            for token in self.tokens(person(number)):
                owned[token] = number
        return tuple(owned)

    def per_token(self, weights: Iterable[float]) -> tuple[float, ...]:
        """One weight per group as one per token."""
        pairs = zip(self.groups, weights, strict=True)
        return tuple(weight for (_, count), weight in pairs for _ in range(count))

    def sums(self, maps: Tensor, paths: Sequence[str]) -> Tensor:
        """How much of maps [... t] falls on each path: [... p]."""
        parts = [maps[..., self.tokens(path)].sum(-1) for path in paths]
        return torch.stack(parts, dim=-1)


def people_layout(count: int, parts: Sequence[tuple[str, int]]) -> TokenLayout:
    """`count` characters, each with the same parts: (name, how many tokens)."""
    return TokenLayout(
        tuple((person(i, part), tokens) for i in range(count) for part, tokens in parts)
    )
