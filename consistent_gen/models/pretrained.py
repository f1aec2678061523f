"""The loader of folders in diffusers format, of the families in `diffusion.families.BACKBONES`.

Only safetensors are read, only the classes named here are built, and nothing is fetched over the
network. Weights may be stored in any number format; they are converted while they are read.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from consistent_gen import runtime
from consistent_gen.checkpoints import (
    SECOND_STAGE,
    folder_sha256,
    model_files,
    read_json,
)
from consistent_gen.diffusion.families import Folder, folder_of, seam_of
from consistent_gen.diffusion.seam import Seam
from consistent_gen.draw_settings import GONE, RECOMMENDABLE, SETTINGS, mistakes
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.models import OFFLOADS
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.folders import INDEX, find_folder, model_name
from consistent_gen.models.loras import LoraFile, add_loras, identified
from consistent_gen.models.offload import offload_networks

RECOMMENDED = "recommended.json"
_METHODS = "methods"  # of RECOMMENDED: settings by the names of methods

# Class name in model_index.json -> where the class lives. A folder's own words on libraries are
# never imported: a folder must not choose what code runs.
_CLASSES = {
    "UNet2DConditionModel": "diffusers.models.unets.unet_2d_condition",
    "SD3Transformer2DModel": "diffusers.models.transformers.transformer_sd3",
    "FluxTransformer2DModel": "diffusers.models.transformers.transformer_flux",
    "Flux2Transformer2DModel": "diffusers.models.transformers.transformer_flux2",
    "QwenImageTransformer2DModel": "diffusers.models.transformers.transformer_qwenimage",
    "PixArtTransformer2DModel": "diffusers.models.transformers.pixart_transformer_2d",
    "AutoencoderKL": "diffusers.models.autoencoders.autoencoder_kl",
    "AutoencoderTiny": "diffusers.models.autoencoders.autoencoder_tiny",
    "AutoencoderKLFlux2": "diffusers.models.autoencoders.autoencoder_kl_flux2",
    "AutoencoderKLQwenImage": "diffusers.models.autoencoders.autoencoder_kl_qwenimage",
    "PatchAutoencoder": "consistent_gen.models.patch_autoencoder",
    "Refiner": "consistent_gen.models.refiner",
    "CLIPTextModel": "transformers",
    "CLIPTextModelWithProjection": "transformers",
    "T5EncoderModel": "transformers",
    "Qwen3ForCausalLM": "transformers",
    "Qwen2_5_VLForConditionalGeneration": "transformers",
    "CLIPTokenizer": "transformers",
    "T5Tokenizer": "transformers",
    "Qwen2Tokenizer": "transformers",
    # Older folders name the fast tokenizer; transformers 5 has one class for both.
    "CLIPTokenizerFast": "transformers",
    "T5TokenizerFast": "transformers",
    "Qwen2TokenizerFast": "transformers",
}
# Weight files of both libraries: a variant's name, then the number among files of a large network.
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|model)(?:\.(\w+?))?(?:-\d{5}-of-\d{5})?\.safetensors"
)
# Damaged folders surface as any of these inside the two libraries.
_DAMAGE = (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError)
_RENAMED = {
    "CLIPTokenizerFast": "CLIPTokenizer",
    "T5TokenizerFast": "T5Tokenizer",
    "Qwen2TokenizerFast": "Qwen2Tokenizer",
}


def load_folder(
    path: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | None = None,
    loras: Sequence[LoraFile | str | Path] = (),
    offload: str | None = None,
) -> Backbone:
    """See `consistent_gen.models.load_backbone`."""
    runtime.tune_allocator()
    if offload is not None and offload not in OFFLOADS:
        raise InputError(f"offload is {offload!r}; expected one of {', '.join(OFFLOADS)}")
    files = [one if isinstance(one, LoraFile) else LoraFile(path=one) for one in loras]
    identified(files)  # before gigabytes are read
    folder = find_folder(path)
    index = read_json(folder / INDEX)
    holds = folder_of(index, folder / INDEX)
    place = device if isinstance(device, torch.device) else runtime.device(device)
    dtype_ = runtime.dtype(dtype, place)
    at = place if offload is None else torch.device("cpu")
    parts = _parts(folder, index, holds, device=at, acting=place, dtype=dtype_)
    loaded = Backbone(**parts, name=model_name(folder), path=folder, device=place, dtype=dtype_)
    _check(loaded)
    takes = {loaded.seam.part: loaded.denoiser} | {
        f"text_encoder{end}": parts[f"text_encoder{end}"] for end in holds.adapted
    }
    loaded = replace(loaded, loras=add_loras(takes, holds, folder.name, files))
    if offload is not None:
        texts = [parts[f"text_encoder{end}"] for end in holds.present(index)]
        whole = [one for one in (loaded.vae, loaded.refiner) if one is not None]
        offload_networks(offload, place, [loaded.denoiser, *texts], whole)
    return loaded


def _parts(
    folder: Path,
    index: Mapping[str, Any],
    holds: Folder,
    *,
    device: torch.device,
    acting: torch.device,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """The parts of a folder, on a device; `acting` is where they will be called."""
    seam = seam_of(holds.seam)
    schedule = read_schedule(folder, seam)
    # A bfloat16 has eight bits, as a pixel has: pictures would get the rounding of both.
    fine = torch.float32 if dtype == torch.bfloat16 and acting.type == "cpu" else dtype
    vae = _network(folder, index, "vae", device, fine)
    if dtype == torch.float16 and getattr(vae.config, "force_upcast", False):
        # SDXL's autoencoder overflows in half precision and says so in its config.
        vae = vae.to(torch.float32)
    refiner = None
    if (folder / SECOND_STAGE).is_dir():
        # What it draws are pixels, too, so it has the autoencoder's number format.
        refiner = _network(folder, {SECOND_STAGE: [None, "Refiner"]}, SECOND_STAGE, device, fine)
    texts: dict[str, Any] = {}
    for end in holds.present(index):
        texts[f"tokenizer{end}"] = _part(folder, index, f"tokenizer{end}")
        encoder = f"text_encoder{end}"
        texts[encoder] = _network(folder, index, encoder, device, dtype)
    denoiser = _network(folder, index, seam.part, device, dtype)
    if type(denoiser).__name__ != holds.network:
        raise CheckpointError(
            f"{folder / INDEX} names a {type(denoiser).__name__} as {seam.part}; "
            f"expected a {holds.network}"
        )
    recommended, method_settings = recommendations(folder)
    return {
        **texts,
        "folder_sha256": _sha256(folder),
        "seam": seam,
        "denoiser": denoiser,
        "vae": vae,
        "scheduler_config": schedule,
        "zero_empty_negative": bool(index.get("force_zeros_for_empty_prompt", True)),
        "refiner": refiner,
        "refiner_sha256": None if refiner is None else folder_sha256(folder / SECOND_STAGE),
        "recommended": seam.recommended(denoiser.config) | recommended,
        "method_settings": method_settings,
    }


def read_schedule(folder: Path, seam: Seam) -> dict[str, Any]:
    """The scheduler config of a model folder.

    Raises:
        CheckpointError: it is damaged, or of a scheduler by which the family cannot be sampled.
    """
    file = folder / "scheduler" / "scheduler_config.json"
    found = read_json(file)
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} is not a JSON object")
    name = str(found.get("_class_name"))
    # A config that says nothing has its class's number of steps, which is 1000 in all of them.
    # Noise that a scheduler would add is of no account: steps are the engine's own.
    own = {"noise_sampler_seed": 0, "stochastic_sampling": False}
    if reason := seam.scheduler_fault(name, {"num_train_timesteps": 1000, **found, **own}):
        raise CheckpointError(f"{file} names a {name}, with which nothing can be drawn: {reason}")
    return found


def _check(model: Backbone) -> None:
    """Refuse parts that do not belong together.

    Raises:
        CheckpointError: the network takes other latents than the autoencoder makes, or a flow's
            schedule cannot be made of the scheduler's config.
    """
    stock = type(model.vae).__name__ != "PatchAutoencoder"  # ours has channels that it ignores
    made = model.seam.made_channels(model.vae.config) if stock else model.latent_channels
    if made != model.latent_channels:
        raise CheckpointError(
            f"the {model.seam.noun} of {model.path} takes latents of {model.latent_channels} "
            f"channels, and its autoencoder makes {made}; get both of one model"
        )
    config = model.denoiser.config
    model.seam.check_config(config)
    if model.seam.flow:
        try:
            model.seam.scheduler(
                model.scheduler_config, config, 2, model.seam.default_cells(config)
            )
        except (*_DAMAGE, ArithmeticError, ImportError) as error:
            raise CheckpointError(
                f"no schedule can be made of {model.path / 'scheduler'}: {error}"
            ) from error


def recommendations(folder: Path) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """What a model folder recommends: settings of frames, and of methods by name.

    Its second stage has recommendations of its own, which go before the others. Most folders have
    none.

    Raises:
        CheckpointError: a file holds something else.
    """
    settings, methods = _recommended(folder / RECOMMENDED)
    with_second_stage, _ = _recommended(folder / SECOND_STAGE / RECOMMENDED)
    return settings | with_second_stage, methods


def _recommended(file: Path) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    if not file.is_file():
        return {}, {}
    values = read_json(file)
    methods = values.pop(_METHODS, {}) if isinstance(values, dict) else None
    for name in GONE.keys() & values.keys() if isinstance(values, dict) else ():
        raise CheckpointError(f"{file}: {GONE[name].mistake(name)}")
    recommendable = isinstance(values, dict) and values.keys() <= set(RECOMMENDABLE)
    if not recommendable or None in values.values() or mistakes(values):
        known = ", ".join(f"{name} ({SETTINGS[name].range_words})" for name in RECOMMENDABLE)
        raise CheckpointError(
            f"{file} must hold an object of numbers; known settings: {known}, and {_METHODS!r}"
        )
    if not isinstance(methods, dict) or not all(isinstance(s, dict) for s in methods.values()):
        raise CheckpointError(
            f"{_METHODS!r} in {file} must map names of methods to objects of their settings"
        )
    return {name: SETTINGS[name].kind(value) for name, value in values.items()}, methods


def _network(
    folder: Path, index: Mapping[str, Any], part: str, device: torch.device, dtype: torch.dtype
) -> Any:
    if not any((folder / part).glob("*.safetensors")):
        raise CheckpointError(
            f"{folder / part} has no .safetensors file; other formats can run code when they are "
            "read: convert it, or get the folder again with its safetensors"
        )
    network = _part(folder, index, part, dtype)
    network.eval().requires_grad_(False)
    films = any(weight.ndim == 5 for weight in network.parameters())
    if films:  # their weights have no such order
        return network.to(device)
    return network.to(device, memory_format=torch.channels_last)


def _part(
    folder: Path, index: Mapping[str, Any], part: str, dtype: torch.dtype | None = None
) -> Any:
    entry = index.get(part)
    name = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if not isinstance(name, str) or name not in _CLASSES:
        raise CheckpointError(
            f"{folder / INDEX} names {name!r} as {part}; known classes: {', '.join(_CLASSES)}"
        )
    module = importlib.import_module(_CLASSES[name])
    kind = getattr(module, _RENAMED.get(name, name))
    options: dict[str, Any] = {"local_files_only": True}
    if dtype is not None:
        # transformers 5 says dtype where diffusers says torch_dtype.
        key = "dtype" if _CLASSES[name] == "transformers" else "torch_dtype"
        options |= {"use_safetensors": True, "output_loading_info": True, key: dtype}
        if variant := _variant(folder / part):
            options["variant"] = variant
    try:
        with _quiet():
            found = kind.from_pretrained(str(folder / part), **options)
    except ImportError as error:  # weights that another package unpacks
        raise CheckpointError(
            f"{folder / part} cannot be loaded as {name}: its config asks for a package that is "
            f"not installed, as quantised weights do ({_first_line(error)})"
        ) from error
    except (*_DAMAGE, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / part} cannot be loaded as {name}: {_first_line(error)}"
        ) from error
    if dtype is None:
        return found
    network, told = found
    if missing := sorted(told["missing_keys"]):
        # The libraries would draw with random numbers in their place.
        raise CheckpointError(
            f"{folder / part} lacks {len(missing)} of the weights of its {name}, such as "
            f"{missing[0]}; get the folder again"
        )
    return network


def _first_line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return said[0] if said else repr(error)


def _variant(part: Path) -> str | None:
    """What stands in the names of a part's weight files ("fp16") where none is without it.

    Raises:
        CheckpointError: there are several such, and nothing says which is meant.
    """
    named = {
        found[1] for file in part.glob("*.safetensors") if (found := _WEIGHTS.match(file.name))
    }
    variants = {name for name in named if name}
    if None in named or not variants:
        return None
    if len(variants) > 1:
        raise CheckpointError(
            f"{part} has its weights as {' and as '.join(sorted(variants))}; keep one of them"
        )
    return str(variants.pop())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """transformers draws a progress bar for files that load in a blink."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _sha256(folder: Path) -> str:
    """The folder's hash, of every byte: pictures name their model by it, so a file that was
    replaced by another of equal size must not keep the name.

    The manifest is not asked, since it says what was published, not what lies here. Hashing takes
    a small part of the time that loading takes; a process that loads a folder again hashes it
    again only if a file was touched.
    """
    files = [(folder / name).stat() for name in model_files(folder)]
    return _hashed(folder, tuple((f.st_ino, f.st_mtime_ns, f.st_size) for f in files))


@functools.lru_cache(maxsize=16)
def _hashed(folder: Path, _: tuple[tuple[int, int, int], ...]) -> str:
    return folder_sha256(folder)
