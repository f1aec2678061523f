"""What adapters are told of a subject: of it alone, and alike in every picture of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from consistent_gen.checkpoints import weights_folder
from consistent_gen.encoders.reader import Reader
from consistent_gen.encoders.subject_features import PATCHES, SubjectFeatures, subject_features
from consistent_gen.world.dataset import StoryWorld

WORLD = StoryWorld("validation", pairs=True)


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader.load(weights_folder("reader"))


def read(reader: Reader, pictures: list[np.ndarray], slots: list[int]) -> SubjectFeatures:
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        reading = reader(x)
        numbers = torch.arange(len(pictures))
        return subject_features(reading, reader.schema, numbers, torch.tensor(slots))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1)


def test_a_subject_is_known_again_in_another_scene(reader: Reader) -> None:
    """The vectors of 24 subjects: nearest is the same subject's in the other picture."""
    numbers = [n for n in range(0, 160, 2) if len(WORLD.frame(n).subjects) == 1][:24]
    one, other = (
        read(reader, [WORLD.picture(n + k).rgb for n in numbers], [0] * 24) for k in (0, 1)
    )
    centred = one.identity - one.identity.mean(0), other.identity - one.identity.mean(0)
    nearest = cosine(*centred).argmax(1)
    assert float((nearest == torch.arange(24)).float().mean()) > 0.9


def test_patches_are_of_the_subject_and_of_its_face(reader: Reader) -> None:
    number = next(n for n in range(99) if len(WORLD.frame(n).subjects) == 1)
    found = read(reader, [WORLD.picture(number).rgb], [0])
    assert found.crop.shape == found.face.shape == (1, PATCHES, 97)
    mask = found.crop[0, :, -1]
    assert 0.1 < float(mask.mean()) < 1.0 and float(mask.max()) > 0.9
    empty = found.crop[0][mask < 1e-3, :-1]
    assert float(empty.abs().max()) < 0.1, "nothing comes along of what stands around"
    assert float(found.face[0, :, -1].mean()) > float(mask.mean()), "a smaller window"


def test_of_two_each_is_read_alone(reader: Reader) -> None:
    picture = WORLD.picture(next(n for n in range(99) if len(WORLD.frame(n).subjects) == 2)).rgb
    found = read(reader, [picture, picture], [0, 1])
    both = found.masks[0] * found.masks[1]
    assert float(both.max()) < 0.3
    assert not torch.allclose(found.identity[0], found.identity[1], atol=0.5)
