"""Publishing copies finished runs, keeps cards and unfinished models, and states hashes."""

from __future__ import annotations

from pathlib import Path

from consistent_gen.checkpoints import read_manifest, verify_manifest, write_json
from consistent_gen.training.publish import Product, publish


def _product(folder: Path, name: str) -> Product:
    return Product(name, folder / name, folder / f"{name}.json", f"make {name}")


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
