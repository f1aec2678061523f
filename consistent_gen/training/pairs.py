"""Two pictures of the same characters in a batch, of which one reads the other's keys.

A large model, trained on everything, carries a character over when a frame may read another frame's
keys; a small one has to be shown what such keys are good for. So some steps of the denoiser's
training take pairs of pictures (`StoryWorld(pairs=True)`) whose captions leave things open, and
let the first picture's self-attention read the keys of the second one's subjects, in the layers in
which the methods of `consistent_gen.methods` share them. What the caption does not say is then
found there. The second picture has less noise, as an anchor that was drawn ahead has (see
`settings.Topology.lead`); it reads nothing, as the first anchor reads nothing. Pictures alone stay
in training, so that nothing is lost without sharing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.attention.layers import Site, find_sites, project, unproject
from consistent_gen.attention.settings import Window


def swapped(x: Tensor) -> Tensor:
    """Every row's partner in its place: rows 0 and 1, 2 and 3, ... change places."""
    turned: Tensor = x.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    return turned


class PairedKeys:
    """What the layers of one model read of each other in the current step: nothing, or masks."""

    def __init__(self, unet: nn.Module, window: Window | None = None) -> None:
        """Put processors into the self-attention layers of `window` (that of the methods)."""
        self.masks: Mapping[int, Tensor] | None = None
        window = Window() if window is None else window
        for name, site in find_sites(unet).items():
            if site.kind == "self" and window.covers(site):
                attn: Any = unet.get_submodule(name)
                attn.set_processor(_Processor(self, site))

    def share(self, labels: Tensor, generator: torch.Generator, dropout: float) -> None:
        """From now on the first of two reads the subjects of the second.

        labels: b s s, positive on subjects, on the generator's device. dropout: share of the
        subjects' tokens left out.
        """
        figure = (labels > 0).float().unsqueeze(1)
        self.masks = {}
        side = labels.shape[-1] // 2
        while side >= 1:
            on = F.adaptive_max_pool2d(figure, side).flatten(1) > 0  # b n
            kept = torch.rand(on.shape, generator=generator, device=on.device) >= dropout
            read = swapped(on & kept)
            read[1::2] = False
            self.masks[side * side] = read
            side //= 2

    def alone(self) -> None:
        """From now on every picture reads itself."""
        self.masks = None


class _Processor:
    """Self-attention over a row's own keys and those keys of its partner that it may read."""

    def __init__(self, pairs: PairedKeys, site: Site) -> None:
        self.pairs, self.site = pairs, site

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        qkv = project(attn, hidden_states, None, self.site, None)[0]
        q, k, v = (x.transpose(1, 2) for x in qkv)  # b h n d
        mask = None
        if self.pairs.masks is not None:
            read = self.pairs.masks[q.shape[2]]
            mask = torch.cat([torch.ones_like(read), read], 1)[:, None, None]  # b 1 1 2n
            k, v = (torch.cat([x, swapped(x)], 2) for x in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return unproject(attn, out.transpose(1, 2), None, 0, self.site)[0]
