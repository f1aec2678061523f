"""Which pipelines, schedulers and options can take part in `share`, and why others cannot.

The table is explicit: what is not in it is refused, since a pipeline that calls its denoiser
otherwise than expected would draw pictures that look well and share nothing. docs/backbones.md is
made from it. A new family begins in `diffusion.seam`, with its rows here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from consistent_gen.attention.layers import find_sites
from consistent_gen.diffusion import families
from consistent_gen.diffusion.seam import NOISE_SCHEDULERS, Seam
from consistent_gen.errors import InputError
from consistent_gen.registry import nearest


@dataclass(frozen=True)
class Support:
    """What holds for one pipeline class; "Y", or why not.

    share: `consistent_gen.share`. seam: the family, a name of `families.SEAMS`. needs: options that
    `share` must be given. of_frame: options that each frame may have of its own. repeated: options
    that the pipeline wants once per picture of a batch. pictures: what else decides a picture
    beside words and noise. not_for: options that the pipeline knows and a story cannot have, with
    the reason.
    """

    share: str = "Y"
    seam: str = "unet"
    needs: tuple[str, ...] = ()
    of_frame: tuple[str, ...] = ("negative_prompt",)
    repeated: tuple[str, ...] = ()
    pictures: str = "words"
    not_for: Mapping[str, str] = field(default_factory=dict)


_XL = ("negative_prompt", "prompt_2", "negative_prompt_2")
PIPELINES: dict[str, Support] = {
    "StableDiffusionPipeline": Support(),
    "StableDiffusionXLPipeline": Support(of_frame=_XL),
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
_ADAPTED = "its image adapter acts in the very layers in which frames are shared"
_SD3 = Support(
    seam="sd3",
    of_frame=(
        "negative_prompt", "prompt_2", "prompt_3", "negative_prompt_2", "negative_prompt_3",
    ),
    not_for={
        "skip_guidance_layers": "its further calls leave out layers in which frames are shared",
        "ip_adapter_image": _ADAPTED,
        "ip_adapter_image_embeds": _ADAPTED,
    },
)  # fmt: skip
_QWEN = Support(seam="qwen")
_FLUX = Support(seam="flux", of_frame=("negative_prompt", "prompt_2", "negative_prompt_2"))


def _also(base: Support, pictures: str, *needs: str, repeated: tuple[str, ...] = ()) -> Support:
    """The same for a pipeline that draws from further pictures."""
    own = (*base.of_frame, *needs)
    return replace(base, pictures=pictures, needs=needs, of_frame=own, repeated=repeated)


PIPELINES |= {
    "StableDiffusion3Pipeline": _SD3,
    "StableDiffusion3Img2ImgPipeline": _also(_SD3, "img2img", "image", repeated=("image",)),
    "StableDiffusion3InpaintPipeline": _also(
        _SD3, "inpainting", "image", "mask_image", repeated=("image",)
    ),
    "StableDiffusion3ControlNetPipeline": _also(_SD3, "ControlNet", "control_image"),
    "FluxPipeline": _FLUX,
    "FluxImg2ImgPipeline": _also(_FLUX, "img2img", "image", repeated=("image",)),
    "FluxInpaintPipeline": _also(_FLUX, "inpainting", "image", "mask_image", repeated=("image",)),
    "FluxControlNetPipeline": _also(_FLUX, "ControlNet", "control_image"),
    "FluxKontextPipeline": replace(
        _FLUX, of_frame=(*_FLUX.of_frame, "image"), pictures="words, editing"
    ),
    "QwenImagePipeline": _QWEN,
    "QwenImageImg2ImgPipeline": _also(_QWEN, "img2img", "image", repeated=("image",)),
    "QwenImageInpaintPipeline": _also(
        _QWEN, "inpainting", "image", "mask_image", repeated=("image",)
    ),
    "QwenImageControlNetPipeline": _also(_QWEN, "ControlNet", "control_image"),
    "PixArtAlphaPipeline": Support(seam="pixart"),
    "PixArtSigmaPipeline": Support(seam="pixart-sigma"),
}
REFUSED = families.REFUSED
SCHEDULERS = NOISE_SCHEDULERS
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
    "num_images_per_prompt": "draw frames with other seeds instead",
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
        _check_parts(pipe, name, support)
        return support
    reason = REFUSED.get(name)
    if reason is None:
        parts = [part for part in ("unet", "transformer") if getattr(pipe, part, None) is not None]
        called = "UNet" if parts == ["unet"] else "transformer"
        reason = f"how it calls its {called} is not known" if parts else "it has no UNet"
    has = "has no UNet" if reason == "it has no UNet" else f"cannot share attention: {reason}"
    raise InputError(f"a {name} {has}; expected one of {', '.join(PIPELINES)}")


def seam_of(support: Support) -> Seam:
    """How pipelines that are supported so call what denoises."""
    return families.seam_of(support.seam)


def drawn_by_engine(name: str) -> str:
    """Whether `load_backbone` and story files draw folders of a pipeline class: "Y", or why not."""
    if name in families.BACKBONES:
        return "Y"
    if PIPELINES[name].pictures != "words":
        return "the engine draws from words alone; use `share`"
    return "the engine does not read its folders; use `share`"


def offload_by_engine(name: str) -> str:
    """Where offloading works with a pipeline class: in `share` with all, and in the engine with
    those whose folders it draws, since its loader does it for every family.
    """
    return "Y" if name in families.BACKBONES else "in `share`"


def lora_by_engine(name: str) -> str:
    """Where LoRA files work with a pipeline class: in the engine if diffusers knows their keys."""
    holds = families.BACKBONES.get(name)
    return "in `share`" if holds is None or holds.lora is None else "Y"


def _check_parts(pipe: Any, name: str, support: Support) -> None:
    """Refuse a pipeline whose parts would make it draw something else than they are used for."""
    seam = seam_of(support)
    model = getattr(pipe, seam.part)
    if model is None:
        raise InputError(f"a {name} without a {seam.noun} cannot draw")
    if form := compiled_form(model, seam):
        raise InputError(
            f"the {seam.noun} is compiled ({form}), and what is compiled cannot look at other "
            "frames; load it uncompiled and compile parts without attention: for part in "
            f"pipe.{seam.part}.modules(): if type(part).__name__ in {seam.plain!r}: part.compile()"
        )
    seam.check_parts(pipe, name, support.pictures.startswith("inpainting"))
    seam.check_scheduler(pipe.scheduler)


def check_options(pipe: Any, support: Support, options: Mapping[str, Any]) -> None:
    """Refuse what the pipeline does not know and what a story cannot have.

    Raises:
        InputError: names the option and says why.
    """
    known = inspect.signature(type(pipe).__call__).parameters
    for name, value in options.items():
        if name == "num_images_per_prompt" and value in (None, 1):
            continue
        if reason := {**OPTIONS, **support.not_for}.get(name):
            raise InputError(f"{name}= cannot be an option of a story: {reason}")
        if name not in known:
            raise InputError(
                f"a {type(pipe).__name__} has no option {name!r}; it has "
                f"{', '.join(sorted(set(known) - OPTIONS.keys() - {'self', 'kwargs'}))}"
            )
        if name.startswith("negative_prompt") and not isinstance(value, (str, type(None))):
            raise InputError(f"{name}= holds for every frame and is one text; got {value!r}")
    for name in support.needs:
        if options.get(name) is None:
            raise InputError(
                f"a {name_of(pipe)} draws its anchors from {name}=; give it to share()"
            )


def check_frame_options(pipe: Any, support: Support, options: Mapping[str, Any]) -> None:
    """Refuse what a frame cannot have for itself.

    Raises:
        InputError: names the option and those that it can have.
    """
    known = inspect.signature(type(pipe).__call__).parameters
    for name, value in options.items():
        if name not in support.of_frame:
            reason = {**OPTIONS, **support.not_for}.get(name)
            if reason is None and name in known:
                reason = "it holds for the whole story; give it to share()"
            elif reason is None:
                close = nearest(name, support.of_frame)
                reason = f"a {name_of(pipe)} has no such option"
                reason += f"; did you mean {close}=?" if close else ""
            able = ", ".join(support.of_frame) or "nothing"
            raise InputError(
                f"a frame cannot have {name}= of its own: {reason} (it can have {able})"
            )
        if "prompt" in name and not isinstance(value, str):
            raise InputError(f"{name}= of a frame is one text; got {value!r}")


def compiled_form(model: nn.Module, seam: Seam) -> str | None:
    """How torch.compile was used on a network or a part of it with attention; None if not."""
    name = f"pipe.{seam.part}"
    if hasattr(model, "_orig_mod"):
        return f"torch.compile({name})"
    whole = [model]
    for path in find_sites(model):
        names = path.split(".")
        whole += [model.get_submodule(".".join(names[:i])) for i in range(1, len(names) + 1)]
    for module in whole:
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            return f"{name if module is model else 'a block'}.compile()"
        if hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable"):
            return "torch.compile(forward)"
    return None
