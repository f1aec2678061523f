"""The one attention processor: stock behaviour unless a policy acts on the layer in this call.

The class takes no arguments and finds what it needs at the attention module, since loading an
IP-Adapter rebuilds processors as `type(processor)()`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from consistent_gen.attention.attend import Text, attend
from consistent_gen.attention.layers import Site
from consistent_gen.attention.ops import text_attention
from consistent_gen.attention.policy import AttentionPolicy, Heads, Rotary
from consistent_gen.attention.projection import cross_heads, project, unproject
from consistent_gen.errors import InputError

BINDING = "_consistent_gen_binding"


@dataclass
class Hub:
    """What all layers of one model share: the policies in order, and positions of this call."""

    policies: list[AttentionPolicy] = field(default_factory=list)
    rotary: Rotary | None = None


@dataclass
class Binding:
    """What one layer has: its place, the processor that was there first, and the model's hub."""

    site: Site
    first: Any
    hub: Hub


class PolicyProcessor:
    """Runs the policies that act on the layer; if none does, the layer's own processor."""

    # diffusers sets these when a backend is chosen for the whole model.
    _attention_backend: Any = None
    _parallel_config: Any = None
    # The processor that this one stands for; unknown in an instance that diffusers made.
    inner: Any = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
        temb: Tensor | None = None,
        ip_adapter_masks: Any = None,
        ip_hidden_states: Any = None,
    ) -> Any:
        """As any processor of diffusers. What the layer's own does not take stays None."""
        binding: Binding | None = getattr(attn, BINDING, None)
        given = {
            "encoder_hidden_states": encoder_hidden_states,
            "attention_mask": attention_mask,
            "image_rotary_emb": image_rotary_emb,
            "temb": temb,
            "ip_adapter_masks": ip_adapter_masks,
            "ip_hidden_states": ip_hidden_states,
        }
        named = {name: value for name, value in given.items() if value is not None}
        inner = self.standing_for(binding)
        if binding is None:
            return inner(attn, hidden_states, **named)
        site, policies = binding.site, binding.hub.policies
        acting = [policy for policy in policies if policy.acts(site)]
        joint = site.kind in ("joint", "single")
        if not acting and not (joint and any(policy.watched(site) for policy in policies)):
            return inner(attn, hidden_states, **named)
        if attention_mask is not None and acting and site.sees_images:
            raise InputError(f"layer {site.name} has an attention mask; its keys cannot be shared")
        heads, text = project(attn, hidden_states, encoder_hidden_states, site, binding.hub.rotary)
        if text is not None:
            watch_joint(policies, heads, text, site)
        if not acting:
            return inner(attn, hidden_states, **named)
        for policy in acting:
            policy.self_attention(heads, site)
        branches = [x for policy in acting if (x := policy.branch(heads.q, site)) is not None]
        if heads.untouched and not branches:
            # Recorded only, or nothing to read: the layer's own bytes, not merely its numbers.
            return _shown(acting, inner(attn, hidden_states, **named), text, site)
        image, words = attend(heads, text, self._attention_backend)
        image, words = unproject(attn, sum(branches, image), words, site)
        if site.kind == "single":
            assert words is not None
            return _shown(acting, torch.cat([words, image], dim=1), text, site)
        found: Any = image if words is None else (image, words)
        if ip_hidden_states is not None and site.block == "double":
            # An image adapter's own branch is the third result of its processor.
            found = image, words, inner(attn, hidden_states, **named)[2]
        return _shown(acting, found, text, site)

    def standing_for(self, binding: Binding | None) -> Any:
        """The processor that acts where no policy does."""
        if self.inner is not None or binding is None:
            assert self.inner is not None, "put back by diffusers without its layer"
            return self.inner
        return binding.first


def _shown(acting: list[AttentionPolicy], result: Any, text: Text | None, site: Site) -> Any:
    """A processor's result after the policies have changed that of image tokens [b n c]."""
    if site.kind == "single":
        assert text is not None
        t = text.q.shape[1]
        image = changed = result[:, t:]
        for policy in acting:
            changed = policy.output(changed, site)
        return result if changed is image else torch.cat([result[:, :t], changed], dim=1)
    image, *rest = result if isinstance(result, tuple) else (result,)
    for policy in acting:
        image = policy.output(image, site)
    return (image, *rest) if isinstance(result, tuple) else image


def watch_cross(
    policies: list[AttentionPolicy], attn: Any, hidden: Tensor, encoder: Any, site: Site
) -> None:
    """Show policies where image tokens of a cross-attention layer look in the text."""
    # With an IP-Adapter the states come as (text, pictures).
    text = encoder[0] if isinstance(encoder, tuple) else encoder
    for policy in policies:
        for row in policy.watched(site):
            one = slice(row.slot, row.slot + 1)  # alone, so that its bytes know no neighbours
            q, k = cross_heads(attn, hidden[one], text[one])
            policy.text_attention(row, text_attention(q[0], k[0]), site)


def watch_joint(policies: list[AttentionPolicy], heads: Heads, text: Text, site: Site) -> None:
    """The same for a layer whose text and image tokens share a softmax."""
    for policy in policies:
        for row in policy.watched(site):
            attention = text_attention(heads.q[row.slot], text.k[row.slot])
            policy.text_attention(row, attention, site)
