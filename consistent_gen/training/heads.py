"""Cross-entropies of many small classifiers that stand side by side in one tensor of logits.

One call per classifier, some fifty of them, costs a GPU more in launches than in arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100  # class index that the cross-entropy skips


def heads_cross_entropy(logits: Tensor, sizes: Sequence[int], wanted: Tensor) -> Tensor:
    """Cross-entropy of each head, shape ... f, 0 where `wanted` is IGNORE.

    Args:
        logits: ... k; the heads' classes one after the other.
        sizes: classes of each of f heads, k in all.
        wanted: ... f, class indices of any integer type.
    """
    assert logits.size(-1) == sum(sizes) and wanted.size(-1) == len(sizes), "one size per head"
    widest = max(sizes)
    place = torch.zeros(len(sizes), widest, dtype=torch.long)
    absent = torch.ones(len(sizes), widest, dtype=torch.bool)
    start = 0
    for head, size in enumerate(sizes):
        place[head, :size] = torch.arange(start, start + size)
        absent[head, :size] = False
        start += size
    spread = logits[..., place.to(logits.device)]  # ... f widest
    spread = spread.masked_fill(absent.to(logits.device), float("-inf"))
    flat = F.cross_entropy(
        spread.flatten(0, -2), wanted.flatten().long(), ignore_index=IGNORE, reduction="none"
    )
    return flat.view(wanted.shape)
