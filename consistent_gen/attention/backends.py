"""Which attention kernel computes, by diffusers' names.

Kernels that diffusers would fetch over the network (`*_hub`) are not on offer. Importing this
module loads no torch, so the names can stand in a command's help.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from consistent_gen.errors import InputError, MissingExtraError
from consistent_gen.registry import EXTRA_OF_PACKAGE, unknown_name

if TYPE_CHECKING:
    from torch import nn

# Name -> the package that it needs besides torch.
BACKENDS: dict[str, str | None] = {
    "native": None,
    "_native_math": None,
    "_native_efficient": None,
    "_native_flash": None,
    "_native_cudnn": None,
    "flex": None,
    "flash": "flash_attn",
    "sage": "sageattention",
    "xformers": "xformers",
}


def check_backend(name: str) -> None:
    """Accept the name of an attention backend.

    Raises:
        UnknownNameError: no such name. MissingExtraError: its package is not installed.
    """
    if name not in BACKENDS:
        raise unknown_name("attention backend", name, BACKENDS)
    package = BACKENDS[name]
    if package is not None and importlib.util.find_spec(package) is None:
        raise MissingExtraError(
            package, extra=EXTRA_OF_PACKAGE.get(package), what=f"attention backend {name!r}"
        )


def select_backend(model: nn.Module, name: str) -> None:
    """Compute the attention of `model` with the backend `name`, shared attention included.

    A UNet's layers without a policy know two kernels only, torch's own and xformers.

    Raises:
        As `check_backend`; InputError for a model family that is not supported, or where xformers
        does not compute on this machine or for this torch.
    """
    from diffusers.models.attention_dispatch import AttentionBackendName

    from consistent_gen.attention.layers import family_of

    check_backend(name)
    chosen = AttentionBackendName(name)
    network: Any = model
    if family_of(model) == "UNet2DConditionModel" and name == "xformers":
        try:  # tries the kernel on a GPU
            network.set_use_memory_efficient_attention_xformers(True)
        except (ImportError, NotImplementedError, RuntimeError, ValueError) as error:
            told = str(error).strip().splitlines()[0]
            message = f"xformers does not compute here: {told}; leave the attention backend out"
            raise InputError(message, source="attention backend") from None
    for module in model.modules():
        processor = getattr(module, "processor", None)
        if hasattr(module, "set_processor") and processor is not None:
            processor._attention_backend = chosen
