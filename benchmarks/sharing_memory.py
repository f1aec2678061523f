"""What each way of keeping anchors takes on networks of the published size, and what it costs.

Part of `benchmarks.sharing_cost` (`--only modes`). Bytes and costs are by formula, in half
precision and, where the model has it, with guidance; that the formula is what a bank holds is
counted on shapes alone, at fewer steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.sharing_flop import Shapes, bank_bytes
from consistent_gen.attention.budget import SPARE, KeepingPlan, Sampling, choose, plan_for
from consistent_gen.attention.keeping import AUTO, MODES, Where
from consistent_gen.attention.layers import find_sites
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.settings import Recipe

HALF = 2  # bytes of a number
CARD_BYTES, HOST_BYTES, DISK_BYTES = 24_000_000_000, 32_000_000_000, 100_000_000_000
# Weights on the card beside the network: text encoders and autoencoder; T5 waits on the host.
BESIDE = {
    "Stable Diffusion 1.5, 512 px": 207_000_000,
    "Stable Diffusion XL, 1024 px": 902_000_000,
    "Stable Diffusion 3.5 medium, 1024 px": 903_000_000,
    "FLUX.1-dev, 1024 px": 207_000_000,
}
# Bytes of a weight of the network; FLUX.1-dev has 23.8 GB in half precision.
WEIGHT_BYTES = {"FLUX.1-dev, 1024 px": 1}
SHOWN = ("kv", "hidden", "hidden-8bit", "hidden-host", "replay")
# Anchors that read each other look up places among rotary positions, and shapes have no numbers.
ROTARY = ("FLUX.1-dev, 1024 px",)
# The formula is held against a count in one mode each: they differ in what is kept only.
COUNTED = ("kv", "hidden", "hidden-8bit")


def drawing_of(shapes: Shapes, steps: int) -> Sampling:
    """How a pipeline calls the network: with guidance if it has it, in half precision."""
    branches = len(shapes.branches)
    return Sampling(shapes.latent, steps, branches, HALF, shapes.latent_numbers * HALF)


def room_on_card(shapes: Shapes, name: str) -> int:
    """What 24 GB leave beside the weights and for drawing."""
    own = sum(weight.numel() for weight in shapes.network.parameters())
    weights = own * WEIGHT_BYTES.get(name, HALF) + BESIDE[name] * HALF
    return int(CARD_BYTES * (1.0 - SPARE)) - weights


def plan_on_card(shapes: Shapes, name: str, recipe: Recipe, steps: int) -> KeepingPlan:
    """What "auto" chooses on a card of 24 GB in a machine with 32 GB of memory to spare."""
    room: dict[Where, int] = {
        "device": room_on_card(shapes, name), "host": HOST_BYTES, "disk": DISK_BYTES,
    }  # fmt: skip
    sites = find_sites(shapes.network).values()
    return choose(
        AUTO, SharedRun(recipe), sites, drawing_of(shapes, steps), lambda where: room[where],
        on_processor=False,
    )  # fmt: skip


def measure(
    recipes: dict[str, Recipe], steps: int, count_steps: int, names: Sequence[str] = tuple(BESIDE)
) -> dict[str, Any]:
    """Per network and method: what every mode takes and costs, and what "auto" chooses."""
    found: dict[str, Any] = {}
    for name in names:
        shapes = Shapes.of(name)
        sites = list(find_sites(shapes.network).values())
        rows: dict[str, Any] = {}
        for method, recipe in recipes.items():
            run = SharedRun(recipe)
            modes = {}
            for mode in SHOWN:
                plan = plan_for(
                    MODES[mode], run, sites, drawing_of(shapes, steps), lambda _: CARD_BYTES
                )
                modes[mode] = {
                    "bytes": plan.bytes, "moved_bytes": plan.moved, "tflop": plan.flop / 1e12,
                    "extra_calls": plan.calls, "steps": steps,
                }  # fmt: skip
                if mode in COUNTED and count_steps and countable(name, recipe):
                    predicted, counted = held_to_formula(shapes, recipe, count_steps, mode)
                    modes[mode] |= {"counted_over_formula": counted / predicted}
            chosen = plan_on_card(shapes, name, recipe, steps)
            rows[method] = {"modes": modes, "auto_24_gb": chosen.keeping.name}
        found[name] = rows
    return found


def countable(name: str, recipe: Recipe) -> bool:
    """Whether a character's bytes can be counted on shapes alone."""
    return name not in ROTARY or recipe.anchors == 1


def held_to_formula(shapes: Shapes, recipe: Recipe, steps: int, mode: str) -> tuple[int, int]:
    """Bytes of one character by formula, and counted on shapes (which are of float32)."""
    predicted = SharedRun(recipe).most_bytes(
        find_sites(shapes.network).values(), shapes.latent, steps=steps,
        guided=steps if len(shapes.branches) == 2 else 0,
        element_bytes=4, keeping=MODES[mode],
    )  # fmt: skip
    return predicted, bank_bytes(shapes, recipe, steps, MODES[mode])
