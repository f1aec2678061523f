"""Families of checkpoints that can be loaded.

`BACKBONES` maps the pipeline class that a folder's `model_index.json` names to its loader. A
family that is not listed cannot be loaded; nothing is guessed.
"""

from __future__ import annotations

BACKBONES: dict[str, str] = {
    "StableDiffusionPipeline": "consistent_gen.models.pretrained:load_stable_diffusion",
    "StableDiffusionXLPipeline": "consistent_gen.models.pretrained:load_stable_diffusion_xl",
}
