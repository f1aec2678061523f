"""Publishing copies finished runs, keeps cards and unfinished models, and states hashes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from consistent_gen.checkpoints import read_manifest, verify_manifest, write_json
from consistent_gen.training.publish import Product, publish


def _product(folder: Path, name: str) -> Product:
    return Product(name, folder / name, folder / f"{name}.json", f"make {name}")


def test_a_part_of_a_run_of_its_own_takes_its_place(tmp_path: Path) -> None:
    made = tmp_path / "finisher"
    product = replace(_product(tmp_path, "a"), parts={"vae": made})
    for part in ("unet", "vae"):
        (product.made / part).mkdir(parents=True)
        (product.made / part / "config.json").write_text("{}")
    root = tmp_path / "weights"
    root.mkdir()
    before = publish(root, (product,))["a"].sha256
    made.mkdir()
    (made / "config.json").write_text('{"finisher_widths": [8]}')
    assert publish(root, (product,))["a"].sha256 != before
    assert (root / "a" / "vae" / "config.json").read_text() == '{"finisher_widths": [8]}'
    assert (root / "a" / "unet" / "config.json").read_text() == "{}"
    assert verify_manifest(root) == []


def test_publish(tmp_path: Path) -> None:
    first, second = _product(tmp_path, "a"), _product(tmp_path, "b")
    first.made.mkdir()
    (first.made / "config.json").write_text("{}")
    root = tmp_path / "weights"
    root.mkdir()
    publish(root, (first, second))
    assert list(read_manifest(root)) == ["a"]
    assert verify_manifest(root) == []

    (root / "a" / "README.md").write_text("card")
    (first.made / "config.json").write_text('{"x": 1}')
    write_json(first.scores, {"mean": 0.5})
    entries = publish(root, (first, second))
    assert (root / "a" / "README.md").read_text() == "card"
    assert entries["a"].scores == {"mean": 0.5}
    assert verify_manifest(root) == []

    (first.made / "config.json").unlink()
    first.made.rmdir()
    first.scores.unlink()
    assert publish(root, (first, second))["a"].scores == {"mean": 0.5}
