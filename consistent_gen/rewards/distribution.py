"""How far drawings are from real pictures as a set: the Frechet distance of feature statistics.

Heusel et al., "GANs trained by a two time-scale update rule", arXiv 1706.08500, eq. 6, with the
features of the reader in the place of Inception's.
"""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Distance of two feature sets (n d and m d): |mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    It is biased upwards for small sets; compare only values of equal n and m, and quote the value
    of two sets of real pictures beside it.
    """
    if len(a) < 2 or len(b) < 2:
        raise ValueError(f"{len(a)} and {len(b)} feature vectors given; expected at least 2 each")
    a, b = a.double(), b.double()
    mean = (a.mean(0) - b.mean(0)).square().sum()
    ca, cb = a.T.cov(), b.T.cov()
    # tr (C1 C2)^(1/2) from the symmetric product C1^(1/2) C2 C1^(1/2), whose roots are real.
    values, vectors = torch.linalg.eigh(ca)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cb @ root).clamp(min=0).sqrt().sum()
    return float(mean + ca.trace() + cb.trace() - 2.0 * cross)
