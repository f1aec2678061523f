"""Put what the recipes made into `weights/` and write its manifest.

`python -m consistent_gen.training.publish` takes every finished run it finds; models whose run is
absent keep their weights. Scores come from the runs and from `benchmarks/results/`. A model may be
a part of another one's folder, as the second stage is. Hashes are stated on the cards.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consistent_gen.adapters.story_world import DENOISER
from consistent_gen.checkpoints import (
    MANIFEST,
    ManifestEntry,
    atomic_dir,
    atomic_file,
    describe,
    file_sha256,
    model_files,
    read_json,
    read_manifest,
    write_manifest,
)
from consistent_gen.errors import InputError
from consistent_gen.training.refiner import denoiser_inputs
from consistent_gen.training.shards import MADE_OF

LICENCE = "Apache-2.0"
CARD = "README.md"
RECOMMENDED = "recommended.json"
HASHES = "## Hashes"


@dataclass(frozen=True)
class Product:
    """One model of the weights folder: where its run leaves it, its scores, and what made it."""

    name: str
    made: Path
    scores: Path
    command: str


PRODUCTS = (
    Product(
        "storyworld",
        Path("runs/story_model/storyworld"),
        Path("benchmarks/results/model_card.json"),
        "consistent-gen train autoencoder; consistent-gen train semantics; "
        "consistent-gen train story_model",
    ),
    Product(
        "storyworld/refiner",
        Path("runs/refiner/refiner"),
        Path("runs/refiner/scores.json"),
        "consistent-gen train refiner",
    ),
    Product(
        "adapter",
        Path("runs/adapter/weights"),
        Path("benchmarks/results/identity.json"),
        "python -m consistent_gen.training.adapter_rows; consistent-gen train adapter",
    ),
    Product(
        "reader",
        Path("runs/reader/weights"),
        Path("runs/reader/scores.json"),
        "consistent-gen train reader",
    ),
    Product(
        "judge",
        Path("runs/judge/weights"),
        Path("runs/judge/scores.json"),
        "consistent-gen train reader --set judge=true run=runs/judge seed=1",
    ),
    Product(
        "pair_reward",
        Path("runs/pair_reward/weights"),
        Path("runs/pair_reward/scores.json"),
        "consistent-gen train reader --set teacher=weights/reader --set run=runs/pair_eye "
        "--set images=20000 --set lr=8e-4; consistent-gen train pair_reward",
    ),
    Product(
        "pair_scorer",
        Path("runs/pair_scorer/weights"),
        Path("runs/pair_scorer/scores.json"),
        "consistent-gen train pair_scorer --set written=benchmarks/persona_pairs/open.tsv "
        "--set closed=benchmarks/persona_pairs/closed.tsv",
    ),
)


def publish(root: Path, products: tuple[Product, ...] = PRODUCTS) -> dict[str, ManifestEntry]:
    """Copy finished runs to `root` and rewrite its manifest; returns the entries.

    Model cards (`README.md`) that lie in `root` are kept, and so are parts of a model that have no
    finished run.

    Raises:
        InputError: a second stage or an adapter would stand beside another denoiser than it learnt
            from.
    """
    known = read_manifest(root) if (root / MANIFEST).exists() else {}
    _check_second_stage(root, products)
    _check_adapter(root, products)
    for product in products:
        if product.made.is_dir():
            inside = [p.name for p in products if p.name.startswith(f"{product.name}/")]
            _replace(product.made, root, product.name, inside)
    entries: dict[str, ManifestEntry] = {}
    for product in products:
        if not (root / product.name).is_dir():
            continue
        old = known.get(product.name)
        scores: Any = old.scores if old is not None else {}
        if product.scores.is_file():
            scores = read_json(product.scores)
        entries[product.name] = describe(
            root, product.name, licence=LICENCE, command=product.command, scores=scores
        )
    write_manifest(root, entries)
    for name in entries:
        _state_hashes(root, name, entries)
    return entries


def _replace(made: Path, root: Path, name: str, inside: list[str]) -> None:
    target = root / name
    with atomic_dir(target) as place:
        for relative in model_files(made):
            (place / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made / relative, place / relative)
        for kept in (CARD, RECOMMENDED):  # written by hand, unless the run made its own
            if (target / kept).exists() and not (place / kept).exists():
                shutil.copyfile(target / kept, place / kept)
        for part in inside:
            if (root / part).is_dir():
                shutil.copytree(root / part, place / Path(part).relative_to(name))


def _check_second_stage(root: Path, products: tuple[Product, ...]) -> None:
    lies = {p.name: p.made if p.made.is_dir() else root / p.name for p in products}
    for name, folder in lies.items():
        base = lies.get(name.partition("/")[0])
        if base in (None, folder) or not folder.is_dir():
            continue
        told = read_json(folder / MADE_OF) if (folder / MADE_OF).exists() else {}
        if base is not None and told != denoiser_inputs(base):
            raise InputError(
                f"{folder} has learnt from another denoiser than that in {base}; train it again "
                f"with consistent-gen train refiner --set model={base}, or remove it"
            )


def _check_adapter(root: Path, products: tuple[Product, ...]) -> None:
    lies = {p.name: p.made if p.made.is_dir() else root / p.name for p in products}
    adapter, base = lies.get("adapter"), lies.get("storyworld")
    if adapter is None or base is None or not (adapter.is_dir() and base.is_dir()):
        return
    if read_json(adapter / "config.json").get("denoiser") != file_sha256(base / DENOISER):
        raise InputError(
            f"{adapter} has learnt on another denoiser than that in {base}; train it again with "
            f"consistent-gen train adapter --set model={base}, or remove it"
        )


def _state_hashes(root: Path, name: str, entries: Mapping[str, ManifestEntry]) -> None:
    """Write the hashes of model `name` and its parts at the end of its card, if it has one."""
    card = root / name / CARD
    if not card.exists():
        return
    text = card.read_text(encoding="utf-8").partition(HASHES)[0].rstrip()
    lines = [
        f"| `{n}` | {entry.sha256} |"
        for n, entry in entries.items()
        if n == name or n.startswith(f"{name}/")
    ]
    table = "\n".join(["| folder | SHA-256 |", "|---|---|", *lines])
    with atomic_file(card) as temporary:
        temporary.write_text(f"{text}\n\n{HASHES}\n\n{table}\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    """Run from the root of a checkout."""
    parser = argparse.ArgumentParser(description="Publish finished runs into weights/.")
    parser.add_argument("--root", type=Path, default=Path("weights"))
    try:
        entries = publish(parser.parse_args(argv).root)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    for name, entry in entries.items():
        print(f"{name}: {entry.bytes / 1e6:.1f} MB, sha256 {entry.sha256[:12]}")


if __name__ == "__main__":
    main()
