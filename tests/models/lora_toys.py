"""LoRA files with random numbers for tiny models, in the forms that people publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict

from consistent_gen.checkpoints import save_tensors
from consistent_gen.models.backbone import Backbone

TARGETS = {
    "unet": ["to_q", "to_k", "to_v", "to_out.0", "conv1"],
    "transformer": ["to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "proj_mlp"],
    "text_encoder": ["q_proj", "v_proj", "out_proj", "fc1"],
}


def trained(networks: Mapping[str, Any], seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """What a training would have made of networks: by part, <module>.lora_A.weight and so on.

    networks: copies; they are changed.
    """
    found = {}
    for part, network in networks.items():
        targets = TARGETS[part.removesuffix("_2")]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = LoraConfig(
                r=3, target_modules=targets, rank_pattern={targets[1]: 2}, init_lora_weights=False
            )
            inject_adapter_in_model(config, network, adapter_name="a")
        made = get_peft_model_state_dict(network, adapter_name="a")
        # Weak ones, as trained ones are: strong ones enlarge the rounding of every step.
        found[part] = {k: 0.3 * v if "lora_B" in k else v for k, v in made.items()}
    return found


def diffusers_file(path: Path, layers: Mapping[str, Mapping[str, torch.Tensor]]) -> Path:
    """In diffusers' present form, without alphas."""
    tensors = {f"{part}.{k}": v.clone() for part, own in layers.items() for k, v in own.items()}
    save_tensors(path, tensors)
    return path


def kohya_file(
    path: Path, layers: Mapping[str, Mapping[str, torch.Tensor]], alphas: Sequence[float]
) -> Path:
    """In kohya's form, with alphas that take turns."""
    prefixes = {"unet": "lora_unet", "text_encoder": "lora_te", "transformer": "lora_unet"}
    tensors = {}
    for part, own in layers.items():
        for number, name in enumerate(sorted({key.partition(".lora_")[0] for key in own})):
            # Older text encoders, which kohya names, have one level more.
            old = f"text_model.{name}" if part == "text_encoder" else name
            place = f"{prefixes[part]}_{old.replace('.', '_')}"
            tensors[f"{place}.lora_down.weight"] = own[f"{name}.lora_A.weight"].clone()
            tensors[f"{place}.lora_up.weight"] = own[f"{name}.lora_B.weight"].clone()
            tensors[f"{place}.alpha"] = torch.tensor(alphas[number % len(alphas)])
    save_tensors(path, tensors)
    return path


def parts_of(model: Backbone, *texts: str) -> dict[str, Any]:
    """Its networks by their names in LoRA files."""
    return {model.seam.part: model.denoiser} | {name: getattr(model, name) for name in texts}
