"""Checkpoints in a single file, as other programs take them: what to do with one.

They hold weights under older names and neither tokenizers nor configs, which diffusers fetches over
the network when it reads one; a story must never wait for that, nor depend on it. So they are not
read but told apart, and the way to make a folder of one is said.
"""

from __future__ import annotations

from pathlib import Path

from consistent_gen.errors import CheckpointError

# A key that each family has in its single files -> the pipeline that reads them.
_OLD_UNET = "model.diffusion_model.input_blocks.0.0.weight"
_PIPELINES = {
    "v1": "StableDiffusionPipeline",
    "v2": "StableDiffusionPipeline",
    "xl_base": "StableDiffusionXLPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "sd35_medium": "StableDiffusion3Pipeline",
    "sd35_large": "StableDiffusion3Pipeline",
    "flux-dev": "FluxPipeline",
    "flux-schnell": "FluxPipeline",
}


def single_file_fault(path: Path) -> CheckpointError:
    """The error for a model that is given as one file, which says how to make a folder of it."""
    if path.suffix != ".safetensors":
        return CheckpointError(f"{path} is a file; expected a model folder in diffusers format")
    pipeline = _pipeline(path)
    if pipeline == "LoRA":
        return CheckpointError(
            f"{path} is a LoRA and no model; name it with --lora (loras= in Python) beside one"
        )
    if pipeline is None:
        return CheckpointError(
            f"{path} is a single file of no family that can be drawn with; expected a model folder "
            "in diffusers format"
        )
    return CheckpointError(
        f"{path} is a single file; expected a folder in diffusers format. Make one of it, once and "
        f'with network access: python -c "from diffusers import {pipeline} as P; '
        f"P.from_single_file({str(path)!r}).save_pretrained('{path.stem}')\" (without network, add "
        "config=DIR with a folder of the same family, and local_files_only=True)"
    )


def _pipeline(path: Path) -> str | None:
    """The pipeline that reads a single file, "LoRA", or None; from its header alone."""
    import torch
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if any("lora" in key for key in shapes):
        return "LoRA"
    outline = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    try:
        kind = infer_diffusers_model_type(outline)
    except (KeyError, IndexError, UnboundLocalError):
        return None
    # diffusers takes what it does not know for Stable Diffusion 1.
    return None if kind == "v1" and _OLD_UNET not in shapes else _PIPELINES.get(kind)
