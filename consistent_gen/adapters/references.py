"""What an adapter knows of a character: features that encoders read of its pictures.

An adapter says by `FeatureSpec`s what it was trained with; encoders (`consistent_gen.encoders`, or
anything a user has) read that; a `CharacterRef` carries what was read. Every value knows which
encoder it is from: two encoders of faces give vectors of equal length that mean different things,
and an adapter fed with the wrong ones draws somebody else without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from consistent_gen.errors import InputError

Shown = Literal["all", "face", "body", "none"]


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """One thing that an adapter must be told of a character.

    name: how the adapter calls it ("identity", "face", "crop", "parts"). shape: of one picture's
    value, such as (512,) or (257, 1280). encoder: id of the encoder that it was trained with.
    reads: which of the encoder's values. of: what the encoder is shown. optional: zeros stand in
    where it is missing. blank: without the prompt, the adapter wants the encoder's value for a
    picture of zeros instead of zeros.
    """

    name: str
    shape: tuple[int, ...]
    encoder: str
    reads: str = ""
    of: str = ""
    optional: bool = False
    blank: bool = False

    def told(self) -> str:
        """In words: for reports and mistakes."""
        size = " x ".join(map(str, self.shape))
        reads = f"{self.reads} of {self.encoder}" if self.reads else self.encoder
        return f"{self.name!r} ({reads}, {size}{f'; {self.of}' if self.of else ''})"


@dataclass(frozen=True, kw_only=True)
class Feature:
    """What an encoder read: value [r ...] of r pictures, and the encoder's id.

    blank: its value [...] for a picture of zeros, where the adapter wants that (`FeatureSpec`).
    """

    value: Tensor
    encoder: str
    blank: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class CharacterRef:
    """A character given by pictures.

    features: by the name of their `FeatureSpec`. pictures: RGB, uint8 [h w 3]. mask: where the
    character is in the first of them, 0..1 [h w].
    shown: what is taken of it, where the adapter can tell face and body apart; "none" is for
        training without either. weight: how strongly it counts beside others, 1 as trained.
    """

    name: str
    features: Mapping[str, Feature] = field(default_factory=dict)
    pictures: tuple[Any, ...] = ()
    mask: Any = None
    shown: Shown = "all"
    weight: float = 1.0

    def dressed(self, garment: Feature, feature: str = "crop") -> CharacterRef:
        """The character in clothes of another picture: its body is read from there."""
        return replace(self, features={**self.features, feature: garment})

    def value(self, spec: FeatureSpec, adapter: str) -> Tensor:
        """What was read for `spec`: [r ...].

        Raises:
            InputError: nothing was read, or by another encoder, or of another size.
        """
        given = self.features.get(spec.name)
        if given is None and spec.optional:
            return torch.zeros(1, *spec.shape)
        if given is None:
            raise InputError(
                f"{self.name!r} lacks {spec.told()}, which {adapter} needs; "
                f"it has: {', '.join(self.features) or 'nothing'}"
            )
        if spec.encoder and given.encoder != spec.encoder:
            raise InputError(
                f"{spec.name!r} of {self.name!r} was read by {given.encoder}, and {adapter} was "
                f"trained with {spec.encoder}: read the picture with that, or take an adapter "
                f"for {given.encoder}"
            )
        if tuple(given.value.shape[1:]) != spec.shape or not len(given.value):
            raise InputError(
                f"{spec.name!r} of {self.name!r} has the shape {tuple(given.value.shape)}; "
                f"{adapter} expects pictures of {spec.shape}: (pictures, "
                f"{', '.join(map(str, spec.shape))})"
            )
        return given.value

    def blank(self, spec: FeatureSpec, adapter: str) -> Tensor:
        """What `spec` is without the prompt, [...]: zeros, or the value for an empty picture.

        Raises:
            InputError: the adapter wants the latter, and the encoder did not say it.
        """
        given = self.features.get(spec.name)
        if not spec.blank or (given is None and spec.optional):
            return torch.zeros(spec.shape)
        if given is None or given.blank is None:
            raise InputError(
                f"{adapter} needs what {spec.encoder} reads in a picture of zeros for "
                f"{spec.name!r} of {self.name!r}: give it as Feature.blank, or build the adapter "
                "with uncond='features'"
            )
        return given.blank


def read_features(
    character: CharacterRef,
    specs: Sequence[FeatureSpec],
    encoders: Mapping[str, Callable[[CharacterRef, FeatureSpec], Feature]],
) -> CharacterRef:
    """The character with every feature that `specs` ask for; what it has already is kept.

    encoders: by encoder id, each reads one feature of a character's pictures.

    Raises:
        InputError: a feature whose encoder is not among them.
    """
    features = dict(character.features)
    for spec in specs:
        if spec.name in features:
            continue
        encoder = encoders.get(spec.encoder)
        if encoder is not None:
            features[spec.name] = encoder(character, spec)
        elif not spec.optional:
            raise InputError(
                f"nothing here reads {spec.told()} of {character.name!r}; "
                f"there are: {', '.join(encoders) or 'no encoders'}"
            )
    return replace(character, features=features)
