"""Muon for matrices, AdamW for the rest.

Muon (K. Jordan et al., 2024) replaces a matrix's momentum by its nearest semi-orthogonal matrix,
found by a quintic Newton-Schulz iteration. The update is scaled by 0.2 sqrt(max(rows, columns)),
which gives it AdamW's root mean square (Liu et al., "Muon is scalable for LLM training", arXiv
2502.16982, eq. 4), so that one learning rate serves both. A convolution counts as the matrix (out,
in * kh * kw).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from consistent_gen.errors import InputError
from consistent_gen.runtime import training_dtype

# Coefficients of Jordan's quintic: steep at zero, singular values end in about [0.7, 1.2].
A, B, C = 3.4445, -4.7750, 2.0315
# The first and last layers stand next to the data: at the matrices' rate, their noise is in the
# output.
REST_SCALE = 0.3

# From this many columns per row on, iterating on the Gram matrix is cheaper.
WIDE = 4


def orthogonalize(g: Tensor, steps: int = 4) -> Tensor:
    """Nearest semi-orthogonal matrices of a stack `g` (k m n), in the fast format.

    The iteration multiplies x from the left by polynomials of s = x x' only, and these commute. So
    for wide matrices it runs on s (k m m) alone, and x is touched twice in all. s is squared in
    float32: in bfloat16 the small singular values would be lost.
    """
    if g.size(1) > g.size(2):
        return orthogonalize(g.transpose(1, 2), steps).transpose(1, 2)
    x: Tensor = g / (g.norm(dim=(1, 2), keepdim=True) + 1e-7)
    if x.size(2) >= WIDE * x.size(1):
        left = _left_factor(x @ x.transpose(1, 2), steps)
        return left.to(training_dtype(x.device)) @ x.to(training_dtype(x.device))
    x = x.to(training_dtype(x.device))
    for _ in range(steps):
        s = x @ x.transpose(1, 2)
        x = A * x + (B * s + C * s @ s) @ x
    return x


def _left_factor(s: Tensor, steps: int) -> Tensor:
    """The product of the polynomials that `steps` iterations multiply x by, from s = x x'."""
    identity = torch.eye(s.size(1), device=s.device).expand_as(s)
    product = identity
    for step in range(steps):
        p = A * identity + B * s + C * s @ s
        product = p if step == 0 else p @ product
        if step < steps - 1:
            s = p @ s @ p
    return product


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised. Parameters of equal shape are updated as one stack.

    Args:
        params: matrices and convolution kernels.
        lr: learning rate, on AdamW's scale.
        momentum: Nesterov momentum in [0, 1).
        weight_decay: decoupled weight decay, multiplied by `lr`.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(
            list(params), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            stacks: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    stacks[(p.size(0), p.numel() // p.size(0))].append(p)
            for (m, n), params in stacks.items():
                self._step_stack(params, m, n, group)

    def _step_stack(
        self, params: list[nn.Parameter], m: int, n: int, group: dict[str, float]
    ) -> None:
        moving = []
        for p in params:
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            assert p.grad is not None, "stacks hold parameters with a gradient"
            gradient = p.grad.to(p.dtype)
            state["momentum"].lerp_(gradient, 1.0 - group["momentum"])
            moving.append(gradient.lerp(state["momentum"], group["momentum"]).reshape(m, n))
        updates = orthogonalize(torch.stack(moving))
        scale = 0.2 * max(m, n) ** 0.5 * group["lr"]
        for p, update in zip(params, updates, strict=True):
            p.mul_(1.0 - group["lr"] * group["weight_decay"])
            p.add_(update.reshape(p.shape).to(p.dtype), alpha=-scale)


def learn_only(module: nn.Module, pattern: str, *, beside: Iterable[nn.Module] = ()) -> None:
    """Let nothing learn but the parameters of `module` whose names have `pattern` in them.

    beside: modules of which nothing learns.

    Raises:
        InputError: no parameter has.
    """
    for other in (module, *beside):
        other.requires_grad_(False)
    found = [p for name, p in module.named_parameters() if re.search(pattern, name)]
    if not found:
        raise InputError(f"learn={pattern!r} matches no parameter of the model; try attn1")
    for parameter in found:
        parameter.requires_grad_()


def split_parameters(
    modules: Iterable[nn.Module], *, exclude: Iterable[nn.Parameter] = ()
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What learns of `modules`: hidden matrices, and the rest (vectors, embeddings, `exclude`)."""
    ends = {id(p) for p in exclude}
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for module in modules:
        embeddings = {id(e.weight) for e in module.modules() if isinstance(e, nn.Embedding)}
        for p in module.parameters():
            if not p.requires_grad:
                continue
            hidden = p.ndim >= 2 and id(p) not in ends and id(p) not in embeddings
            (matrices if hidden else rest).append(p)
    return matrices, rest


def build_optimizers(
    matrices: Iterable[nn.Parameter], rest: Iterable[nn.Parameter], lr: float
) -> list[torch.optim.Optimizer]:
    """Muon for `matrices` at `lr`, AdamW for `rest` at `REST_SCALE * lr`."""
    slow = {"params": list(rest), "scale": REST_SCALE}
    return [
        Muon(matrices, lr=lr),
        torch.optim.AdamW([slow], lr=REST_SCALE * lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
