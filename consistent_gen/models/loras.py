"""LoRA files: what is said of them, and the layers that they add to a model's networks.

A LoRA adds a product of two thin matrices to linear maps and convolutions: y = W x + w s B A x,
with A of shape [rank, in], B [out, rank], the file's own scale s = alpha / rank (1 where it says
none) and the weight w that a user gives ("LoRA", Hu et al. 2022, arXiv 2106.09685, section 4.1).
Files are translated into diffusers' names by diffusers' own conversions and the layers are peft's,
so a model draws what `pipe.load_lora_weights(file)` with `pipe.set_adapters(name, w)` draws.

Only safetensors are read. Whatever of a file would not act is a reason to refuse it: a picture
without half of its LoRA looks well and is wrong.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consistent_gen.checkpoints import file_sha256, load_tensors
from consistent_gen.diffusion.families import Folder
from consistent_gen.draw_settings import SettingFacts
from consistent_gen.errors import CheckpointError, InputError, LimitError, MissingExtraError

if TYPE_CHECKING:
    import torch

MAX_LORAS = 8
MAX_LORA_BYTES = 4 << 30
SUFFIX = ".safetensors"
WEIGHT = SettingFacts(
    kind=float, low=-10, high=10, about="how strongly a LoRA acts; 1 as trained, 0 not at all"
)
_METADATA = "lora_adapter_metadata"  # where diffusers keeps peft's config in a file's header
# Kinds of files that train something else beside or instead of two thin matrices.
_OTHER_KINDS = {
    "dora_scale": "a DoRA", "lora_magnitude_vector": "a DoRA", "hada_": "a LoHa", "lokr_": "a LoKr",
    "lora_mid": "a LoCon with a core (CP decomposition)", "lora_controlnet": "a Control-LoRA",
    "glora": "a GLoRA", "oft_": "an OFT", "bundle_emb": "a LoRA with an embedding of new words",
}  # fmt: skip
_EMBEDDINGS = {"emb_params", "clip_l", "clip_g"}  # of textual inversions that are not "<word>"
_EXPECTED = (
    "expected a LoRA of {model} with keys of diffusers ({denoiser}.<layer>.lora_A.weight, ...) or, "
    "for Stable Diffusion 1, 2, XL and FLUX.1, of kohya (lora_unet_<layer>.lora_down.weight, ...)"
)
# What diffusers' conversions raise for files that they were not written for.
_FOREIGN = (
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    RuntimeError,
    StopIteration,
)


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """A LoRA as somebody asks for it.

    path: a .safetensors file. weight: how strongly it acts, -10 to 10; 1 is as trained, 0 leaves it
    out, and below 0 it acts the other way round. name: what pictures call it beside its hash.
    """

    path: str | Path
    weight: float = 1.0
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Lora:
    """A LoRA that a model was loaded with: its file's hash, its weight, and its name if any."""

    sha256: str
    weight: float
    name: str | None = None

    def record(self) -> dict[str, Any]:
        """What a picture says of it."""
        said = {"sha256": self.sha256, "weight": self.weight}
        return said if self.name is None else said | {"name": self.name}

    @property
    def words(self) -> str:
        """For messages: "ab12cd34ef (weight 0.8)"."""
        return f"{self.sha256[:10]} (weight {self.weight:g})"


@dataclass(frozen=True)
class _LoraLayer:
    """One layer of a file: y += scale B A x for the module at `path`; bias [out] or None."""

    path: str
    A: torch.Tensor
    B: torch.Tensor
    bias: torch.Tensor | None
    scale: float


def lora_option(text: str) -> LoraFile:
    """The LoRA that `FILE` or `FILE=WEIGHT` on a command line means.

    Raises:
        InputError: the weight is out of range.
    """
    path, _, number = text.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        path, weight = "", 1.0
    found = LoraFile(path=path or text, weight=weight if path else 1.0)
    if mistake := WEIGHT.mistake("the weight of a LoRA", found.weight):
        raise mistake.at("--lora")
    return found


def named_with(folder_sha256: str, loras: Sequence[Lora]) -> str:
    """The name of all that draws: what is kept for one model must not be used for the same folder
    with other LoRAs. Without LoRAs it is the folder's.
    """
    if not loras:
        return folder_sha256
    said = [folder_sha256, *(f"{lora.sha256} {lora.weight!r}" for lora in loras)]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def identified(files: Sequence[LoraFile]) -> tuple[Lora, ...]:
    """The LoRAs that files with a weight are, by hash; whether they fit a model is not looked at.

    Raises:
        CheckpointError: a file is missing, or is no .safetensors file.
        LimitError: more files, larger ones or other weights than are read.
        InputError: the same file twice.
    """
    if len(files) > MAX_LORAS:
        raise LimitError(f"{len(files)} LoRA files; at most {MAX_LORAS} act together")
    found = [_identified(file) for file in files]
    hashes = [lora.sha256 for lora in found]
    for number, file in enumerate(files):
        if hashes[number] in hashes[:number]:
            raise InputError(f"{file.path} is given twice; add up the weights")
    # By hash, so that the order in which they are named changes no bit.
    acting = (lora for lora in found if lora.weight != 0.0)
    return tuple(sorted(acting, key=lambda lora: lora.sha256))


def _identified(file: LoraFile) -> Lora:
    if mistake := WEIGHT.mistake(f"the weight of {file.path}", file.weight):
        raise mistake
    path = Path(file.path)
    if path.suffix != SUFFIX:
        raise CheckpointError(
            f"{path} is not a {SUFFIX} file; other formats can run code when they are read"
        )
    try:
        size = path.stat().st_size if path.is_file() else None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise CheckpointError(f"{str(path)!r} cannot be read: {error}") from None
    if size is None:
        raise CheckpointError(f"there is no LoRA file {path}")
    if size > MAX_LORA_BYTES:
        raise LimitError(f"{path} has {size} bytes; a LoRA has at most {MAX_LORA_BYTES}")
    return Lora(sha256=file_sha256(path), weight=float(file.weight), name=file.name)


def add_loras(
    networks: Mapping[str, Any], holds: Folder, model: str, files: Sequence[LoraFile]
) -> tuple[Lora, ...]:
    """Add the layers of LoRA files to a model's networks; which ones act, by hash.

    networks: "unet" or "transformer" and text encoders, by their names in LoRA files. holds: of
    which family they are. model: its name, for messages. A file of weight 0 is checked and adds
    nothing. All files are checked before any network is changed.

    Raises:
        As `identified`; CheckpointError: a file is damaged, or holds what does not fit the model.
        MissingExtraError: peft is not installed.
    """
    loras = identified(files)
    if not files:
        return loras
    if holds.lora is None:
        raise CheckpointError(
            f"{files[0].path} cannot be drawn with: LoRAs of {model} have no keys that diffusers "
            "knows; load it into a pipeline of your own and use `share`"
        )
    try:
        import peft  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("peft", extra="lora", what="a LoRA file") from error
    by_hash = {file_sha256(file.path): _layers(Path(file.path), networks, holds, model)
               for file in files}  # fmt: skip
    for lora in loras:
        for part, layers in by_hash[lora.sha256].items():
            _inject(networks[part], f"lora_{lora.sha256[:16]}", layers, lora.weight)
    return loras


def _layers(
    path: Path, networks: Mapping[str, Any], holds: Folder, model: str
) -> dict[str, list[_LoraLayer]]:
    """The layers of a file, by the part that they belong to."""
    tensors, header = load_tensors(path), _header(path)
    denoiser = next(iter(networks))
    expected = _EXPECTED.format(model=model, denoiser=denoiser)
    for mark, kind in _OTHER_KINDS.items():
        if any(mark in key for key in tensors):
            raise CheckpointError(f"{path} holds {kind}, which is not drawn with; {expected}")
    if any(key in _EMBEDDINGS or key[:1] + key[-1:] == "<>" for key in tensors):
        raise CheckpointError(
            f"{path} is a textual inversion and no LoRA; teach it to a pipeline "
            f"(pipe.load_textual_inversion({path.name!r})), save that with save_pretrained, and "
            "load the folder"
        )
    if not any("lora" in key for key in tensors):
        shown = ", ".join(sorted(tensors)[:2]) or "none"
        raise CheckpointError(f"{path} is no LoRA: its keys are {shown}, ...; {expected}")
    broken = next((k for k, v in tensors.items() if not v.float().isfinite().all()), None)
    if broken is not None:
        raise CheckpointError(f"{path} holds numbers that are not finite, in {broken}")
    try:
        state, alphas = _converted(tensors, networks[denoiser], holds)
    except _FOREIGN as error:
        said = str(error).strip().splitlines() or [repr(error)]
        raise CheckpointError(
            f"{path} cannot be read as a LoRA of {model}: {said[0][:200]}; {expected}"
        ) from error
    parts = {key.partition(".")[0] for key in (*state, *alphas)}
    if strange := sorted(parts - networks.keys()):
        raise CheckpointError(
            f"{path} holds layers of {', '.join(strange[:3])}, which {model} lacks or cannot take "
            f"LoRAs in (it can in {', '.join(networks)}); {expected}"
        )
    found = {
        part: list(_of_part(path, part, networks[part], state, alphas, header))
        for part in networks
        if part in parts
    }
    _check_fit(path, found, networks, model)
    return found


def _converted(
    tensors: Mapping[str, torch.Tensor], denoiser: Any, holds: Folder
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """A file's tensors under diffusers' names, and alphas of layers."""
    from diffusers import loaders

    assert holds.lora is not None, "the family has been checked"

    options: dict[str, Any] = {}
    if holds.lora == "StableDiffusionXLLoraLoaderMixin":
        options = {"unet_config": denoiser.config}
    elif holds.lora == "FluxLoraLoaderMixin":
        options = {"return_alphas": True}
    found = getattr(loaders, holds.lora).lora_state_dict(dict(tensors), **options)
    state, alphas = found if isinstance(found, tuple) else (found, None)
    state = dict(state)
    alphas = dict(alphas or {})
    for key in [key for key in state if key.endswith(".alpha")]:
        alphas[key] = state.pop(key)
    return state, {key: float(alpha) for key, alpha in alphas.items()}


def _header(path: Path) -> dict[str, Any]:
    """peft's config as diffusers writes it into a file; empty if there is none."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(_METADATA)
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is damaged: its {_METADATA} is no JSON object")
    return found


def _of_part(
    path: Path,
    part: str,
    network: Any,
    state: Mapping[str, torch.Tensor],
    alphas: Mapping[str, float],
    header: Mapping[str, Any],
) -> Iterator[_LoraLayer]:
    origin = _origins(path, part, network, state)
    own = {key: state[place] for key, place in origin.items()}
    modules = sorted({key.partition(".lora_")[0] for key in own if ".lora_" in key})
    left = {key for key in alphas if key.startswith(f"{part}.")}
    for name in modules:
        A, B = (own.pop(f"{name}.lora_{which}.weight", None) for which in "AB")
        if A is None or B is None or A.ndim < 2 or B.ndim < 2 or A.shape[0] != B.shape[1]:
            raise CheckpointError(
                f"{path} is damaged: {part}.{name} lacks one of its two matrices, or their ranks "
                "differ"
            )
        bias, rank = own.pop(f"{name}.lora_B.bias", None), A.shape[0]
        # After diffusers' conversion an alpha has its layer's name, or that of its first matrix.
        keys = (f"{part}.{name}.alpha", f"{origin[f'{name}.lora_A.weight']}.alpha")
        said = [key for key in keys if key in alphas]
        left -= set(said)
        alpha = alphas[said[0]] if said else _configured(path, part, name, rank, header)
        yield _LoraLayer(name, A, B, bias, alpha / rank)
    if left:
        raise CheckpointError(f"{path} is damaged: {min(left)} stands without its layer")
    if own:
        raise CheckpointError(
            f"{path} holds {part}.{min(own)}, which is no part of a LoRA; get a file that holds "
            "nothing else"
        )


def _origins(
    path: Path, part: str, network: Any, state: Mapping[str, torch.Tensor]
) -> dict[str, str]:
    """The names that peft has for what a file holds of a part (<module>.lora_A.weight, and so on),
    with those that it stands under.
    """
    from diffusers.utils.state_dict_utils import (
        convert_state_dict_to_diffusers,
        convert_state_dict_to_peft,
        convert_unet_state_dict_to_peft,
    )

    # The conversions hand values through, so names can follow names.
    own: dict[str, Any] = {k.removeprefix(f"{part}."): k for k in state if k.startswith(f"{part}.")}
    whole = any("lora_A" in key for key in own)
    try:
        if not part.startswith("text_encoder"):
            return own if whole else dict(convert_unet_state_dict_to_peft(own))
        if not whole:
            own = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
    except _FOREIGN as error:
        raise CheckpointError(
            f"{path} has keys of {part} that diffusers does not know, such as {min(own)}: {error}"
        ) from error
    # Newer text encoders of transformers lack the level of this name.
    flat = not hasattr(network, "text_model")
    return {k.removeprefix("text_model.") if flat else k: v for k, v in own.items()}


def _configured(path: Path, part: str, name: str, rank: int, header: Mapping[str, Any]) -> float:
    """alpha of a layer as peft's config in the file's header says; its rank where none does."""
    said = {k.removeprefix(f"{part}."): v for k, v in header.items() if k.startswith(f"{part}.")}
    if not said:
        return float(rank)
    kinds = (
        "use_dora",
        "use_qalora",
        "modules_to_save",
        "trainable_token_indices",
        "layer_replication",
    )
    if wrong := [kind for kind in kinds if said.get(kind)]:
        raise CheckpointError(f"{path} was made with {wrong[0]}, which is not drawn with")
    alpha, patterns = said.get("lora_alpha", rank), said.get("alpha_pattern") or {}
    try:
        for pattern, own in patterns.items():
            # peft reads these as regular expressions; only plain names are told apart from them.
            plain = re.sub(r"^\^|\\(?=[.])", "", pattern)
            if not re.fullmatch(r"[\w.]{1,300}", plain):
                raise ValueError(pattern)
            if name == plain or (name.endswith(f".{plain}") and not pattern.startswith("^")):
                alpha = own
                break
        found = float(alpha)
    except (TypeError, ValueError, AttributeError):
        found = math.nan
    if not math.isfinite(found):
        raise CheckpointError(f"{path} is damaged: its {_METADATA} has no alpha for {part}.{name}")
    return found * math.sqrt(rank) if said.get("use_rslora") else found


def _check_fit(
    path: Path, found: Mapping[str, Sequence[_LoraLayer]], networks: Mapping[str, Any], model: str
) -> None:
    """Refuse layers that the model lacks or has in other shapes."""
    wrong = [
        told
        for part, layers in found.items()
        for layer in layers
        if (told := _misfit(part, layer, networks[part]))
    ]
    count = sum(map(len, found.values()))
    if wrong:
        raise CheckpointError(
            f"{path} is a LoRA of another model: {len(wrong)} of its {count} layers do not fit "
            f"{model}; {wrong[0]}"
        )


def _misfit(part: str, layer: _LoraLayer, network: Any) -> str | None:
    from torch import nn

    name = f"{part}.{layer.path}"
    try:
        module = network.get_submodule(layer.path)
    except AttributeError:
        return f"it has no layer {name}"
    module = getattr(module, "base_layer", module)
    if not isinstance(module, (nn.Linear, nn.Conv2d)):
        return f"{name} is a {type(module).__name__}, expected a linear map or a convolution"
    out, *into = module.weight.shape
    a, b = list(layer.A.shape[1:]), layer.B.shape[0]
    same = [side for side in a if side != 1] == [side for side in into if side != 1]
    if not same or b != out or math.prod(layer.B.shape[2:]) != 1:
        return (
            f"{name} maps {_sides(a)} to {b} in the file and {_sides(into)} to {out} in the model"
        )
    return None


def _sides(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _inject(network: Any, adapter: str, layers: Sequence[_LoraLayer], weight: float) -> None:
    """Put peft's layers around a network's own; its other weights stay as they are."""
    import torch
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
    from peft.tuners.lora import LoraLayer

    scales: dict[str, float] = {}
    state: dict[str, torch.Tensor] = {}
    of_rank: dict[int, list[str]] = {}
    for layer in layers:
        module = network.get_submodule(layer.path)
        own = getattr(module, "base_layer", module).weight
        rank = layer.A.shape[0]
        scales[layer.path] = layer.scale
        of_rank.setdefault(rank, []).append(re.escape(layer.path))
        ones = [1] * (own.ndim - 2)  # of a convolution's second matrix
        state[f"{layer.path}.lora_A.weight"] = layer.A.reshape(rank, *own.shape[1:])
        state[f"{layer.path}.lora_B.weight"] = layer.B.reshape(own.shape[0], rank, *ones)
        if layer.bias is not None:
            state[f"{layer.path}.lora_B.bias"] = layer.bias
    common = Counter(layer.A.shape[0] for layer in layers).most_common(1)[0][0]
    # One pattern for each rank: peft tries every pattern on every layer.
    patterns = {rank: f"^(?:{'|'.join(paths)})" for rank, paths in of_rank.items()}
    config = LoraConfig(
        r=common,
        lora_alpha=common,
        rank_pattern={pattern: r for r, pattern in patterns.items() if r != common},
        target_modules="|".join(f"(?:{pattern})" for pattern in patterns.values()),
        lora_bias=any(layer.bias is not None for layer in layers),
    )
    # Layers begin with random numbers from the global generator, which are replaced at once.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # of another file
        inject_adapter_in_model(config, network, adapter_name=adapter)
    left: Any = set_peft_model_state_dict(network, state, adapter_name=adapter)
    assert not left.unexpected_keys, f"layers without a place: {left.unexpected_keys[:3]}"
    for name, module in network.named_modules():
        if isinstance(module, LoraLayer):
            if adapter in module.lora_A:
                module.scaling[adapter] = weight * scales[name]
            module.set_adapter(list(module.lora_A))
    network.eval().requires_grad_(False)
