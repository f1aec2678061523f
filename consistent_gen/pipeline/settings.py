"""What a character's anchors and all who read them must have in common.

It is compared when a frame is drawn and when a saved character is loaded, and a difference is
refused by name.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from consistent_gen.attention.run import SharedRun

# Of every weight, so many numbers stand for it.
_SAMPLES = 4


def settings_of(
    pipe: Any, model: nn.Module, run: SharedRun, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings by name, all of them plain values. model: what the pipeline denoises with."""
    scheduler = pipe.scheduler
    config = {k: v for k, v in settled_config(scheduler).items() if not k.startswith("_")}
    found = {
        "method": run.recipe.digest(),
        "seed": run.seed,
        "scheduler": type(scheduler).__name__,
        "scheduler_config": json.dumps(config, sort_keys=True, default=str),
        "options": json.dumps(by_content(dict(options)), sort_keys=True, default=str),
        "adapters": sorted(getattr(model, "peft_config", None) or {}),
        "adapter_scales": _adapter_scales(model),
        "freeu": _freeu(model),
        "image_adapter_scales": _image_adapter_scales(model),
    }
    weights = fingerprint(model)
    return found if weights is None else {**found, "model": weights}


def settled_config(scheduler: Any) -> Mapping[str, Any]:
    """A scheduler's config as it is while it draws: some write to it when their steps are set."""
    config: Mapping[str, Any] = scheduler.config
    twin = copy.deepcopy(scheduler)
    try:
        for steps in (7, 8, 9):  # odd and even, and not all of them multiples of three
            twin.set_timesteps(steps)
    except (TypeError, ValueError):  # it wants to be told more
        return config
    settled: Mapping[str, Any] = twin.config
    return settled


def fingerprint(model: nn.Module) -> str | None:
    """A short name of a model's weights, from a few numbers of each; None if they are elsewhere."""
    digest, numbers = hashlib.sha256(), []
    known: dict[tuple[int, torch.device], torch.Tensor] = {}  # places, by a weight's length
    for name, weight in model.named_parameters():
        if weight.device.type == "meta":
            return None  # offloaded layer by layer
        digest.update(f"{name} {tuple(weight.shape)} ".encode())
        flat = weight.detach().reshape(-1)
        if len(flat):
            key = len(flat), flat.device
            if key not in known:
                shares = torch.arange(_SAMPLES, device=flat.device)
                known[key] = shares * (len(flat) - 1) // (_SAMPLES - 1)
            numbers.append(flat[known[key]].float())
    if numbers:
        digest.update(torch.cat(numbers).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def by_content(value: Any) -> Any:
    """An option as plain values; pictures and tensors by a hash of what they hold."""
    if isinstance(value, Mapping):
        return {str(key): by_content(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [by_content(item) for item in value]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().float().numpy()
    if isinstance(value, np.ndarray) or hasattr(value, "tobytes"):  # numpy, Pillow
        shape = getattr(value, "shape", getattr(value, "size", ()))
        return f"{tuple(shape)} {hashlib.sha256(value.tobytes()).hexdigest()[:16]}"
    return value


def _adapter_scales(model: nn.Module) -> list[list[Any]]:
    """Active LoRA adapters with their weights, as the layers have them now."""
    found = set()
    for module in model.modules():
        scaling: Any = getattr(module, "scaling", None)
        if isinstance(scaling, dict) and not getattr(module, "disable_adapters", False):
            for name in getattr(module, "active_adapters", ()):
                found.add((str(name), round(float(scaling.get(name, 0.0)), 6)))
    return [list(pair) for pair in sorted(found)]


def _freeu(model: Any) -> list[list[float]]:
    up = getattr(model, "up_blocks", ())  # of UNets alone
    blocks = [[getattr(b, key, None) for key in ("s1", "s2", "b1", "b2")] for b in up]
    return [[float(x) for x in block if x is not None] for block in blocks if any(block)]


def _image_adapter_scales(model: Any) -> list[Any]:
    scales = [getattr(processor, "scale", None) for processor in model.attn_processors.values()]
    return [by_content(scale) for scale in scales if isinstance(scale, list)]
