"""Attach policies to a model and take them off again, leaving the model as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from consistent_gen.attention.layers import Site, family_of, feature_module, find_sites
from consistent_gen.attention.policy import AttentionPolicy, Rotary
from consistent_gen.attention.processor import BINDING, Binding, Hub, PolicyProcessor, watch_cross
from consistent_gen.errors import ConsistentGenError

_PATCH = "_consistent_gen_patch"


class Patch:
    """Our presence in one model: there while at least one policy is attached.

    Layers that see images get our processor. Cross-attention layers keep theirs, so that image
    adapters can be loaded and scaled as always, and are only watched; they get ours as soon as a
    policy asks to act on text.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.hub = Hub()
        self.sites: dict[str, Site] = find_sites(model)
        self._features: dict[int, Any] = {}
        self._hooks = [
            model.register_forward_pre_hook(self._before_call, with_kwargs=True),
            model.register_forward_hook(self._after_call, always_call=True),
        ]
        for name, site in self.sites.items():
            if site.sees_images:
                self._bind(name, site)
            else:
                self._watch(name, site)

    def add(self, policy: AttentionPolicy) -> None:
        """Append a policy; it acts after those before it."""
        self.hub.policies.append(policy)
        for name, site in self.sites.items():
            bound = hasattr(self.model.get_submodule(name), BINDING)
            if policy.acts_on_text and not bound:
                self._bind(name, site)
        if policy.feature_scale is not None:
            module = self.model.get_submodule(feature_module(self.model, policy.feature_scale))

            def show(_module: nn.Module, _inputs: Any, output: Any) -> None:
                # Transformer blocks return (text, image).
                policy.features(output[1] if isinstance(output, tuple) else output)

            self._features[id(policy)] = module.register_forward_hook(show)

    def remove(self, policy: AttentionPolicy) -> None:
        """Take a policy off; with the last one the model gets its own processors back."""
        self.hub.policies[:] = [other for other in self.hub.policies if other is not policy]
        hook = self._features.pop(id(policy), None)
        if hook is not None:
            hook.remove()
        if not self.hub.policies:
            self._restore()

    def _bind(self, name: str, site: Site) -> None:
        attn: Any = self.model.get_submodule(name)
        setattr(attn, BINDING, Binding(site, attn.processor, self.hub))
        _install(attn)

    def _watch(self, name: str, site: Site) -> None:
        def look(attn: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            text = args[1] if len(args) > 1 else kwargs.get("encoder_hidden_states")
            watch_cross(self.hub.policies, attn, hidden, text, site)

        attn = self.model.get_submodule(name)
        self._hooks.append(attn.register_forward_pre_hook(look, with_kwargs=True))

    def _restore(self) -> None:
        for hook in self._hooks:
            hook.remove()
        for name in self.sites:
            attn: Any = self.model.get_submodule(name)
            binding: Binding | None = getattr(attn, BINDING, None)
            if binding is None:
                continue
            # A processor that somebody installed over ours stays.
            if isinstance(attn.processor, PolicyProcessor):
                attn.set_processor(attn.processor.standing_for(binding))
            delattr(attn, BINDING)
        delattr(self.model, _PATCH)

    def _before_call(self, _model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        for name in self.sites:
            attn: Any = self.model.get_submodule(name)
            if hasattr(attn, BINDING) and not isinstance(attn.processor, PolicyProcessor):
                _install(attn)  # something replaced ours: the new one is the layer's own now
        if family_of(self.model) == "FluxTransformer2DModel":
            self.hub.rotary = _positions(self.model, kwargs)

    def _after_call(self, _model: nn.Module, _args: Any, _output: Any) -> None:
        self.hub.rotary = None


def attach(model: nn.Module, policy: AttentionPolicy) -> Patch:
    """Let `policy` act in `model` from now on, after the policies that are there already.

    Raises:
        InputError: a model family that is not supported.
    """
    patch: Patch | None = getattr(model, _PATCH, None)
    if patch is None:
        patch = Patch(model)
        object.__setattr__(model, _PATCH, patch)
    patch.add(policy)
    return patch


def detach(model: nn.Module, policy: AttentionPolicy) -> None:
    """Undo `attach`. After the last policy the model is what it was, processors by identity.

    Raises:
        ConsistentGenError: the policy is not attached.
    """
    patch: Patch | None = getattr(model, _PATCH, None)
    if patch is None or all(other is not policy for other in patch.hub.policies):
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


def _install(attn: Any) -> None:
    ours = PolicyProcessor()
    ours.inner = attn.processor
    # A backend that was chosen for the model before holds for us too.
    ours._attention_backend = getattr(attn.processor, "_attention_backend", None)
    ours._parallel_config = getattr(attn.processor, "_parallel_config", None)
    attn.set_processor(ours)


def _positions(model: Any, kwargs: dict[str, Any]) -> Rotary:
    text, image = (kwargs[name] for name in ("txt_ids", "img_ids"))
    text, image = (ids[0] if ids.ndim == 3 else ids for ids in (text, image))
    return Rotary(torch.cat([text, image]), len(text), model.pos_embed)
