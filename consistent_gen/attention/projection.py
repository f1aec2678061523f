"""Hidden states to heads and back, for the layers of the supported families.

The same projections in the same order as diffusers' own processors, fused ones included; LoRA
layers sit inside the projections and act as always.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from consistent_gen.attention.attend import Text
from consistent_gen.attention.layers import Site
from consistent_gen.attention.policy import Heads, Rotary
from consistent_gen.errors import InputError


def project(
    attn: Any, hidden: Tensor, encoder: Tensor | None, site: Site, rotary: Rotary | None
) -> tuple[Heads, Text | None]:
    """Heads of image and text tokens of one layer, normalised and before rotation.

    hidden: [b n c] image tokens, of a "single" layer [b t+n c] with the text in front.
    encoder: [b t c] text tokens of a "joint" or "cross" layer; a "cross" layer has their keys and
    values only.
    """
    if site.kind == "cross":
        if not isinstance(encoder, Tensor):
            raise InputError(f"layer {site.name} has an IP-Adapter loaded; unload it first")
        q, k = cross_heads(attn, hidden, encoder)
        return Heads(q, k, _split(_text_values(attn, encoder), attn.heads)), None
    q, k, v = _image_heads(attn, hidden)
    if site.kind == "single":
        assert rotary is not None, "a single-stream layer without positions"
        t = rotary.text
        text = Text(q[:, :t], k[:, :t], v[:, :t], first=True)
        return Heads(q[:, t:], k[:, t:], v[:, t:], rotary=rotary), text
    heads = Heads(q, k, v, rotary=rotary)
    if site.kind != "joint":
        return heads, None
    assert encoder is not None, "a joint layer without text"
    return heads, Text(*_text_heads(attn, encoder, q.shape[-1]), first=site.block == "double")


def unproject(
    attn: Any, image: Tensor, text: Tensor | None, site: Site
) -> tuple[Tensor, Tensor | None]:
    """Results of attention [b n h d] to hidden states [b n c] of image and text tokens."""
    image = image.flatten(2)
    if site.kind == "single":
        assert text is not None
        return image, text.flatten(2)
    image = attn.to_out[1](attn.to_out[0](image.contiguous()))
    if text is None:
        return image, None
    text = text.flatten(2).contiguous()
    # The last block of SD3 computes nothing for the text.
    return image, text if getattr(attn, "context_pre_only", None) else attn.to_add_out(text)


def cross_heads(attn: Any, hidden: Tensor, encoder: Tensor) -> tuple[Tensor, Tensor]:
    """Queries [b n h d] and keys [b t h d] of a cross-attention layer."""
    if attn.norm_cross:
        encoder = attn.norm_encoder_hidden_states(encoder)
    q = attn.to_q(hidden)
    fused = getattr(attn, "fused_projections", False)
    k = attn.to_kv(encoder).chunk(2, dim=-1)[0] if fused else attn.to_k(encoder)
    return _normed(attn.norm_q, _split(q, attn.heads)), _normed(attn.norm_k, _split(k, attn.heads))


def _text_values(attn: Any, encoder: Tensor) -> Tensor:
    if attn.norm_cross:
        encoder = attn.norm_encoder_hidden_states(encoder)
    fused = getattr(attn, "fused_projections", False)
    v: Tensor = attn.to_kv(encoder).chunk(2, dim=-1)[1] if fused else attn.to_v(encoder)
    return v


def _image_heads(attn: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if getattr(attn, "fused_projections", False):
        q, k, v = attn.to_qkv(hidden).chunk(3, dim=-1)
    else:
        q, k, v = attn.to_q(hidden), attn.to_k(hidden), attn.to_v(hidden)
    q, k, v = (_split(x, attn.heads) for x in (q, k, v))
    return _normed(attn.norm_q, q), _normed(attn.norm_k, k), v


def _text_heads(attn: Any, encoder: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    if getattr(attn, "fused_projections", False) and hasattr(attn, "to_added_qkv"):
        q, k, v = attn.to_added_qkv(encoder).chunk(3, dim=-1)
    else:
        q, k, v = attn.add_q_proj(encoder), attn.add_k_proj(encoder), attn.add_v_proj(encoder)
    q, k, v = (x.unflatten(-1, (-1, width)) for x in (q, k, v))
    return _normed(attn.norm_added_q, q), _normed(attn.norm_added_k, k), v


def _split(x: Tensor, heads: int) -> Tensor:
    split: Tensor = x.unflatten(-1, (heads, -1))
    return split


def _normed(norm: Any, x: Tensor) -> Tensor:
    normed: Tensor = x if norm is None else norm(x)
    return normed
