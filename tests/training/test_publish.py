"""Publishing copies finished runs, keeps cards and unfinished models, and states hashes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from consistent_gen.adapters.story_world import DENOISER
from consistent_gen.checkpoints import (
    file_sha256,
    folder_sha256,
    read_manifest,
    verify_manifest,
    write_json,
)
from consistent_gen.errors import InputError
from consistent_gen.models import load_backbone
from consistent_gen.models.refiner import Refiner, load_refiner, save_refiner
from consistent_gen.training.publish import Product, publish
from consistent_gen.training.refiner import denoiser_inputs


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
    told = f"| `a` | {entries['a'].sha256} |"
    assert (root / "a" / "README.md").read_text().startswith("card\n\n## Hashes\n")
    assert told in (root / "a" / "README.md").read_text()
    assert entries["a"].scores == {"mean": 0.5}
    assert verify_manifest(root) == []

    (first.made / "config.json").unlink()
    first.made.rmdir()
    first.scores.unlink()
    assert publish(root, (first, second))["a"].scores == {"mean": 0.5}


@pytest.mark.filterwarnings("ignore:.*should be kept in float32.*")
def test_the_second_stage_is_a_part_of_the_model(story_model: Path, tmp_path: Path) -> None:
    """It lies in the model's folder, stays when a run of it is absent, and stock pipelines load
    what is around it; another denoiser beside it is refused.
    """
    root = tmp_path / "weights"
    base = _product(tmp_path, "model")
    second = Product("model/refiner", tmp_path / "refiner", tmp_path / "none.json", "make it")
    shutil.copytree(story_model, base.made)
    refiner = Refiner(50, (16, 8, 8, 8), (1, 1, 1, 1))
    save_refiner(second.made, refiner, denoiser_inputs(story_model))
    root.mkdir()
    entries = publish(root, (base, second))
    (root / "model" / "README.md").write_text("card\n\n## Hashes\n\nearlier\n")
    shutil.rmtree(second.made)
    assert publish(root, (base, second)) == entries, "cards do not count"
    assert verify_manifest(root) == [] and set(entries) == {"model", "model/refiner"}
    card = (root / "model" / "README.md").read_text()
    assert card.count("## Hashes") == 1 and "earlier" not in card
    for name, entry in entries.items():
        assert entry.sha256 == folder_sha256(root / name) and entry.sha256 in card
    load_refiner(root / "model" / "refiner")

    # What is recommended is written by hand, and a later run's weights leave it alone.
    recommended = root / "model" / "refiner" / "recommended.json"
    recommended.write_text('{"refine": 1}')
    save_refiner(second.made, refiner, denoiser_inputs(story_model))
    entries = publish(root, (base, second))
    assert recommended.read_text() == '{"refine": 1}' and verify_manifest(root) == []
    assert load_backbone(root / "model", device="cpu").sha256 == entries["model"].sha256

    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(root / "model")
    with torch.no_grad():
        pipe.unet.conv_in.weight.add_(1.0)
    pipe.unet.save_pretrained(base.made / "unet")
    with pytest.raises(InputError, match="another denoiser"):
        publish(root, (base, second))
    assert verify_manifest(root) == []


def test_an_adapter_stands_beside_its_own_denoiser(story_model: Path, tmp_path: Path) -> None:
    base, adapter = _product(tmp_path, "storyworld"), _product(tmp_path, "adapter")
    shutil.copytree(story_model, base.made)
    adapter.made.mkdir()
    write_json(adapter.made / "config.json", {"denoiser": file_sha256(story_model / DENOISER)})
    (root := tmp_path / "weights").mkdir()
    assert set(publish(root, (base, adapter))) == {"storyworld", "adapter"}
    write_json(adapter.made / "config.json", {"denoiser": "0"})
    with pytest.raises(InputError, match="another denoiser"):
        publish(root, (base, adapter))
