"""Policies inside a model: attached, acting in its layers, and off again without a trace.

Layers that see images get one processor of ours, which runs the policies that act there and is
otherwise the layer's own. Cross-attention layers keep theirs, so that image adapters can be loaded
and scaled as always, and are only watched; they get ours when a policy asks to act on text.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from consistent_gen.attention.attend import attend
from consistent_gen.attention.layers import (
    Rotary,
    Site,
    Text,
    cross_heads,
    feature_module,
    find_sites,
    positions,
    project,
    project_again,
    unproject,
)
from consistent_gen.attention.ops import text_attention
from consistent_gen.attention.policy import AttentionPolicy, Heads, Projection
from consistent_gen.errors import ConsistentGenError, InputError

_PATCH, _BINDING = "_consistent_gen_patch", "_consistent_gen_binding"


def attach(model: nn.Module, policy: AttentionPolicy) -> None:
    """Let `policy` act in `model` from now on, after the policies that are there already.

    Raises:
        InputError: a model family that is not supported.
    """
    patch: _Patch | None = getattr(model, _PATCH, None)
    if patch is None:
        patch = _Patch(model)
        object.__setattr__(model, _PATCH, patch)
    patch.add(policy)


def detach(model: nn.Module, policy: AttentionPolicy) -> None:
    """Undo `attach`. After the last policy the model is what it was, processors by identity.

    Raises:
        ConsistentGenError: the policy is not attached.
    """
    patch: _Patch | None = getattr(model, _PATCH, None)
    if patch is None or all(other is not policy for other in patch.shared.policies):
        raise ConsistentGenError("this policy is not attached to the model; attach it first")
    patch.remove(policy)


@contextmanager
def attached(model: nn.Module, *policies: AttentionPolicy) -> Iterator[None]:
    """Attach policies for the length of a block, in order."""
    done: list[AttentionPolicy] = []
    try:
        for policy in policies:
            attach(model, policy)
            done.append(policy)
        yield
    finally:
        for policy in reversed(done):
            detach(model, policy)


@contextmanager
def one_row(model: nn.Module, slot: int) -> Iterator[None]:
    """While a layer of `model` is used for one row of the call alone, which row that is."""
    patch: _Patch | None = getattr(model, _PATCH, None)
    if patch is None:
        yield
        return
    before, patch.shared.slots = patch.shared.slots, (slot,)
    try:
        yield
    finally:
        patch.shared.slots = before


def policies_in(model: nn.Module) -> tuple[AttentionPolicy, ...]:
    """The policies that are attached to a model, in order."""
    patch: _Patch | None = getattr(model, _PATCH, None)
    return () if patch is None else tuple(patch.shared.policies)


def adds_to_projections(model: nn.Module) -> bool:
    """Whether a policy is attached that adds something of each row's own to projections."""
    return any(policy.acts_on_projections for policy in policies_in(model))


@dataclass
class _Shared:
    """What all layers of one model share: the policies in order, and facts of this call.

    slots: the rows that layers see now, None for all. reworded: the prompts that policies have
    changed, since a call within a call is given them again.
    """

    policies: list[AttentionPolicy] = field(default_factory=list)
    rotary: Rotary | None = None
    slots: tuple[int, ...] | None = None
    reworded: Tensor | None = None


@dataclass
class _Binding:
    """What one layer has: its place, the processor that was there first, and what all share."""

    site: Site
    first: Any
    shared: _Shared


class _Patch:
    """Our presence in one model: there while at least one policy is attached."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.shared = _Shared()
        self.sites = find_sites(model)
        self._own_hooks: dict[int, list[Any]] = {}  # of one policy, by its id
        self._around: list[Rotary | None] = []  # positions of the calls that this one is within
        self._hooks = [
            model.register_forward_pre_hook(self._before_call, with_kwargs=True),
            model.register_forward_hook(self._after_call, always_call=True),
        ]
        for site in self.sites.values():
            if site.sees_images:
                self._bind(site)
            else:
                self._watch(site)

    def add(self, policy: AttentionPolicy) -> None:
        self.shared.policies.append(policy)
        for site in self.sites.values() if policy.acts_on_text else ():
            if not hasattr(self.model.get_submodule(site.name), _BINDING):
                self._bind(site)
        own = self._own_hooks[id(policy)] = []
        for site in self.sites.values() if policy.acts_on_projections else ():
            own.extend(self._listen(policy, site))
        if policy.feature_scale is not None:
            module = self.model.get_submodule(feature_module(self.model, policy.feature_scale))

            def show(_module: nn.Module, _inputs: Any, output: Any) -> None:
                # Transformer blocks return (text, image).
                policy.features(output[1] if isinstance(output, tuple) else output)

            own.append(module.register_forward_hook(show))

    def remove(self, policy: AttentionPolicy) -> None:
        left = [other for other in self.shared.policies if other is not policy]
        self.shared.policies[:] = left
        for hook in self._own_hooks.pop(id(policy)):
            hook.remove()
        if not left:
            self._restore()

    def _bind(self, site: Site) -> None:
        attn: Any = self.model.get_submodule(site.name)
        setattr(attn, _BINDING, _Binding(site, attn.processor, self.shared))
        _install(attn)

    def _listen(self, policy: AttentionPolicy, site: Site) -> Iterator[Any]:
        """Hooks that let a policy add to what the layer's linear maps give."""
        attn: Any = self.model.get_submodule(site.name)
        maps: dict[str, tuple[Projection, ...]] = {
            "to_q": ("q",), "to_k": ("k",), "to_v": ("v",), "to_out.0": ("out",),
            "to_qkv": ("q", "k", "v"), "to_kv": ("k", "v"),
        }  # fmt: skip
        there = {name: module for name, module in attn.named_modules() if name in maps}
        for name, linear in there.items():

            def add(
                _linear: Any, inputs: Any, result: Tensor, made: tuple[Projection, ...] = maps[name]
            ) -> Tensor | None:
                slots = self.shared.slots
                slots = tuple(range(len(result))) if slots is None else slots
                more = [policy.projection(which, inputs[0], slots, site) for which in made]
                if all(part is None for part in more):
                    return None
                parts = zip(result.chunk(len(made), dim=-1), more, strict=True)
                sums = [x if y is None else x + y for x, y in parts]
                return sums[0] if len(sums) == 1 else torch.cat(sums, dim=-1)

            yield linear.register_forward_hook(add)

    def _watch(self, site: Site) -> None:
        def look(attn: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            text: Any = args[1] if len(args) > 1 else kwargs.get("encoder_hidden_states")
            # With an IP-Adapter the states come as (text, pictures).
            text = text[0] if isinstance(text, tuple) else text
            padded = kwargs.get("attention_mask")  # added to logits, [b 1 t]
            for policy in self.shared.policies:
                for row in policy.watched(site):
                    one = slice(row.slot, row.slot + 1)  # alone: its bytes know no neighbours
                    with one_row(self.model, row.slot):
                        q, k = cross_heads(attn, hidden[one], text[one])
                    words = None if padded is None else padded[row.slot].flatten() > -1.0
                    policy.text_attention(row, text_attention(q[0], k[0], words), site)

        attn = self.model.get_submodule(site.name)
        self._hooks.append(attn.register_forward_pre_hook(look, with_kwargs=True))

    def _restore(self) -> None:
        for hook in self._hooks:
            hook.remove()
        for name in self.sites:
            attn: Any = self.model.get_submodule(name)
            binding: _Binding | None = getattr(attn, _BINDING, None)
            if binding is None:
                continue
            # A processor that somebody installed over ours stays.
            if isinstance(attn.processor, PolicyProcessor):
                attn.set_processor(attn.processor.own(binding))
            delattr(attn, _BINDING)
        delattr(self.model, _PATCH)

    def _before_call(self, _model: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        self._around.append(self.shared.rotary)
        adding = any(policy.acts_on_projections for policy in self.shared.policies)
        for name in self.sites:
            attn: Any = self.model.get_submodule(name)
            if hasattr(attn, _BINDING) and not isinstance(attn.processor, PolicyProcessor):
                _install(attn)  # something replaced ours: the new one is the layer's own now
            fused = getattr(attn, "to_qkv", None) or getattr(attn, "to_kv", None)
            if adding and fused is not None and not fused._forward_hooks:
                raise InputError(
                    f"the projections of layer {name} were fused after an adapter was attached, "
                    "which cannot add to them so; fuse them first"
                )
        self.shared.rotary = positions(self.model, kwargs)
        return self._reword(args, kwargs)

    def _reword(self, args: Any, kwargs: dict[str, Any]) -> Any:
        """The call's arguments with the prompts that policies make of them; None if as given."""
        named = "encoder_hidden_states" in kwargs
        if not named and len(args) < 3:
            return None
        given = text = kwargs["encoder_hidden_states"] if named else args[2]
        if not isinstance(given, Tensor) or given is self.shared.reworded:
            return None
        for policy in self.shared.policies:
            text = policy.text(text) if policy.acts_on_text else text
        if text is given:
            return None
        self.shared.reworded = text
        if named:
            return args, {**kwargs, "encoder_hidden_states": text}
        return (*args[:2], text, *args[3:]), kwargs

    def _after_call(self, _model: nn.Module, _args: Any, _output: Any) -> None:
        # Where somebody else's hook failed before ours, the call never came to us; its end does.
        self.shared.rotary = self._around.pop() if self._around else None


def _install(attn: Any) -> None:
    ours = PolicyProcessor()
    ours.inner = attn.processor
    # A backend that was chosen for the model before holds for us too.
    ours._attention_backend = getattr(attn.processor, "_attention_backend", None)
    ours._parallel_config = getattr(attn.processor, "_parallel_config", None)
    attn.set_processor(ours)


class PolicyProcessor:
    """Runs the policies that act on the layer; if none does, the layer's own processor.

    It takes no arguments and finds what it needs at the attention module, since loading an
    IP-Adapter rebuilds processors as `type(processor)()`.
    """

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
        encoder_hidden_states_mask: Tensor | None = None,
    ) -> Any:
        """As any processor of diffusers. What the layer's own does not take stays None."""
        given = {
            "encoder_hidden_states": encoder_hidden_states,
            "attention_mask": attention_mask,
            "image_rotary_emb": image_rotary_emb,
            "temb": temb,
            "ip_adapter_masks": ip_adapter_masks,
            "ip_hidden_states": ip_hidden_states,
            "encoder_hidden_states_mask": encoder_hidden_states_mask,
        }
        named = {name: value for name, value in given.items() if value is not None}
        binding: _Binding | None = getattr(attn, _BINDING, None)
        own = self.own(binding)
        if binding is None:
            return own(attn, hidden_states, **named)
        site, policies = binding.site, binding.shared.policies
        asked = [p for p in policies if site.sees_images or p.acts_on_text]
        acting = [policy for policy in asked if policy.acts(site)]
        joint = site.kind in ("joint", "single")
        if not acting and not (joint and any(policy.watched(site) for policy in policies)):
            return own(attn, hidden_states, **named)
        if attention_mask is not None and acting:
            raise InputError(f"layer {site.name} has an attention mask; no method can act there")
        rotary = binding.shared.rotary
        words = encoder_hidden_states_mask
        qkv, text = project(attn, hidden_states, encoder_hidden_states, site, rotary, words)
        heads = Heads(*qkv, rotary=rotary)
        if not any(policy.acts_on_projections for policy in policies):
            first = 0 if site.kind != "single" or rotary is None else rotary.text
            heads.hidden = hidden_states[:, first : first + qkv[0].shape[1]]
            heads.project = functools.partial(project_again, attn)
        if text is not None:
            for policy in policies:
                for row in policy.watched(site):
                    known = None if text.words is None else text.words[row.slot]
                    seen = text_attention(heads.q[row.slot], text.k[row.slot], known)  # n t
                    policy.text_attention(row, seen, site)
        if not acting:
            return own(attn, hidden_states, **named)
        for policy in acting:
            policy.self_attention(heads, site)
        adding = [policy for policy in acting if policy.adds(site)]
        if heads.untouched and not adding:
            # Recorded only, or nothing to read: the layer's own bytes, not merely its numbers.
            return _shown(acting, own(attn, hidden_states, **named), text, heads, site)
        image, said = attend(heads, text, self._attention_backend)  # b n h d, b t h d
        branches = [policy.branch(heads.q, image, site) for policy in adding]
        before = 0 if text is None else text.before
        image, said = unproject(attn, sum(branches, image), said, before, site)
        found: Any = image if said is None else (image, said)
        if ip_hidden_states is not None and site.block == "double":
            # An image adapter's own branch is the third result of its processor.
            found = image, said, own(attn, hidden_states, **named)[2]
        return _shown(acting, found, text, heads, site)

    def own(self, binding: _Binding | None) -> Any:
        """The layer's own processor, which acts where no policy does."""
        if self.inner is not None or binding is None:
            assert self.inner is not None, "put back by diffusers without its layer"
            return self.inner
        return binding.first


def _shown(
    acting: Sequence[AttentionPolicy], result: Any, text: Text | None, heads: Heads, site: Site
) -> Any:
    """A processor's result after the policies have changed that of image tokens [b n c]."""
    whole, *rest = result if isinstance(result, tuple) else (result,)
    first = text.before if text is not None and site.kind == "single" else 0
    last = first + heads.q.shape[1]
    image = changed = whole[:, first:last]
    for policy in acting:
        changed = policy.output(changed, site)
    if changed is not image:
        whole = torch.cat([whole[:, :first], changed, whole[:, last:]], dim=1)
    return (whole, *rest) if isinstance(result, tuple) else whole
