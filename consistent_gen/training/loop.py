"""What every recipe shares: settings, low-precision replicas, averaged weights, and `Training`,
which counts images, updates, logs, and keeps a checkpoint.

A recipe's loop stays in the recipe. All that is random in a step comes from generators that are
seeded by the config's seed, the images seen and a purpose (`Training.generator`), and schedules
count images. So a run that was stopped needs no random state to go on as if it had not been.
"""

from __future__ import annotations

import copy
import json
import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from consistent_gen.checkpoints import load_tensors, read_json, save_tensors, write_json
from consistent_gen.runtime import frame_seed, generator
from consistent_gen.training import parallel


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """Settings that every recipe has; lengths in images unless they say otherwise."""

    run: Path  # the folder of log and checkpoint
    images: int  # to learn from in all, over resumes
    within_s: float = 0.0  # instead: as many as fit into this time, by the speed of its first tenth
    batch: int
    lr: float
    warmup_images: int
    decay_share: float  # of `images`, at their end, in which the learning rate falls to zero
    halflife_images: float  # of the averaged weights
    every_s: float = 60.0  # between lines of the log, each with a checkpoint
    device: str = ""  # cpu or cuda; without it a GPU if there is one
    threads: int = 2
    seed: int = 0


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


def learning_rate(config: RecipeConfig, seen: int, images: float) -> float:
    """Warm-up, plateau, linear decay over the last `decay_share` of `images`."""
    if seen < config.warmup_images:
        return config.lr * (seen + 1) / config.warmup_images
    start = images * (1.0 - config.decay_share)
    if seen <= start:
        return config.lr
    return config.lr * max(0.0, (images - seen) / max(images - start, 1e-9))


def set_learning_rate(optimizers: list[torch.optim.Optimizer], lr: float) -> None:
    """Give all parameter groups the rate `lr`, times their own "scale" if they have one."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("scale", 1.0)


class TickLog:
    """One JSON line per tick: running means of what was added since the last, and the speed.

    Args:
        path: of the log. What it says of images beyond `seen` is dropped: they will be seen again.
        every_s: between ticks.
        seen: images that the checkpoint has seen.
    """

    def __init__(self, path: Path, every_s: float, seen: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.every_s = path, every_s
        if path.exists():
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(x for x in lines if json.loads(x)["seen"] <= seen))
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

    def write(self, **state: Any) -> None:
        """Write and print the line, `state` first, if there is anything to tell."""
        if self._count == 0:
            return
        seconds = time.monotonic() - self._started
        line = {**state, "images": self._images, "images_per_s": round(self._images / seconds, 1)}
        line |= {name: round(float(total) / self._count, 6) for name, total in self._sums.items()}
        with self.path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(line, flush=True)
        self._sums, self._count, self._images = {}, 0, 0
        self._started = time.monotonic()


class Training:
    """What a checkpoint holds: modules that learn, their averages, optimizers, images seen.

    It goes on from the checkpoint in the run's folder if there is one.

    Args:
        config: the recipe's settings.
        modules: by the names that they have in the checkpoint.
        optimizers: of this process.
        owned: with several processes, the parameters that each one's optimizers move.
        rank: of this process.

    Attributes:
        facts: whatever else a recipe wants to find again in its checkpoint, as JSON.
    """

    def __init__(
        self,
        config: RecipeConfig,
        modules: Mapping[str, nn.Module],
        optimizers: list[torch.optim.Optimizer],
        *,
        owned: Sequence[Sequence[nn.Parameter]] = (),
        rank: int = 0,
    ) -> None:
        self.config, self.modules, self.optimizers = config, dict(modules), optimizers
        self.owned, self.rank = owned, rank
        self.averages = {n: AveragedWeights(m, config.halflife_images) for n, m in modules.items()}
        self.batch = config.batch * parallel.world_size()
        self.seen = 0
        self.images = math.inf if config.within_s else config.images
        self.facts: dict[str, Any] = {}
        self.folder = config.run / "checkpoint"
        self._resume()
        self._started = time.monotonic()
        self._began: tuple[float, int] | None = None  # when steps count, and what was seen then

    def steps(self) -> Iterator[int]:
        """Images seen before each step that is left. At the end a checkpoint is written.

        Raises:
            SystemExit: SIGTERM came; a checkpoint was written.
        """
        asked: list[int] = []
        before = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
        self.log = TickLog(self.config.run / "log.jsonl", self.config.every_s, self.seen)
        try:
            while self.seen < self.images:
                yield self.seen
                if math.isinf(self.images):
                    self._settle()
                if parallel.anywhere(bool(asked)):
                    self.save()
                    raise SystemExit(128 + signal.SIGTERM)
            self.save()
        finally:
            signal.signal(signal.SIGTERM, before)

    def generator(self, purpose: str, place: torch.device | None = None) -> torch.Generator:
        """What is random in the coming step, for one `purpose`; on the CPU unless `place` is
        another device.
        """
        found = generator(frame_seed(self.config.seed, self.seen, self.rank), purpose)
        if place is None or place.type == "cpu":
            return found
        return torch.Generator(place).manual_seed(found.initial_seed())

    def update(self, **figures: float | Tensor) -> None:
        """One update from the gradients, each module's clipped to norm 1; logs `figures`."""
        modules = list(self.modules.values())
        parallel.average_gradients(modules)
        for module in modules:
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        set_learning_rate(
            self.optimizers, learning_rate(self.config, self.seen, float(self.images))
        )
        for optimizer in self.optimizers:
            optimizer.step()
        for module in modules:
            module.zero_grad()
        parallel.hand_round(self.owned)
        self.seen += self.batch
        if self.rank == 0:
            for name, module in self.modules.items():
                self.averages[name].update(module, self.batch, self.seen)
        self.log.add(self.batch, **figures)

    def due(self) -> bool:
        """Whether it is time to save, in all processes."""
        return parallel.anywhere(self.rank == 0 and self.log.due())

    def passed(self, images: int) -> bool:
        """Whether the last step went past a multiple of `images`."""
        return self.seen // images != (self.seen - self.batch) // images

    def averaged(self, name: str) -> Any:
        """A copy of module `name` with the averaged weights, for use."""
        copied = copy.deepcopy(self.modules[name]).requires_grad_(False)
        self.averages[name].copy_to(copied)
        return copied.eval()

    def save(self, **state: Any) -> None:
        """Write a line of the log, with `state`, and a checkpoint.

        Files carry the number of images that were seen and `state.json`, written last, says which
        ones belong together; the ones before stay until the next time, since somebody may read
        them. Optimizer states lie in one file per process.
        """
        own = dict(optimizer_tensors(self.optimizers))
        save_tensors(self.folder / f"optimizer-{self.rank}-{self.seen}.safetensors", own)
        parallel.wait_for_all()
        if self.rank == 0:
            self.log.write(seen=self.seen, lr=self.optimizers[0].param_groups[0]["lr"], **state)
            tensors: dict[str, Tensor] = {}
            for name, module in self.modules.items():
                tensors |= module_tensors(name, module, self.averages[name])
            save_tensors(self.folder / f"tensors-{self.seen}.safetensors", tensors)
            before = _state(self.folder) or {"seen_images": self.seen}
            content = {
                "seen_images": self.seen,
                "images": None if math.isinf(self.images) else self.images,
                "processes": parallel.world_size(),
                "facts": self.facts,
            }
            write_json(self.folder / "state.json", content)
            kept = tuple(f"-{n}.safetensors" for n in (self.seen, before["seen_images"]))
            for path in self.folder.glob("*.safetensors"):
                if not path.name.endswith(kept):
                    path.unlink()
        parallel.wait_for_all()

    def _resume(self) -> None:
        saved = load_run(self.folder, self.rank)
        if saved is None:
            return
        tensors, state = saved
        for name, module in self.modules.items():
            if any(key.startswith(f"{name}.") for key in tensors):  # a probe may be a new one
                restore_module(tensors, name, module, self.averages[name])
        if state.get("processes", 1) == parallel.world_size():  # momentum is owned by process
            restore_optimizers(self.optimizers, tensors)
        self.seen, self.facts = state["seen_images"], state.get("facts", {})
        if self.config.within_s and state.get("images") is not None:
            self.images = state["images"]

    def _settle(self) -> None:
        """Fix the number of images by the speed so far, when a tenth of the time has passed.

        The first steps are not counted: memory is allocated and kernels are chosen there.
        """
        now = time.monotonic()
        if self._began is None and self.seen > 2 * self.batch:
            self._began = now, self.seen
        elapsed, total = now - self._started, self.config.within_s
        done = self._began is not None and self.seen - self._began[1] >= 4 * self.batch
        if parallel.anywhere(self.rank == 0 and done and elapsed >= total / 10):
            assert self._began is not None, "every process has made the same steps"
            speed = (self.seen - self._began[1]) / max(now - self._began[0], 1e-3)
            more = max(0.0, total - elapsed) * speed
            steps = parallel.agree([math.ceil(more / self.batch)])[0]
            self.images = self.seen + steps * self.batch


def load_run(folder: Path, rank: int = 0) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and state of the checkpoint in `folder`, or None when there is none.

    Optimizer states are those of process `rank`, if that had any. Checkpoints of earlier versions
    hold everything in one file.
    """
    state = _state(folder)
    if state is None:
        return None
    seen = state["seen_images"]
    if not (folder / f"tensors-{seen}.safetensors").exists():
        return load_tensors(folder / "tensors.safetensors"), state
    tensors = load_tensors(folder / f"tensors-{seen}.safetensors")
    own = folder / f"optimizer-{rank}-{seen}.safetensors"
    return tensors | (load_tensors(own) if own.exists() else {}), state


def _state(folder: Path) -> dict[str, Any] | None:
    path = folder / "state.json"
    return read_json(path) if path.exists() else None


def module_tensors(name: str, module: nn.Module, average: AveragedWeights) -> dict[str, Tensor]:
    """A module's weights and their average under names that `restore_module` finds again."""
    tensors = {f"{name}.{k}": v for k, v in module.state_dict().items()}
    return tensors | {f"average.{name}.{k}": v for k, v in average.shadow.items()}


@torch.no_grad()
def restore_module(
    tensors: Mapping[str, Tensor], name: str, module: nn.Module, average: AveragedWeights
) -> None:
    """Undo `module_tensors`."""
    prefix = f"{name}."
    module.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )
    for key, shadow in average.shadow.items():
        shadow.copy_(tensors[f"average.{name}.{key}"])


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
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for key, value in tensors.items():
            head, number, index, name = (*key.split(".", 3), "", "", "")[:4]
            if head != "optimizer" or number != str(o):
                continue
            parameter = parameters[int(index)]
            if value.shape == parameter.shape:
                # In the memory format that it had: another order of adding rounds otherwise.
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
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
