"""Which pipelines, schedulers and options can take part in `share`, and why others cannot.

The table is explicit: what is not in it is refused, since a pipeline that calls its denoiser
otherwise than expected would draw pictures that look well and share nothing. docs/backbones.md is
made from it. A new family (transformers) begins here: an entry in `PIPELINES`, and what reads its
calls beside `calls.Calls`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from consistent_gen.attention.layers import find_sites
from consistent_gen.errors import InputError


@dataclass(frozen=True)
class Support:
    """What holds for one pipeline class; "Y", or why not.

    share: `consistent_gen.share`. engine: `load_backbone` and story files draw its folders.
    needs: options that `share` must be given. of_frame: options that each frame may have of its
    own. repeated: options that the pipeline wants once per picture of a batch. pictures: what else
    decides a picture beside words and noise.
    """

    share: str = "Y"
    engine: str = "the engine draws from words alone; use `share`"
    needs: tuple[str, ...] = ()
    of_frame: tuple[str, ...] = ("negative_prompt",)
    repeated: tuple[str, ...] = ()
    pictures: str = "words"


_OWN_ENGINE = "Y"
_XL = ("negative_prompt", "prompt_2", "negative_prompt_2")
PIPELINES: dict[str, Support] = {
    "StableDiffusionPipeline": Support(engine=_OWN_ENGINE),
    "StableDiffusionXLPipeline": Support(engine=_OWN_ENGINE, of_frame=_XL),
    "StableDiffusionImg2ImgPipeline": Support(
        needs=("image",), of_frame=("negative_prompt", "image"), pictures="img2img"
    ),
    "StableDiffusionXLImg2ImgPipeline": Support(
        needs=("image",), of_frame=(*_XL, "image"), pictures="img2img"
    ),
    "StableDiffusionInpaintPipeline": Support(
        needs=("image", "mask_image"),
        of_frame=("negative_prompt", "image", "mask_image"),
        pictures="inpainting, 4 and 9 channels",
    ),
    "StableDiffusionXLInpaintPipeline": Support(
        needs=("image", "mask_image"),
        of_frame=(*_XL, "image", "mask_image"),
        pictures="inpainting, 4 and 9 channels",
    ),
    "StableDiffusionControlNetPipeline": Support(
        needs=("image",), of_frame=("negative_prompt", "image"), pictures="ControlNet"
    ),
    "StableDiffusionXLControlNetPipeline": Support(
        needs=("image",), of_frame=(*_XL, "image"), pictures="ControlNet"
    ),
    "StableDiffusionAdapterPipeline": Support(
        needs=("image",),
        of_frame=("negative_prompt", "image"),
        repeated=("image",),
        pictures="T2I-Adapter",
    ),
    "StableDiffusionXLAdapterPipeline": Support(
        needs=("image",), of_frame=(*_XL, "image"), repeated=("image",), pictures="T2I-Adapter"
    ),
    "LatentConsistencyModelPipeline": Support(of_frame=()),
}
_PERTURBED = (
    "its perturbed rows are made by attention processors of its own, which sharing replaces"
)
_THREE_ROWS = "it calls its UNet with three rows per picture"
_TRANSFORMER = "it has a transformer; the layers are known, its calls are not read yet"
_FRAMES = "it denoises frames of a video together"
# Those that people try, with the reason; any other is refused as unknown.
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
    "StableDiffusion3Pipeline": _TRANSFORMER,
    "FluxPipeline": _TRANSFORMER,
    "FluxKontextPipeline": _TRANSFORMER,
    "Flux2Pipeline": _TRANSFORMER,
    "QwenImagePipeline": _TRANSFORMER,
    "QwenImageEditPipeline": _TRANSFORMER,
    "QwenImageEditPlusPipeline": _TRANSFORMER,
    "ZImagePipeline": _TRANSFORMER,
    "SanaPipeline": _TRANSFORMER,
    "PixArtSigmaPipeline": _TRANSFORMER,
    "Lumina2Pipeline": _TRANSFORMER,
    "ChromaPipeline": _TRANSFORMER,
}
_SIGMAS = "its timesteps are no places in a training schedule"
SCHEDULERS: dict[str, str] = {
    "EDMEulerScheduler": _SIGMAS,
    "EDMDPMSolverMultistepScheduler": _SIGMAS,
    "FlowMatchEulerDiscreteScheduler": "a UNet's pipeline cannot scale its inputs by it",
    "FlowMatchHeunDiscreteScheduler": "a UNet's pipeline cannot scale its inputs by it",
    "CosineDPMSolverMultistepScheduler": _SIGMAS,
}
# Options of a pipeline that a story has no use for, with the reason.
OPTIONS: dict[str, str] = {
    "prompt": "each frame has its own",
    "generator": "each frame has a seed of its own",
    "latents": "each frame's noise comes from its seed",
    "prompt_embeds": "a subject's words are looked for in the prompt; give the prompt as text",
    "negative_prompt_embeds": "give `negative_prompt` as text",
    "pooled_prompt_embeds": "give the prompt as text",
    "negative_pooled_prompt_embeds": "give `negative_prompt` as text",
    "return_dict": "pictures come back as they are",
}


def name_of(pipe: Any) -> str:
    """The diffusers class that `pipe` is, or that it adds nothing to but parts and methods."""
    kind = type(pipe)
    for ancestor in kind.__mro__:
        listed = ancestor.__name__ in PIPELINES and ancestor.__module__.startswith("diffusers.")
        if listed and kind.__call__ is ancestor.__call__:
            return ancestor.__name__
    return kind.__name__


def check_pipeline(pipe: Any) -> Support:
    """What a pipeline supports.

    Raises:
        InputError: it cannot take part; the message says why.
    """
    name = name_of(pipe)
    if name in PIPELINES:
        support = PIPELINES[name]
        _check_parts(pipe, name)
        return support
    reason = REFUSED.get(name)
    if reason is None and getattr(pipe, "unet", None) is None:
        reason = "it has no UNet" if getattr(pipe, "transformer", None) is None else _TRANSFORMER
    reason = reason or "how it calls its UNet is not known"
    has = "has no UNet" if reason == "it has no UNet" else f"cannot share attention: {reason}"
    raise InputError(f"a {name} {has}; expected one of {', '.join(PIPELINES)}")


def _check_parts(pipe: Any, name: str) -> None:
    """Refuse a pipeline whose parts would make it draw something else than they are used for."""
    unet, vae = pipe.unet, pipe.vae
    if unet is None:
        raise InputError(f"a {name} without a UNet cannot draw")
    if pipe.tokenizer is None and getattr(pipe, "tokenizer_2", None) is None:
        raise InputError(f"a {name} without a tokenizer cannot find a subject's words")
    if form := compiled_form(unet):
        raise InputError(
            f"the UNet is compiled ({form}), and what is compiled cannot look at other frames; "
            "load it uncompiled and compile parts without attention: for part in "
            "pipe.unet.modules(): if type(part).__name__ in ('FeedForward', 'ResnetBlock2D'): "
            "part.compile()"
        )
    channels, made = int(unet.config.in_channels), int(vae.config.latent_channels)
    inpaints = PIPELINES[name].pictures.startswith("inpainting")
    if channels != made and not (inpaints and channels == 2 * made + 1):
        raise InputError(
            f"the UNet of this {name} takes {channels} channels, and the autoencoder makes {made}; "
            + ("load it as an inpainting pipeline" if channels == 2 * made + 1 else "load its own")
        )
    check_scheduler(pipe.scheduler)


def check_scheduler(scheduler: Any) -> None:
    """Refuse a scheduler whose steps or noise cannot be told.

    Raises:
        InputError: with the reason.
    """
    name, config = type(scheduler).__name__, scheduler.config
    reason = SCHEDULERS.get(name)
    if name == "DPMSolverSDEScheduler" and config.get("noise_sampler_seed") is None:
        reason = "its noise comes from no seed; make it with noise_sampler_seed=0"
    if config.get("timestep_type") == "continuous" or not config.get("num_train_timesteps"):
        reason = _SIGMAS
    if reason:
        raise InputError(f"a {name} cannot be shared with: {reason}; choose another scheduler")


def check_options(pipe: Any, support: Support, options: Mapping[str, Any]) -> None:
    """Refuse what the pipeline does not know and what a story cannot have.

    Raises:
        InputError: names the option and says why.
    """
    known = inspect.signature(type(pipe).__call__).parameters
    for name, value in options.items():
        if name in OPTIONS:
            raise InputError(f"{name}= cannot be an option of a story: {OPTIONS[name]}")
        if name not in known:
            raise InputError(
                f"a {type(pipe).__name__} has no option {name!r}; it has "
                f"{', '.join(sorted(set(known) - OPTIONS.keys() - {'self', 'kwargs'}))}"
            )
        if name == "num_images_per_prompt" and value not in (None, 1):
            raise InputError(
                "num_images_per_prompt= cannot be an option of a story: draw frames with other "
                "seeds instead"
            )
        if name.startswith("negative_prompt") and not isinstance(value, (str, type(None))):
            raise InputError(f"{name}= holds for every frame and is one text; got {value!r}")
    for name in support.needs:
        if options.get(name) is None:
            raise InputError(
                f"a {name_of(pipe)} draws its anchors from {name}=; give it to share()"
            )


def check_frame_options(support: Support, options: Mapping[str, Any]) -> None:
    """Refuse what a frame cannot have for itself.

    Raises:
        InputError: names the option and those that it can have.
    """
    for name, value in options.items():
        if name not in support.of_frame:
            reason = OPTIONS.get(name, "it holds for the whole story; give it to share()")
            able = ", ".join(support.of_frame) or "nothing"
            raise InputError(
                f"a frame cannot have {name}= of its own: {reason} (it can have {able})"
            )
        if "prompt" in name and not isinstance(value, str):
            raise InputError(f"{name}= of a frame is one text; got {value!r}")


def compiled_form(unet: nn.Module) -> str | None:
    """In which way torch.compile was used on a UNet or a part of it with attention; None if not."""
    if hasattr(unet, "_orig_mod"):
        return "torch.compile(pipe.unet)"
    whole = [unet]
    for path in find_sites(unet):
        names = path.split(".")
        whole += [unet.get_submodule(".".join(names[:i])) for i in range(1, len(names) + 1)]
    for module in whole:
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            return f"{'pipe.unet' if module is unet else 'a block'}.compile()"
        if hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable"):
            return "torch.compile(forward)"
    return None
