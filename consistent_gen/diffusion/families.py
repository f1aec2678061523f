"""Families of models by name, and the folders that can be loaded.

Everything here is data, so that it can be listed without a library being loaded. A family that is
not listed cannot be drawn with; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from consistent_gen.errors import CheckpointError
from consistent_gen.registry import resolve

if TYPE_CHECKING:
    from consistent_gen.diffusion.seam import Seam

SEAMS: dict[str, str] = {
    "unet": "consistent_gen.diffusion.unet:UNetSeam",
    "sd3": "consistent_gen.diffusion.sd3:SD3Seam",
    "flux": "consistent_gen.diffusion.flux:FluxSeam",
    "klein": "consistent_gen.diffusion.flux2:KleinSeam",
    "klein-distilled": "consistent_gen.diffusion.flux2:DistilledKleinSeam",
    "kontext": "consistent_gen.diffusion.flux:KontextSeam",
    "qwen": "consistent_gen.diffusion.qwen:QwenSeam",
    "pixart": "consistent_gen.diffusion.pixart:PixArtSeam",
    "pixart-sigma": "consistent_gen.diffusion.pixart:PixArtSigmaSeam",
}


@dataclass(frozen=True)
class Folder:
    """What a model folder of one pipeline class holds beside its network and its autoencoder.

    seam: its family, a name of `SEAMS`. network: the class of what denoises. encoders: endings of
    the names of its text encoders and their tokenizers. lora: the mixin of `diffusers.loaders` that
    reads its LoRA files, None where there is none. adapted: endings of the encoders that may have
    LoRAs, which are CLIP's. optional: encoders that may be missing.
    """

    seam: str
    network: str
    encoders: tuple[str, ...]
    lora: str | None
    adapted: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def present(self, index: Mapping[str, Any]) -> tuple[str, ...]:
        """Endings of the encoders that a folder's `model_index.json` names."""
        missing = [end for end in self.optional if not _named(index, f"text_encoder{end}")]
        return tuple(end for end in self.encoders if end not in missing)


# The pipeline class that a folder's `model_index.json` names -> what is in the folder.
BACKBONES: dict[str, Folder] = {
    "StableDiffusionPipeline": Folder(
        "unet", "UNet2DConditionModel", ("",), "StableDiffusionLoraLoaderMixin", ("",)
    ),
    "StableDiffusionXLPipeline": Folder(
        "unet", "UNet2DConditionModel", ("", "_2"), "StableDiffusionXLLoraLoaderMixin", ("", "_2")
    ),
    "StableDiffusion3Pipeline": Folder(
        "sd3",
        "SD3Transformer2DModel",
        ("", "_2", "_3"),
        "SD3LoraLoaderMixin",
        ("", "_2"),
        optional=("_3",),
    ),
    "FluxPipeline": Folder(
        "flux", "FluxTransformer2DModel", ("", "_2"), "FluxLoraLoaderMixin", ("",)
    ),
    "FluxKontextPipeline": Folder(
        "kontext", "FluxTransformer2DModel", ("", "_2"), "FluxLoraLoaderMixin", ("",)
    ),
    "Flux2KleinPipeline": Folder(
        "klein", "Flux2Transformer2DModel", ("",), "Flux2LoraLoaderMixin", ()
    ),
    "QwenImagePipeline": Folder(
        "qwen", "QwenImageTransformer2DModel", ("",), "QwenImageLoraLoaderMixin", ()
    ),
    "PixArtAlphaPipeline": Folder("pixart", "PixArtTransformer2DModel", ("",), None, ()),
    "PixArtSigmaPipeline": Folder("pixart-sigma", "PixArtTransformer2DModel", ("",), None, ()),
}

_PERTURBED = (
    "its perturbed rows are made by attention processors of its own, which sharing replaces"
)
_THREE_ROWS = "it calls its UNet with three rows per picture"
_IN_PROMPT = (
    "it draws nothing without a picture to edit, which its language model reads with the words; "
    "FluxKontextPipeline and Flux2KleinPipeline draw from words, too"
)
_CHANNELS = "its transformer takes further channels beside the latents; use another pipeline"
_FUSED = "its single-stream layers project attention and feed-forward in one map"
_OTHER_FLUX2 = f"{_FUSED}, and of its family only Flux2KleinPipeline folders are drawn"
_LINEAR = "its attention is linear: it sums over all tokens and has no keys that a frame could read"
_FRAMES = "it denoises frames of a video together"
# Pipeline classes that people try and `share` refuses, with the reason; folders of them are refused
# as well, unless they stand in `BACKBONES`.
REFUSED: dict[str, str] = {
    "StableDiffusionPAGPipeline": _PERTURBED,
    "StableDiffusionXLPAGPipeline": _PERTURBED,
    "StableDiffusionPAGImg2ImgPipeline": _PERTURBED,
    "StableDiffusionXLPAGImg2ImgPipeline": _PERTURBED,
    "StableDiffusionControlNetPAGPipeline": _PERTURBED,
    "StableDiffusionXLControlNetPAGPipeline": _PERTURBED,
    "StableDiffusionInstructPix2PixPipeline": _THREE_ROWS,
    "StableDiffusionXLInstructPix2PixPipeline": _THREE_ROWS,
    "StableDiffusionUpscalePipeline": "its UNet denoises a picture at another scale",
    "StableDiffusionLatentUpscalePipeline": "its UNet denoises a picture at another scale",
    "KolorsPipeline": "its text encoder is no CLIP, so a subject's words are not found",
    "AnimateDiffPipeline": _FRAMES,
    "AnimateDiffSDXLPipeline": _FRAMES,
    "FluxKontextInpaintPipeline": "it puts the picture that it edits back at every step",
    "FluxFillPipeline": _CHANNELS,
    "FluxControlPipeline": _CHANNELS,
    "FluxPriorReduxPipeline": "it makes prompts of pictures and draws nothing",
    "StableDiffusion3PAGPipeline": _PERTURBED,
    "Flux2Pipeline": _OTHER_FLUX2,
    "Flux2KleinPipeline": _FUSED,
    "Flux2KleinKVPipeline": _OTHER_FLUX2,
    "QwenImageEditPipeline": _IN_PROMPT,
    "QwenImageEditPlusPipeline": _IN_PROMPT,
    "ZImagePipeline": "it hands over pictures and prompts in lists of unequal lengths",
    "SanaPipeline": _LINEAR,
    "SanaSprintPipeline": _LINEAR,
    "Lumina2Pipeline": "its layers hold prompts of unequal lengths and pictures in one sequence",
    "ChromaPipeline": "its layers weigh padded words by an attention mask, which sharing drops",
}


@cache
def seam_of(name: str) -> Seam:
    """The seam of a family, a name of `SEAMS`. Seams have no state; one serves all models."""
    made: Seam = resolve(SEAMS, name)()
    return made


def folder_of(index: object, where: object) -> Folder:
    """What a folder with this `model_index.json` holds. where: the file, for messages.

    Raises:
        CheckpointError: its pipeline class is none of `BACKBONES`.
    """
    said: Mapping[str, Any] = index if isinstance(index, dict) else {}
    family = said.get("_class_name")
    if not isinstance(family, str) or family not in BACKBONES:
        reason = REFUSED.get(family) if isinstance(family, str) else None
        raise CheckpointError(
            f"{where} names the pipeline {family!r}{f': {reason}' if reason else ''}; "
            f"the families that can be loaded are {', '.join(sorted(BACKBONES))}"
        )
    found = BACKBONES[family]
    distilled = found.seam == "klein" and said.get("is_distilled") is True
    return replace(found, seam="klein-distilled") if distilled else found


def _named(index: Mapping[str, Any], part: str) -> bool:
    entry = index.get(part)
    return isinstance(entry, list) and len(entry) == 2 and entry[1] is not None
