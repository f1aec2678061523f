"""A model with a second stage: pictures of twice the size, steps that retouch, replay."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from consistent_gen.checkpoints import folder_sha256, write_json
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Engine, FrameDone, FrameRequest, Step, Subject, replay
from consistent_gen.engine.redrawing import Redrawing
from consistent_gen.engine.sharing import SharedStory
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.methods.tuning import recipe_of
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.refiner import Refiner
from tests.every_run import COUPLING, or_slow

FOX = FrameRequest(prompt="a red fox", seed=5, settings=DrawSettings(steps=4, guidance=3.0))


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with an untrained second stage that changes what it is given."""
    place = tmp_path_factory.mktemp("models") / "refined"
    shutil.copytree(tiny_folder, place)
    torch.manual_seed(0)
    refiner = Refiner(latent_channels=16, widths=(16, 16, 8, 8), blocks=(1, 1, 1, 1))
    torch.nn.init.normal_(refiner.leave.weight, std=0.2)
    refiner.save_pretrained(place / "refiner", safe_serialization=True)
    write_json(place / "refiner" / "recommended.json", {"refine": 1, "retouch": 0.25, "steps": 8})
    return place


@pytest.fixture(scope="module")
def refined(folder: Path) -> Backbone:
    return load_backbone(folder, device="cpu")


def drawn(backbone: Backbone, *requests: FrameRequest) -> list[FrameDone]:
    done = {e.id: e for e in Engine(backbone).run(requests) if isinstance(e, FrameDone)}
    return [done[key] for key in sorted(done)]


def test_a_second_stage_is_a_model_of_its_own(refined: Backbone, tiny: Backbone) -> None:
    assert refined.sha256 == tiny.sha256, "old pictures stay pictures of the same model"
    assert refined.refiner_sha256 == folder_sha256(refined.path / "refiner")
    assert refined.recommended == {"refine": 1, "retouch": 0.25, "steps": 8}
    assert tiny.refiner is None and tiny.refiner_sha256 is None


def test_it_draws_at_twice_the_size(refined: Backbone) -> None:
    events = list(Engine(refined).run([FOX]))
    (done,) = (e for e in events if isinstance(e, FrameDone))
    assert done.image.shape == (256, 256, 3)
    steps = [e for e in events if isinstance(e, Step)]
    assert [e.step for e in steps] == [1, 2, 3, 4] and {e.steps for e in steps} == {4}
    assert done.metadata["retouch"] == 0.25 and done.metadata["refine"] == 1
    assert done.metadata["width"] == 128, "the size that the denoiser draws at"


def test_without_it_pictures_are_those_of_the_model_alone(
    refined: Backbone, tiny: Backbone
) -> None:
    plain = FOX.with_settings(refine=0, retouch=0.0)
    ours, theirs = drawn(refined, plain)[0], drawn(tiny, FOX)[0]
    assert np.array_equal(ours.image, theirs.image)
    assert ours.metadata["model"]["sha256"] == theirs.metadata["model"]["sha256"]
    assert {**ours.metadata, "model": None} == {**theirs.metadata, "model": None}


def test_its_bytes_depend_on_nobody(refined: Backbone) -> None:
    others = [replace(FOX, prompt="a green cat", seed=seed, id=f"z{seed}") for seed in (1, 2, 3)]
    alone = drawn(refined, replace(FOX, id="a"))[0]
    among = drawn(refined, *others, replace(FOX, id="a"))[0]
    assert np.array_equal(alone.image, among.image)
    other_seed = drawn(refined, replace(FOX, id="a", seed=6))[0]
    assert not np.array_equal(alone.image, other_seed.image)


def test_replay_draws_the_same_and_names_another_second_stage(
    refined: Backbone, tmp_path: Path
) -> None:
    done = drawn(refined, FOX)[0]
    again = replay(done.image, done.metadata, refined)
    assert again.verdict == "identical" and again.reasons == ()
    changed = replace(refined, refiner_sha256="0" * 64)
    reasons = replay(done.image, done.metadata, changed).reasons
    assert any("other second stage" in reason for reason in reasons)


@pytest.mark.parametrize("method", or_slow(COUPLING))
def test_shared_stories_are_finished_together(refined: Backbone, method: str) -> None:
    engine = Engine(refined)
    story = SharedStory(engine, recipe_of(method), seed=3)
    anchors = max(1, story.run.recipe.anchors)
    fox = replace(FOX, subjects=(Subject(name="fox", tokens=(3,)),))
    story.cast("fox", [replace(fox, id=f"anchor {i}", seed=i) for i in range(anchors)])
    story.submit(replace(fox, id="reader", prompt="a red fox reading", seed=9))
    done = engine.drain()
    assert done["reader"].image.shape == (256, 256, 3)


@pytest.mark.parametrize("refine", [0, 1])
def test_a_picture_looked_at_once_more(refined: Backbone, refine: int) -> None:
    fox = replace(FOX.with_settings(refine=refine, polish=0), id="a")
    polished = fox.with_settings(polish=1)
    plain, done = drawn(refined, fox)[0], drawn(refined, polished)[0]
    assert done.image.shape == plain.image.shape and done.metadata["polish"] == 1
    edge = 4 * (1 + refine)  # half a cell stays as it was
    assert np.array_equal(done.image[-edge:], plain.image[-edge:])
    assert np.array_equal(done.image[:, -edge:], plain.image[:, -edge:])
    assert not np.array_equal(done.image[:-edge, :-edge], plain.image[:-edge, :-edge])
    others = [replace(polished, prompt="a green cat", seed=n, id=f"z{n}") for n in (1, 2, 3)]
    assert np.array_equal(drawn(refined, *others, polished)[0].image, done.image)
    assert replay(done.image, done.metadata, refined).verdict == "identical"


def test_a_part_drawn_again_and_looked_at_once_more_keeps_the_rest(refined: Backbone) -> None:
    plain = drawn(refined, FOX)[0].image
    mask = np.zeros(plain.shape[:2], bool)
    mask[64:160, 96:200] = True
    again = replace(
        FOX.with_settings(polish=1), seed=8, redrawing=Redrawing(picture=plain, mask=mask)
    )
    image = drawn(refined, again)[0].image
    assert np.array_equal(image[~mask], plain[~mask])
    assert not np.array_equal(image[mask], plain[mask])


def test_a_model_without_one_says_so(tiny: Backbone, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="no second stage"):
        Engine(tiny).submit(FOX.with_settings(refine=1))
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "refiner" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="refiner"):
        load_backbone(broken, device="cpu")
