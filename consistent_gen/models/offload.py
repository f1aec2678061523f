"""Models that are larger than a GPU's memory: their weights wait on the CPU, by accelerate's hooks.

"model": the network that is called is on the device, whole, and all others are on the CPU; it costs
a copy whenever another one is called. "sequential": of what denoises and of text encoders a layer
at a time is on the device; it needs the least memory, and every call copies every weight. The
autoencoder and a second stage are small and called by more names than `forward`; they wait whole in
both modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import cpu_offload
from accelerate.hooks import CpuOffload, add_hook_to_module


class OneOnDevice(CpuOffload):
    """Brings a network to the device when it is called, after all others have left it.

    accelerate's own hook knows one predecessor; frames of a story and their prompts come in any
    order, so here each network makes room for each.
    """

    def __init__(self, device: torch.device, others: Sequence[Any]) -> None:
        super().__init__(execution_device=device)
        self.others = others

    def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """See `accelerate.hooks.ModelHook`."""
        for other in self.others:
            if other is not module and next(other.parameters()).device.type != "cpu":
                other.to("cpu")
        found: tuple[Any, Any] = super().pre_forward(module, *args, **kwargs)
        return found


def offload_networks(
    how: str, device: torch.device, layered: Sequence[Any], whole: Sequence[Any]
) -> None:
    """Let networks wait on the CPU, where they must be, and act on `device`.

    how: one of `models.OFFLOADS`. layered: what denoises and text encoders. whole: autoencoder and
    second stage.
    """
    if device.type == "cuda" and device.index is None:
        # accelerate compares devices, and cuda is not cuda:0 to it.
        device = torch.device("cuda", torch.cuda.current_device())
    waiting = list(whole)
    if how == "model":
        waiting += layered
    else:
        for network in layered:
            # Numbers that a network holds itself, outside of its layers, come with their buffers.
            cpu_offload(network, device, offload_buffers=len(network._parameters) > 0)
    for network in waiting:
        add_hook_to_module(network, OneOnDevice(device, waiting), append=True)


def on_device(network: Any) -> Any:
    """`network`, brought to its device if it waits elsewhere, for calls other than `forward`."""
    hook = getattr(network, "_hf_hook", None)
    if isinstance(hook, OneOnDevice):
        hook.pre_forward(network)
    return network
