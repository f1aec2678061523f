"""The subject encoder and the default backend: shapes, places, round trips, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from consistent_gen.checkpoints import read_json, write_json
from consistent_gen.encoders.face_story import StoryFaces, _box_of
from consistent_gen.encoders.faces import FaceAnalyzer, PartSegmenter
from consistent_gen.encoders.reader import Reader
from consistent_gen.encoders.subject import (
    CROP,
    GRID,
    CropWindow,
    SubjectEncoder,
    expected_places,
    subject_crop,
    window_of,
)
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.training.subject_views import SubjectViews
from consistent_gen.training.truth import schema
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.painter import PARTS


def tiny() -> SubjectEncoder:
    torch.manual_seed(0)
    return SubjectEncoder(PARTS, width=16, dimensions=24).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("subject")
    tiny().save(place, torch.float32)
    return place


def test_a_reading_has_a_vector_parts_and_points() -> None:
    crops = torch.randint(0, 256, (3, 4, CROP, CROP), dtype=torch.uint8)
    with torch.inference_mode():
        reading, floats = tiny()(crops), tiny()(crops.float() / 255.0)
    assert reading.embeddings.shape == (3, 24) and reading.parts.shape == (3, 9, GRID, GRID)
    assert torch.allclose(reading.embeddings.norm(dim=1), torch.ones(3), atol=1e-5)
    assert reading.keypoints.shape == (3, 5, 2)
    assert ((reading.keypoints > 0) & (reading.keypoints < 1)).all()
    assert torch.allclose(reading.embeddings, floats.embeddings, atol=1e-4)


def test_round_trip_and_name(folder: Path) -> None:
    again = SubjectEncoder.load(folder)
    crops = torch.rand(1, 4, CROP, CROP)
    with torch.inference_mode():
        assert torch.equal(tiny()(crops).embeddings, again(crops).embeddings)
    assert again.encoder_id.startswith("storyworld:subject_encoder:")
    assert again.encoder_id == SubjectEncoder.load(folder).encoder_id != tiny().encoder_id


def test_other_and_damaged_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        SubjectEncoder.load(tmp_path)
    tiny().save(tmp_path)
    config = read_json(tmp_path / "config.json")
    for changed, message in (
        ({"kind": "reader"}, "holds a 'reader'"),
        ({"width": 24}, "does not fit its config"),
        ({"parts": ["hair"]}, "does not fit its config"),
        ({"dimensions": None}, "does not fit its config"),
    ):
        write_json(tmp_path / "config.json", config | changed)
        with pytest.raises(CheckpointError, match=message) as caught:
            SubjectEncoder.load(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_crop_shows_the_box_with_a_margin_and_black_outside() -> None:
    rgb = np.zeros((100, 200, 3), np.uint8)
    rgb[20:60, 150:190] = (10, 200, 30)
    crop, window = subject_crop(rgb, (150, 20, 190, 60))
    assert crop.shape == (4, CROP, CROP) and crop.dtype == np.uint8
    assert window == CropWindow(146, 16, 48)
    assert (crop[:3, 32, 32] == (10, 200, 30)).all() and crop[3, 32, 32] == 255
    assert (crop[:, 0, 0] == 0).all()
    beyond, _ = subject_crop(rgb, (180, -20, 240, 40))
    assert (beyond[:, :4] == 0).all() and (beyond[:, :, -4:] == 0).all()
    mask = np.zeros((100, 200), np.float32)
    mask[20:60, 150:170] = 0.5
    half, _ = subject_crop(rgb, (150, 20, 190, 60), mask)
    assert half[3, 32, 16] == 127 and half[3, 32, 48] == 0


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (300, 0, 320, 20), (-9, -9, 0, 0), (9, 9, 4, 20)])
def test_a_box_that_shows_nothing_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="shows nothing of a picture of 200 x 100"):
        subject_crop(np.zeros((100, 200, 3), np.uint8), box)  # type: ignore[arg-type]


def test_a_mask_of_another_size_is_refused() -> None:
    rgb = np.zeros((100, 200, 3), np.uint8)
    with pytest.raises(InputError, match="a mask of shape"):
        subject_crop(rgb, (0, 0, 20, 20), np.zeros((200, 100), np.float32))


def test_a_window_takes_points_back() -> None:
    window = window_of((10, 20, 40, 80))
    assert window == CropWindow(-11.0, 14.0, 72.0)
    assert np.allclose(window.back(np.array([[0.5, 0.5]])), [[25, 50]])


def test_places_are_means_of_maps() -> None:
    heat = torch.full((1, 1, 8, 8), -50.0)
    heat[0, 0, 6, 1] = 50.0
    assert torch.allclose(expected_places(heat), torch.tensor([[[1.5 / 8, 6.5 / 8]]]), atol=1e-5)


def test_one_picture_has_many_subjects_or_none() -> None:
    rgb = StoryWorld("train").picture(0).rgb
    encoder = tiny()
    boxes = [(0.0, 0.0, 64.0, 64.0), (10.0, 30.0, 90.0, 128.0)]
    reading, windows = encoder.read(rgb, boxes)
    alone, _ = encoder.read(rgb, boxes[1:])
    assert len(windows) == 2 and reading.embeddings.shape == (2, 24)
    assert torch.allclose(reading.embeddings[1], alone.embeddings[0], atol=1e-5)
    nobody, none = encoder.read(rgb, [])
    assert nobody.embeddings.shape == (0, 24) and none == []


def test_part_masks_lie_in_the_window_and_nowhere_else() -> None:
    rgb = StoryWorld("train").picture(0).rgb
    assert isinstance(tiny(), PartSegmenter)
    masks = tiny().part_masks(rgb, (20, 30, 60, 70))
    assert set(masks) == set(PARTS)
    window = window_of((20, 30, 60, 70))
    for mask in masks.values():
        assert mask.shape == rgb.shape[:2] and mask.min() >= 0.0 and mask.max() <= 1.0
        assert (mask[: int(window.y)] == 0).all() and (mask[:, : int(window.x)] == 0).all()


def test_a_box_of_cells_is_in_pixels() -> None:
    cells = np.zeros((32, 32), np.bool_)
    assert _box_of(cells, CropWindow(0, 0, 64)) is None
    cells[8:12, 4:16] = True
    assert _box_of(cells, CropWindow(10, 20, 64)) == (18.0, 36.0, 42.0, 44.0)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader that has learnt nothing."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("reader")
    Reader(schema(), 32).save(place)
    return place


@pytest.mark.parametrize("with_encoder", [False, True])
def test_the_default_backend_is_one(reader: Path, folder: Path, with_encoder: bool) -> None:
    story = StoryFaces(reader, folder if with_encoder else None)
    assert isinstance(story, FaceAnalyzer) and isinstance(story, PartSegmenter)
    assert story.licence.commercial and not story.realistic
    kind = "subject_encoder" if with_encoder else "reader"
    assert story.encoder_id.startswith(f"storyworld:{kind}:")
    assert story.dimensions == (24 if with_encoder else 128)
    with pytest.raises(InputError, match="expected height x width x 3"):
        story.analyze(np.zeros((8, 8), np.uint8))
    for face in story.analyze(StoryWorld("train").picture(1).rgb):
        assert face.raw is not None and face.raw.shape == (story.dimensions,)
        assert face.encoder_id == story.encoder_id


@pytest.mark.weights
@pytest.mark.parametrize("index", range(6))
def test_the_shipped_backend_finds_who_is_there(index: int) -> None:
    """In a picture of twice the size, as the second stage draws them."""
    backend = StoryFaces()
    picture = StoryWorld("held_out").picture(index)
    rgb, labels = (values.repeat(2, 0).repeat(2, 1) for values in (picture.rgb, picture.labels))
    seen = backend.subjects(rgb)
    assert len(seen) == len(picture.figures)
    for number, (one, figure) in enumerate(zip(seen, picture.figures, strict=True)):
        true = (labels > 0) & ((labels.astype(int) - 1) // len(PARTS) == number)
        guess = one.mask > 0.5
        assert (guess & true).sum() / (guess | true).sum() > 0.7
        assert one.face is not None
        x0, y0, x1, y1 = one.face
        for x, y in np.array(figure.keypoints) * 256:
            assert x0 <= x <= x1 and y0 <= y <= y1
        parts = backend.part_masks(rgb, one.box, one.mask)
        top = labels == 1 + number * len(PARTS) + PARTS.index("top")
        if top.mean() > 0.01:
            assert parts["top"][top].mean() > 2.0 * parts["top"][true & ~top].mean()


@pytest.mark.weights
def test_the_shipped_backend_knows_a_held_out_subject_again() -> None:
    backend, views = StoryFaces(), SubjectViews(held_out=True, seed=3)
    found = []
    for row in (0, 1):
        rows = []
        for group in range(6):
            picture, slot = views.view(group, row)
            rows.append(backend.subjects(picture.rgb)[slot].vector)
        stacked = np.stack(rows)
        found.append(stacked / np.linalg.norm(stacked, axis=1, keepdims=True))
    assert ((found[0] @ found[1].T).argmax(1) == np.arange(6)).all()
