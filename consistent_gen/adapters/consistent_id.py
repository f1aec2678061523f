"""ConsistentID (Huang et al., arXiv 2404.16771): a face as a whole, and its parts in words.

Two ways go side by side. The whole face is identity tokens behind the text, as in FaceID-Plus. Each
part of it (face, eye, ear, nose, lip) is read alone, with everything else black, and fused into the
word that names it. Steps up to three fifths of them see the words as they are.

Published weights have learnt an order: crops come as face, eye, ear, nose, lip, and the marked
words as face, ears, eyes, nose, mouth, and the two are paired by number. Whether the weights know
the eye by "ears" is not confirmed by the authors, so `order` says which pairing is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from consistent_gen.adapters.adapter import (
    BUFFALO_L,
    CLIP_H,
    NOT_COMMERCIAL,
    Adapter,
    Shapes,
    Uncond,
    depth_of,
    inner_shapes,
    lora_rank,
    token_width,
)
from consistent_gen.adapters.faceid import (
    LORA_RANK,
    FaceIDPlusProjector,
    identity_spec,
    plus_sizes,
)
from consistent_gen.adapters.fusing import FuseModule, Fusing, Placement, PromptFuser
from consistent_gen.adapters.projectors import HEAD_WIDTH, Perceiver
from consistent_gen.adapters.references import CharacterRef, FeatureSpec
from consistent_gen.adapters.scales import ScalePlan
from consistent_gen.adapters.weights import AdapterAttention, LayerPlace
from consistent_gen.errors import InputError

Order = Literal["published", "semantic"]
# Parts in the order of crops, with the word that names each, and that of marked words.
PARTS = ("face", "eye", "ear", "nose", "lip")
WORDS = {"face": "face", "eye": "eyes", "ear": "ears", "nose": "nose", "lip": "mouth"}
MARKED = ("face", "ears", "eyes", "nose", "mouth")
# Where a describer says nothing: every part is named once.
SOME_FACE = {"face": "a face", "ears": "two ears", "eyes": "two eyes", "nose": "one nose",
             "mouth": "a mouth"}  # fmt: skip


class FaceDescriber(Protocol):
    """Says what the parts of a face look like."""

    def describe(self, character: CharacterRef) -> Mapping[str, str]:
        """A clause for each word of `MARKED` that it can say something of."""
        ...


def facial_prompt(prompt: str, clauses: Mapping[str, str] | None = None) -> str:
    """The prompt with its detail: one clause per part of the face, each naming its word.

    Raises:
        InputError: a clause for a word that is no part, or that does not say its word.
    """
    clauses = SOME_FACE if clauses is None else clauses
    for word, clause in clauses.items():
        if word not in MARKED or word not in clause.split():
            raise InputError(
                f"{clause!r} describes {word!r}; expected a clause that says one of "
                f"{', '.join(MARKED)}"
            )
    return f"{prompt} Detail: {', '.join(clauses[w] for w in MARKED if w in clauses)}"


def word_positions(tokenizer: Any, prompt: str, words: Sequence[str] = MARKED) -> dict[str, int]:
    """Where the last token of each word's last mention stands in the encoded prompt; the start mark
    is 0. Words that the prompt does not say, or only after what the model reads, are left out.
    """
    text = tokenizer(prompt, truncation=True, max_length=tokenizer.model_max_length).input_ids
    found = {}
    for word in words:
        ids = tokenizer(word, add_special_tokens=False).input_ids
        places = [i for i in range(len(text)) if ids and text[i : i + len(ids)] == ids]
        if places:
            found[word] = places[-1] + len(ids) - 1
    return found


def fuse_table(
    positions: Mapping[str, int],
    parts: Sequence[str],
    *,
    order: Order = "published",
    person: int = 0,
    all_parts: Sequence[str] = PARTS,
) -> tuple[Placement, ...]:
    """Which part goes into which word.

    positions: of the words in the prompt. parts: those that were found in the picture.
    order: "published" pairs the marked words, from the front of the prompt, with the parts in the
        order of crops, whatever they are called; "semantic" gives each word its own part.
    """
    found = [part for part in all_parts if part in parts]
    if order == "semantic":
        pairs = [(positions[WORDS[p]], p) for p in found if WORDS.get(p) in positions]
    else:
        words = {WORDS[p] for p in found}
        marked = sorted(place for word, place in positions.items() if word in words)
        pairs = list(zip(marked, found, strict=False))
    return tuple(Placement(place, person, all_parts.index(part)) for place, part in pairs)


class ConsistentID(Adapter):
    """Identity tokens behind the text, and parts of the face in its words.

    identity_without_prompt: "zero" as published inference has it, or "kept", since published
        training drops the text and the picture and never the identity vector.
    shortcut: whether identity tokens are added to what they read: off for SD1.5, on for SDXL as
        published; None takes that by the width. parts: names of the parts, in the order of their
        features. order: see the module.
    """

    name, title = "consistent_id", "ConsistentID"
    licence = NOT_COMMERCIAL
    prefixes = {  # noqa: RUF012
        "projector.": ("image_proj.", "image_proj_model."),
        "attention.": ("adapter_modules.",),
        "facial_encoder.": ("FacialEncoder.",),
    }
    marks = ("FacialEncoder.visual_projection.latents", "FacialEncoder.fuse_module.mlp1.fc1.weight",
             "adapter_modules.0.to_q_lora.down.weight")  # fmt: skip

    def __init__(
        self, places: Sequence[LayerPlace], *, feature_width: int = 512, patch_width: int = 1280,
        patches: int = 257, tokens: int = 4, depth: int = 4, part_width: int = 1024,
        part_depth: int = 8, part_heads: int = 16, rank: int = LORA_RANK, width: int | None = None,
        shortcut: bool | None = None, parts: Sequence[str] = PARTS, order: Order = "published",
        encoder: str = BUFFALO_L, picture_encoder: str = CLIP_H, uncond: Uncond = "pixels",
        identity_without_prompt: Literal["zero", "kept"] = "zero",
    ) -> None:  # fmt: skip
        width = token_width(places, width)
        self.order, self.parts = order, tuple(parts)
        face = FeatureSpec(
            name="face", shape=(patches, patch_width), encoder=picture_encoder, reads="hidden[-2]",
            of="the whole picture, 224 x 224", blank=True,
        )  # fmt: skip
        spec = FeatureSpec(
            name="parts", shape=(len(self.parts), patches, patch_width), encoder=picture_encoder,
            reads="hidden[-2]", of=f"all but the part black: {', '.join(self.parts)}", blank=True,
            optional=True,
        )  # fmt: skip
        super().__init__(
            places,
            features=(identity_spec(feature_width, encoder), face, spec),
            projector=FaceIDPlusProjector(
                feature_width=feature_width, patch_width=patch_width, width=width, tokens=tokens,
                depth=depth, shortcut=width == 2048 if shortcut is None else shortcut,
            ),
            attention=AdapterAttention(places, width=width, rank=rank),
            plan=ScalePlan(fuse_after=0.6),
            uncond=uncond,
        )  # fmt: skip
        visual = Perceiver(
            feature_width=patch_width, width=part_width, out_width=width, depth=part_depth,
            heads=part_heads, head_width=part_width // part_heads, latents=1,
        )  # fmt: skip
        self.facial_encoder = PromptFuser(visual, width)
        if identity_without_prompt == "kept":
            self.kept_blank = frozenset({"identity"})

    @property
    def fuser(self) -> FuseModule:
        """See `Adapter`."""
        return self.facial_encoder.fuse_module

    def project(self, people: Sequence[CharacterRef], features: dict[str, Tensor]) -> Tensor:
        """See `Adapter`; parts go into words."""
        tokens: Tensor = self.projector(identity=features["identity"], face=features["face"])
        return tokens

    def fusing(
        self,
        people: Sequence[CharacterRef],
        positions: Mapping[str, int] | Sequence[Mapping[str, int]],
        present: Sequence[Sequence[str]] | None = None,
    ) -> Fusing:
        """What goes into the words of a prompt, for `identities(..., fusing=...)`.

        positions: where the words of `MARKED` stand (`word_positions`), for each character or for
        the only one. present: the parts that its picture shows, all of them unless said.

        Raises:
            InputError: as many lists of words as there are characters are wanted.
        """
        tables = [positions] if isinstance(positions, Mapping) else list(positions)
        if len(tables) != len(people):
            raise InputError(
                f"{len(people)} characters and {len(tables)} lists of their words; "
                "expected one for each"
            )
        present = present or [self.parts] * len(people)
        table = [
            entry
            for i, (words, parts) in enumerate(zip(tables, present, strict=True))
            for entry in fuse_table(words, parts, order=self.order, person=i, all_parts=self.parts)
        ]
        return Fusing(tuple(table), self._vectors(people, False), self._vectors(people, True))

    def _vectors(self, people: Sequence[CharacterRef], blank: bool) -> Tensor:
        """The parts of every character as [n p c]: the mean of its pictures."""
        spec = next(f for f in self.features if f.name == "parts")
        weight = self.fuser.layer_norm.weight
        rows = []
        for person in people:
            value = person.value(spec, self.title)  # r p m f
            if blank:
                value = person.blank(spec, self.title).expand(spec.shape)[None]
            rows.append(self.facial_encoder.vectors(value.to(weight)).mean(0))
        return torch.stack(rows)

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, Any] | None:
        """See `Adapter`."""
        own = inner_shapes(shapes, "FacialEncoder.")
        if not own:
            return None
        found: dict[str, Any] = {"rank": lora_rank(shapes)}
        projector = inner_shapes(shapes, "image_proj.", "image_proj_model.")
        if "perceiver_resampler.proj_in.weight" in projector:
            found |= plus_sizes(projector)
        elif "fuse_module.layer_norm.weight" in own:
            found["width"] = own["fuse_module.layer_norm.weight"][0]
        latents = own.get("visual_projection.latents")
        if latents is not None:
            heads = own.get("visual_projection.layers.0.0.to_q.weight", (latents[2],))[0]
            found |= {
                "part_width": latents[2], "part_heads": max(heads // HEAD_WIDTH, 1),
                "part_depth": depth_of(own, "visual_projection."),
            }  # fmt: skip
        return found
