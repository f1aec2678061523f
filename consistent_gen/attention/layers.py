"""Everything that depends on a model's family: where attention stands, which grid it sees, and how
its hidden states become heads and come back. A new backbone is added here and nowhere else.

Nothing is guessed from token counts: the grid follows from the layer's name and the latent's height
and width, so pictures need not be square. Projections are those of diffusers' own processors in the
same order, fused ones included; LoRA layers sit inside them and act as always.

Shapes: `b` rows, `h` heads, `n` image tokens, `t` text tokens, `d` head width, `c` channels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from consistent_gen.errors import InputError

FAMILIES = (
    "UNet2DConditionModel",
    "SD3Transformer2DModel",
    "FluxTransformer2DModel",
    "QwenImageTransformer2DModel",
    "PixArtTransformer2DModel",
)
# Their layers are none that `project` knows; nothing can be shared in them, and pictures be given.
UNSHARED = ("Flux2Transformer2DModel",)
# Their latents come packed, so that a cell of a call's latent is a token.
_PACKED = ("FluxTransformer2DModel", "QwenImageTransformer2DModel")
_UNET = re.compile(r"(down|mid|up)_blocks?(?:\.(\d+))?\.attentions\.")
Grid = tuple[int, int]  # height and width, in tokens


@dataclass(frozen=True)
class Site:
    """One attention layer.

    name: module path. kind: "self" (image to image), "cross" (image to text), "joint" (both in one
    softmax, two streams), "single" (one stream of text, then image).
    block: "down", "mid", "up" of a UNet; "joint" of SD3, Qwen and PixArt; "double" or "single"
    of FLUX.
    level: how often the latent was halved. rank: the grid's fineness among layers with attention.
    depth: place among all layers that see image keys, from 0 to 1. patch: latent cells per token.
    channels: heads times head width. heads: how many. text_first: whether text stands before the
    image in one softmax.
    """

    name: str
    kind: Literal["self", "cross", "joint", "single"]
    block: str
    level: int = 0
    rank: int = 0
    depth: float = 0.0
    patch: int = 1
    channels: int = 0
    heads: int = 1
    text_first: bool = False

    def grid(self, latent: Grid) -> Grid:
        """(height, width) in tokens for a latent of (height, width) cells."""
        height, width = (side // self.patch for side in latent)
        for _ in range(self.level):
            height, width = -(-height // 2), -(-width // 2)  # stride 2 with padding rounds up
        return height, width

    @property
    def sees_images(self) -> bool:
        """Whether its keys include image tokens."""
        return self.kind != "cross"


@dataclass(frozen=True)
class Rotary:
    """Positions of tokens: `ids` [t+n+r axes] of `text` words, `image` tokens of the picture, and
    those of pictures beside it (of edit models); `embed` maps ids to cos and sin.
    """

    ids: Tensor
    text: int
    image: int
    embed: Callable[[Tensor], tuple[Tensor, Tensor]]

    @property
    def image_ids(self) -> Tensor:
        """Position of every image token, [n axes]."""
        return self.ids[self.text : self.text + self.image]

    def angles(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin [m d] at positions ids [m axes]."""
        cos, sin = self.embed(ids)
        return cos, sin


@dataclass(frozen=True)
class Text:
    """Queries, keys and values of what stands beside the picture in a joint layer, [b t h d]: text,
    and behind it tokens of pictures beside this one.

    before: how many of them precede the image. words: which are no padding, [b t]; None for all.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    before: int
    words: Tensor | None = None


def family_of(model: nn.Module) -> str:
    """The supported diffusers class that `model` is.

    Raises:
        InputError: it is none of `FAMILIES` and `UNSHARED`.
    """
    for ancestor in type(model).__mro__:
        if ancestor.__name__ in (*FAMILIES, *UNSHARED):
            return ancestor.__name__
    raise InputError(
        f"attention of a {type(model).__name__} cannot be shared; "
        f"expected one of {', '.join(FAMILIES)}"
    )


def find_sites(model: nn.Module) -> dict[str, Site]:
    """All attention layers of `model` that can take part, by module path, in order of execution;
    none of a family that is in `UNSHARED`.

    Raises:
        InputError: a model family that is not supported.
    """
    family = family_of(model)
    if family in UNSHARED:
        return {}
    if family == "UNet2DConditionModel":
        # Modules are registered down, up, mid; they act down, mid, up.
        found = sorted(_unet_sites(model), key=lambda s: ("down", "mid", "up").index(s.block))
    else:
        found = list(_transformer_sites(model, family))
    levels = sorted({site.level for site in found})
    last = max(sum(site.sees_images for site in found) - 1, 1)
    sites: dict[str, Site] = {}
    seen = -1  # a cross layer is as deep as the layer of images before it
    for site in found:
        seen += site.sees_images
        depth = max(seen, 0) / last
        sites[site.name] = replace(site, rank=levels.index(site.level), depth=depth)
    return sites


def _unet_sites(model: Any) -> Iterator[Site]:
    levels = len(model.config.block_out_channels)
    for name, module in model.named_modules():
        place = _UNET.match(name)
        # Layers with a norm of their own take pictures instead of tokens; no method uses them.
        if place is None or not _is_attention(module) or module.group_norm is not None:
            continue
        index = int(place[2] or 0)
        level = {"down": index, "mid": levels - 1, "up": levels - 1 - index}[place[1]]
        kind: Literal["self", "cross"] = "cross" if module.is_cross_attention else "self"
        channels, heads = int(module.inner_dim), int(module.heads)
        yield Site(name, kind, place[1], level, channels=channels, heads=heads)


def _transformer_sites(model: Any, family: str) -> Iterator[Site]:
    patch = 1 if family in _PACKED else int(model.config.patch_size)
    for name, module in model.named_modules():
        if not _is_attention(module):
            continue
        kind: Literal["self", "cross", "joint", "single"] = "joint"
        block = "double" if family == "FluxTransformer2DModel" else "joint"
        if name.startswith("single_transformer_blocks"):
            kind = block = "single"
        elif family == "SD3Transformer2DModel" and name.endswith("attn2"):
            kind = "self"
        elif family == "PixArtTransformer2DModel":
            kind = "cross" if module.is_cross_attention else "self"
        first = family != "SD3Transformer2DModel"
        channels, heads = int(module.inner_dim), int(module.heads)
        yield Site(name, kind, block, patch=patch, channels=channels, heads=heads, text_first=first)


def _is_attention(module: Any) -> bool:
    return hasattr(module, "set_processor") and hasattr(module, "to_q")


def feature_module(model: Any, scale: int) -> str:
    """Path of the module whose output serves as diffusion features.

    In a UNet the first up block whose output has the latent's sides divided by `scale`, in a
    transformer the block in the middle.

    Raises:
        InputError: a model family that is not supported.
    """
    family = family_of(model)
    if family == "UNet2DConditionModel":
        levels = len(model.config.block_out_channels)
        # Every up block but the last doubles its grid at the end.
        outputs = [2 ** max(levels - 2 - i, 0) for i in range(levels)]
        return f"up_blocks.{next(i for i, factor in enumerate(outputs) if factor <= scale)}"
    if family != "FluxTransformer2DModel":
        return f"transformer_blocks.{(model.config.num_layers - 1) // 2}"
    return f"single_transformer_blocks.{(model.config.num_single_layers - 1) // 2}"


def positions(model: Any, kwargs: dict[str, Any]) -> Rotary | None:
    """Positions of the tokens of a call with these arguments; None without rotary embedding."""
    family = family_of(model)
    if family == "QwenImageTransformer2DModel":
        return _centred(model.pos_embed, kwargs)
    if family != "FluxTransformer2DModel":
        return None
    text, image = (kwargs[name] for name in ("txt_ids", "img_ids"))
    text, image = (ids[0] if ids.ndim == 3 else ids for ids in (text, image))
    own = int((image[:, 0] == image[0, 0]).sum())
    return Rotary(torch.cat([text, image]), len(text), own, model.pos_embed)


def _centred(embedding: Any, kwargs: dict[str, Any]) -> Rotary:
    """Positions in Qwen-Image: (picture, row, column) with the middle of a picture at 0, and words
    on the diagonal beyond its corner.
    """
    device, t = kwargs["hidden_states"].device, kwargs["encoder_hidden_states"].shape[1]
    shapes, ids, corner = kwargs["img_shapes"][0], [], 0
    for number, (frames, height, width) in enumerate(
        shapes if isinstance(shapes, list) else [shapes]
    ):
        places = torch.cartesian_prod(
            torch.arange(number, number + frames, device=device),
            torch.arange(height, device=device) - (height - height // 2),
            torch.arange(width, device=device) - (width - width // 2),
        )
        ids.append(places)
        corner = max(corner, height // 2, width // 2)
    words = torch.arange(corner, corner + t, device=device)[:, None].expand(t, 3)

    def embed(places: Tensor) -> tuple[Tensor, Tensor]:  # m axes -> m d
        parts = []
        for axis, width in enumerate(embedding.axes_dim):
            powers = torch.arange(0, width, 2, device=places.device).float().div(width)
            frequencies = 1.0 / torch.pow(embedding.theta, powers)
            parts.append(torch.outer(places[:, axis].float(), frequencies))
        angles = torch.cat(parts, dim=-1).repeat_interleave(2, dim=-1)
        return angles.cos(), angles.sin()

    return Rotary(torch.cat([words, *ids]), t, len(ids[0]), embed)


def project(
    attn: Any,
    hidden: Tensor,
    encoder: Tensor | None,
    site: Site,
    rotary: Rotary | None,
    words: Tensor | None = None,
) -> tuple[tuple[Tensor, Tensor, Tensor], Text | None]:
    """Queries, keys and values of image tokens [b n h d], and those of text tokens if the layer
    has both in one softmax; normalised, and before rotation.

    hidden: [b n c] image tokens, of a "single" layer [b t+n c] with the text in front.
    encoder: [b t c] text tokens of a "joint" or "cross" layer; the keys and values of a "cross"
    layer are theirs, [b t h d]. words: see `Text`.
    """
    if site.kind == "cross":
        if not isinstance(encoder, Tensor):
            raise InputError(f"layer {site.name} has an IP-Adapter loaded; unload it first")
        q, k = cross_heads(attn, hidden, encoder)
        return (q, k, _split(_of_text(attn, encoder, "v"), attn.heads)), None
    if getattr(attn, "fused_projections", False):
        q, k, v = attn.to_qkv(hidden).chunk(3, dim=-1)
    else:
        q, k, v = attn.to_q(hidden), attn.to_k(hidden), attn.to_v(hidden)
    q, k, v = (_split(x, attn.heads) for x in (q, k, v))  # b n c -> b n h d
    q, k = _normed(attn.norm_q, q), _normed(attn.norm_k, k)
    if site.kind == "single":
        assert rotary is not None, "a single-stream layer without positions"
        image = slice(rotary.text, rotary.text + rotary.image)
        tq, tk, tv = (
            torch.cat([x[:, : image.start], x[:, image.stop :]], dim=1) for x in (q, k, v)
        )
        text = Text(tq, tk, tv, before=rotary.text)
        return (q[:, image], k[:, image], v[:, image]), text
    if site.kind != "joint":
        return (q, k, v), None
    assert encoder is not None, "a joint layer without text"
    tq, tk, tv = _text_heads(attn, encoder, q.shape[-1])
    n = q.shape[1] if rotary is None else rotary.image
    known = None if words is None else words.bool()
    if n < q.shape[1]:
        tq, tk, tv = (torch.cat([x, y[:, n:]], dim=1) for x, y in ((tq, q), (tk, k), (tv, v)))
        if known is not None:
            known = torch.cat([known, known.new_ones(len(q), q.shape[1] - n)], dim=1)
    before = encoder.shape[1] if site.text_first else 0
    return (q[:, :n], k[:, :n], v[:, :n]), Text(tq, tk, tv, before, known)


def project_again(attn: Any, hidden: Tensor, which: Literal["q", "k", "v"]) -> Tensor:
    """Queries, keys or values [u h d] of image tokens' hidden states [u c], as `project` has them.

    The product of fewer rows may round otherwise than that of the whole picture.
    """
    if getattr(attn, "fused_projections", False):
        found = attn.to_qkv(hidden).chunk(3, dim=-1)["qkv".index(which)]
    else:
        found = getattr(attn, f"to_{which}")(hidden)
    split = _split(found, attn.heads)  # u c -> u h d
    norm = {"q": attn.norm_q, "k": attn.norm_k, "v": None}[which]
    return _normed(norm, split)


def unproject(
    attn: Any, image: Tensor, text: Tensor | None, before: int, site: Site
) -> tuple[Tensor, Tensor | None]:
    """Results of attention [b n h d] to hidden states: of image tokens [b n c], with those of
    pictures beside it, and of text tokens. A "single" layer's are all in one. before: see `Text`.
    """
    if site.kind == "single":
        assert text is not None
        return torch.cat([text[:, :before], image, text[:, before:]], dim=1).flatten(2), None
    if text is not None and site.text_first:
        image, text = torch.cat([image, text[:, before:]], dim=1), text[:, :before]
    image = image.flatten(2)
    image = attn.to_out[1](attn.to_out[0](image.contiguous()))
    if text is None:
        return image, None
    text = text.flatten(2).contiguous()
    # The last block of SD3 computes nothing for the text.
    return image, text if getattr(attn, "context_pre_only", None) else attn.to_add_out(text)


def cross_heads(attn: Any, hidden: Tensor, encoder: Tensor) -> tuple[Tensor, Tensor]:
    """Queries [b n h d] of hidden [b n c] and keys [b t h d] of encoder [b t c], for a
    cross-attention layer.
    """
    q, k = (_split(x, attn.heads) for x in (attn.to_q(hidden), _of_text(attn, encoder, "k")))
    return _normed(attn.norm_q, q), _normed(attn.norm_k, k)


def _of_text(attn: Any, encoder: Tensor, which: Literal["k", "v"]) -> Tensor:
    """Keys or values [b t c] of a cross-attention layer; whoever watches wants keys alone."""
    if attn.norm_cross:
        encoder = attn.norm_encoder_hidden_states(encoder)
    if getattr(attn, "fused_projections", False):
        fused: Tensor = attn.to_kv(encoder).chunk(2, dim=-1)[which == "v"]
        return fused
    found: Tensor = (attn.to_k if which == "k" else attn.to_v)(encoder)
    return found


def _text_heads(attn: Any, encoder: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """[b t h d] each of the text's own projections; width: d."""
    if getattr(attn, "fused_projections", False) and hasattr(attn, "to_added_qkv"):
        q, k, v = attn.to_added_qkv(encoder).chunk(3, dim=-1)
    else:
        q, k, v = attn.add_q_proj(encoder), attn.add_k_proj(encoder), attn.add_v_proj(encoder)
    q, k, v = (x.unflatten(-1, (-1, width)) for x in (q, k, v))
    return _normed(attn.norm_added_q, q), _normed(attn.norm_added_k, k), v


def _split(x: Tensor, heads: int) -> Tensor:
    split: Tensor = x.unflatten(-1, (heads, -1))  # b n c -> b n h d
    return split


def _normed(norm: Any, x: Tensor) -> Tensor:
    # Norms of queries and keys act on d of [b n h d]; most UNets have none.
    normed: Tensor = x if norm is None else norm(x)
    return normed
