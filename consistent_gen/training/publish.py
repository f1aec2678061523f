"""Put what the recipes made into `weights/` and write its manifest.

`python -m consistent_gen.training.publish` takes every finished run it finds; models whose run is
absent keep their weights. Scores come from the runs and from `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consistent_gen.checkpoints import (
    MANIFEST,
    ManifestEntry,
    atomic_dir,
    describe,
    model_files,
    read_json,
    read_manifest,
    write_manifest,
)

LICENCE = "Apache-2.0"


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
)


def publish(root: Path, products: tuple[Product, ...] = PRODUCTS) -> dict[str, ManifestEntry]:
    """Copy finished runs to `root` and rewrite its manifest; returns the entries.

    Model cards (`README.md`) that lie in `root` are kept.
    """
    known = read_manifest(root) if (root / MANIFEST).exists() else {}
    entries: dict[str, ManifestEntry] = {}
    for product in products:
        target = root / product.name
        if product.made.is_dir():
            _replace(product.made, target)
        if not target.is_dir():
            continue
        old = known.get(product.name)
        scores: Any = old.scores if old is not None else {}
        if product.scores.is_file():
            scores = read_json(product.scores)
        entries[product.name] = describe(
            root, product.name, licence=LICENCE, command=product.command, scores=scores
        )
    write_manifest(root, entries)
    return entries


def _replace(made: Path, target: Path) -> None:
    with atomic_dir(target) as place:
        for relative in model_files(made):
            (place / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made / relative, place / relative)
        if (target / "README.md").exists():
            shutil.copyfile(target / "README.md", place / "README.md")


def main(argv: list[str] | None = None) -> None:
    """Run from the root of a checkout."""
    parser = argparse.ArgumentParser(description="Publish finished runs into weights/.")
    parser.add_argument("--root", type=Path, default=Path("weights"))
    for name, entry in publish(parser.parse_args(argv).root).items():
        print(f"{name}: {entry.bytes / 1e6:.1f} MB, sha256 {entry.sha256[:12]}")


if __name__ == "__main__":
    main()
