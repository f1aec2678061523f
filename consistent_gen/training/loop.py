"""What every recipe shares: low-precision replicas, averaged weights, ticks, resumable checkpoints.

Functions and two small classes, no trainer: a recipe's loop stays in the recipe.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from consistent_gen.checkpoints import load_tensors, read_json, save_tensors, write_json


class Replica:
    """A bfloat16 copy of a float32 module that computes; the float32 one holds the weights.

    Casting once per step is cheaper on a CPU than autocast's casting in every layer, and small
    updates are not lost, since they are added in float32. `dtype=torch.float32` trains the module
    itself.
    """

    def __init__(self, master: nn.Module, dtype: torch.dtype) -> None:
        self.master = master
        self.compute = master if dtype == torch.float32 else copy.deepcopy(master).to(dtype)

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the master's weights into the computing copy."""
        if self.compute is not self.master:
            torch._foreach_copy_(list(self.compute.parameters()), list(self.master.parameters()))

    @torch.no_grad()
    def collect_gradients(self) -> None:
        """Move the gradients to the master, as float32."""
        if self.compute is self.master:
            return
        for fast, slow in zip(self.compute.parameters(), self.master.parameters(), strict=True):
            slow.grad = None if fast.grad is None else fast.grad.float()
            fast.grad = None


class AveragedWeights:
    """Exponential moving average of a module's parameters; the half-life is counted in images."""

    def __init__(self, module: nn.Module, halflife_images: float) -> None:
        self.halflife_images = halflife_images
        self.shadow = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, batch: int, seen_images: int) -> None:
        """Move towards `module`; early on the average is short, so that it forgets the start."""
        halflife = min(self.halflife_images, 0.05 * seen_images + 1.0)
        keep = 0.5 ** (batch / halflife)
        moving = [p.detach() for _, p in module.named_parameters()]
        shadow = [self.shadow[name] for name, _ in module.named_parameters()]
        torch._foreach_lerp_(shadow, moving, 1.0 - keep)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Write the average into `module`."""
        for name, p in module.named_parameters():
            p.copy_(self.shadow[name])


def learning_rate(
    lr: float, seen_s: float, total_s: float, warmup_s: float, decay_share: float
) -> float:
    """Warm-up, plateau, linear decay over the last `decay_share` of the time budget."""
    if seen_s < warmup_s:
        return lr * (seen_s + 1e-3) / warmup_s
    start = total_s * (1.0 - decay_share)
    if seen_s <= start:
        return lr
    return lr * max(0.0, (total_s - seen_s) / max(total_s - start, 1e-9))


def set_learning_rate(optimizers: list[torch.optim.Optimizer], lr: float) -> None:
    """Give all parameter groups the rate `lr`, times their own "scale" if they have one."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("scale", 1.0)


def descend(
    modules: Iterable[nn.Module], optimizers: list[torch.optim.Optimizer], lr: float
) -> None:
    """One update at the rate `lr` from the gradients of `modules`, each clipped to norm 1."""
    modules = list(modules)
    for module in modules:
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    set_learning_rate(optimizers, lr)
    for optimizer in optimizers:
        optimizer.step()
    for module in modules:
        module.zero_grad()


class TickLog:
    """One JSON line per tick: running means of what was added since the last, and the speed."""

    def __init__(self, path: Path, every_s: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.every_s = path, every_s
        self._sums: dict[str, float | Tensor] = {}
        self._count = 0
        self._images = 0
        self._started = time.monotonic()

    def add(self, images: int, **values: float | Tensor) -> None:
        """Record one step. Tensors are read when the line is written: a GPU need not wait."""
        self._images += images
        self._count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def due(self) -> bool:
        """Whether the tick is over."""
        return time.monotonic() - self._started >= self.every_s and self._count > 0

    def write(self, **state: Any) -> dict[str, Any]:
        """Write and return the line; `state` is added to it."""
        seconds = time.monotonic() - self._started
        line = {**state, "images_per_s": round(self._images / seconds, 1)}
        line |= {name: round(float(total) / self._count, 6) for name, total in self._sums.items()}
        with self.path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        self._sums, self._count, self._images = {}, 0, 0
        self._started = time.monotonic()
        return line


def save_run(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint that `load_run` resumes from; each file appears by rename."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / "tensors.safetensors", tensors)
    write_json(folder / "state.json", dict(state))


def load_run(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The checkpoint in `folder`, or None when there is none."""
    if not (folder / "state.json").exists():
        return None
    return load_tensors(folder / "tensors.safetensors"), read_json(folder / "state.json")


def module_tensors(name: str, module: nn.Module, average: AveragedWeights) -> dict[str, Tensor]:
    """A module's weights and their average under names that `restore_module` finds again."""
    tensors = {f"{name}.{k}": v for k, v in module.state_dict().items()}
    return tensors | {f"average.{name}.{k}": v for k, v in average.shadow.items()}


def restore_module(
    tensors: Mapping[str, Tensor], name: str, module: nn.Module, average: AveragedWeights
) -> None:
    """Undo `module_tensors`."""

    def under(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    module.load_state_dict(under(f"{name}."))
    kept = under(f"average.{name}.")
    average.shadow = {k: kept[k].to(p.device) for k, p in module.named_parameters()}


def optimizer_tensors(optimizers: list[torch.optim.Optimizer]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the optimizers' states under a stable name."""
    for o, optimizer in enumerate(optimizers):
        for i, entry in optimizer.state_dict()["state"].items():
            for name, value in entry.items():
                yield f"optimizer.{o}.{i}.{name}", torch.as_tensor(value)


def restore_optimizers(
    optimizers: list[torch.optim.Optimizer], tensors: Mapping[str, Tensor]
) -> None:
    """Undo `optimizer_tensors`."""
    for o, optimizer in enumerate(optimizers):
        content = optimizer.state_dict()
        for key, value in tensors.items():
            head, number, index, name = (*key.split(".", 3), "", "", "")[:4]
            if head == "optimizer" and number == str(o):
                content["state"].setdefault(int(index), {})[name] = value
        optimizer.load_state_dict(content)


def load_grown(module: torch.nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load weights of a model whose ends may have had fewer channels; new ones start small."""
    state = module.state_dict()
    for name, old in tensors.items():
        if old.shape != state[name].shape:
            state[name].mul_(0.3)
        state[name][tuple(slice(n) for n in old.shape)] = old
    module.load_state_dict(state)
