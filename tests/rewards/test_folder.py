"""Folders of pictures from anywhere: what is read, what is left out and why, and what looked."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from consistent_gen.errors import CheckpointError, InputError, LimitError
from consistent_gen.rewards import files
from consistent_gen.rewards.base import ImageSet
from consistent_gen.rewards.files import KEPT_SIDE, read_file, read_folder
from consistent_gen.rewards.folder import ONE_LEFT, FolderScores, rewards_of, score_folder
from consistent_gen.rewards.vision_folder import FolderFeatures
from consistent_gen.world.dataset import StoryWorld

WORLD = StoryWorld("train")


def write(path: Path, number: int) -> Path:
    Image.fromarray(WORLD.picture(number).rgb).save(path)
    return path


def scored(folder: Path, backend: str = "colors", **options: object) -> FolderScores:
    return score_folder(read_folder(folder), backend, rewards_of(backend), **options)  # type: ignore[arg-type]


def huge_png(path: Path, side: int) -> Path:
    """A PNG of `side` x `side` pixels by its header, and next to nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    rest = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + rest)
    return path


def test_nine_pictures_and_everything_that_can_be_wrong(tmp_path: Path) -> None:
    """A broken file never loses the rest."""
    for number in range(9):
        write(tmp_path / f"{number:02d}.{('png', 'jpg', 'webp')[number % 3]}", number)
    whole = scored(tmp_path)
    truncated = (tmp_path / "00.png").read_bytes()[:2000]
    (tmp_path / "cut.png").write_bytes(truncated)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "words.png").write_text("not a picture")
    (tmp_path / "moving.gif").write_bytes(b"GIF89a" + bytes(40))
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "copy.png").write_bytes((tmp_path / "03.png").read_bytes())
    Image.new("RGB", (3, 3)).save(tmp_path / "tiny.png")
    huge_png(tmp_path / "large.png", 9_000)
    huge_png(tmp_path / "larger.png", 60_000)
    (tmp_path / "notes.txt").write_text("passed over")
    (tmp_path / "folder.png").mkdir()
    found = scored(tmp_path)
    assert found.names == whole.names and len(found.names) == 9
    assert found.values == whole.values
    assert found.left_out == {
        "copy.png": "the same picture as 03.png",
        "cut.png": "damaged or cut short; save it anew",
        "empty.jpg": "the file is empty",
        "gone.png": "no such file",
        "large.png": "too many pixels; at most 60,000,000 are read",
        "larger.png": "too many pixels; at most 60,000,000 are read",
        "moving.gif": "not a PNG, JPEG or WebP file",
        "tiny.png": "3 x 3 pixels; at least 8 a side are needed",
        "words.png": "not a PNG, JPEG or WebP file",
    }


def test_one_picture_or_the_same_one_has_no_consistency(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 0)
    one = scored(tmp_path)
    assert one.values["color_histogram"] is None and one.reasons["color_histogram"] == ONE_LEFT
    assert one.members == {"a.png": None}
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    same = scored(tmp_path)
    assert same.values["color_histogram"] is None and list(same.left_out) == ["b.png"]
    # Against a reference one picture is enough.
    reference = WORLD.picture(5).rgb
    against = scored(tmp_path, references=[reference])
    assert against.values["color_histogram"] is not None
    assert against.members["a.png"] == pytest.approx(against.values["color_histogram"])


def test_folders_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no picture files"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match="this is a file"):
        read_folder(write(tmp_path / "a.png", 0))
    write(tmp_path / "b.png", 1)
    monkeypatch.setattr(files, "MAX_FILES", 1)
    with pytest.raises(LimitError, match="at most 1 "):
        read_folder(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", 0)
    path.chmod(0)
    assert read_file(path).reason == "may not be read"


def test_odd_pictures_are_shown_as_a_viewer_shows_them(tmp_path: Path) -> None:
    turned = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_file(tmp_path / "turned.jpg").picture.shape == (40, 20, 3)  # type: ignore[union-attr]
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_file(tmp_path / "clear.png").picture == 255).all()
    Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save(tmp_path / "deep.png")
    deep = read_file(tmp_path / "deep.png").picture
    assert deep is not None and deep.max() == 40_000 >> 8
    Image.new("L", (2000, 1000), 7).save(tmp_path / "gray.png")
    assert read_file(tmp_path / "gray.png").picture.shape == (KEPT_SIDE // 2, KEPT_SIDE, 3)  # type: ignore[union-attr]


def test_the_stranger_among_pictures_stands_out(tmp_path: Path) -> None:
    for number in range(4):
        shade = np.full((64, 64, 3), (200, 60 + 5 * number, 40), np.uint8)
        Image.fromarray(shade).save(tmp_path / f"{number}.png")
    Image.new("RGB", (64, 64), (20, 60, 220)).save(tmp_path / "stranger.png")
    for backend in ("colors", "photo"):
        found = scored(tmp_path, backend)
        known = {name: value for name, value in found.members.items() if value is not None}
        assert min(known, key=lambda name: known[name]) == "stranger.png", backend
        assert found.backend == backend and found.sees and found.more
        assert found.cards[f"{'photo_consistency' if backend == 'photo' else 'pixel_l2'}"]


def test_style_is_how_and_not_what() -> None:
    """Two scenes in one style are mostly more alike than two scenes in two styles."""
    from dataclasses import replace

    from consistent_gen.rewards.baselines import PhotoStyle
    from consistent_gen.rewards.photo_features import PhotoFeatures
    from consistent_gen.world.scene import render

    styles, numbers = ("flat", "pencil", "neon", "watercolor"), range(8)
    drawn = tuple(
        np.asarray(render(replace(WORLD.frame(n), style=s)).rgb) for s in styles for n in numbers
    )
    s = PhotoStyle(PhotoFeatures()).matrix(ImageSet(pictures=drawn))
    assert np.array_equal(s, s.T) and (s.diagonal() == 1.0).all() and s.min() > 0.0
    style = np.arange(len(drawn)) // len(numbers)
    alike = style[:, None] == style[None]
    off = ~np.eye(len(drawn), dtype=bool)
    assert np.median(s[alike & off]) > np.quantile(s[~alike], 0.75)


def tiny_vision_model(folder: Path, kind: str) -> Path:
    """A vision model of a real class with random weights."""
    import torch
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        Dinov2Config,
        Dinov2Model,
        SiglipConfig,
        SiglipModel,
    )

    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    towers = {
        "text_config": {**size, "intermediate_size": 16, "vocab_size": 30},
        "vision_config": {**size, "intermediate_size": 16, "image_size": 32, "patch_size": 8},
    }
    torch.manual_seed(0)
    if kind == "clip":
        model = CLIPModel(CLIPConfig(**towers, projection_dim=12))
    elif kind == "siglip":
        model = SiglipModel(SiglipConfig(**towers))
    else:
        model = Dinov2Model(Dinov2Config(**size, image_size=32, patch_size=8))
    model.save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2"])
def test_any_vision_model_in_a_folder(kind: str, tmp_path: Path) -> None:
    folder = tiny_vision_model(tmp_path / kind, kind)
    features = FolderFeatures(folder)
    shown = np.stack([WORLD.picture(n).rgb for n in range(3)])
    found = features(shown)
    assert found.shape[0] == 3 and np.isfinite(found).all() and kind in features.name
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        write(pictures / f"{number}.png", number)
    rewards = rewards_of("model", model=folder)
    scores = score_folder(read_folder(pictures), "model", rewards)
    value = scores.values["model_consistency"]
    assert value is not None and 0.0 <= value <= 1.0
    assert scores.cards["model_consistency"]["sha256"] == features.sha256


def test_a_folder_without_a_vision_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no vision model"):
        FolderFeatures(tmp_path)
    with pytest.raises(InputError, match="no such model folder"):
        FolderFeatures(tmp_path / "nowhere")
    with pytest.raises(InputError, match="needs a model folder"):
        rewards_of("model")
