"""A part of a drawing again, through a real gateway and a real worker: what stays, what is told."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from consistent_gen.client import ApiError, Client
from consistent_gen.client.types import FramePatch, JobState, RedrawIn, StoryPatch
from consistent_gen.errors import InputError
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.marking import character_mask
from consistent_gen.world.dataset import StoryWorld
from services.painting.painter import Painter
from services.painting.reports import Drawn
from services.plans.orders import DrawnPart
from tests.services.small_model import MakeLease, story
from tests.services.worker.servers import BUCKET, Gateway, gateway, local_worker, settings_for

RIGHT = [0.5, 0.0, 1.0, 1.0]


@pytest.fixture
def served(tmp_path: Path, tiny: Backbone) -> Iterator[Gateway]:
    with gateway(settings_for(tmp_path / "data", model=tiny.path)) as server:
        yield server


def pixels(client: Client, artifact: str | None) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(client.artifact(str(artifact)))))


def png(mask: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return stream.getvalue()


def test_a_part_is_drawn_again_and_the_rest_keeps_its_pixels(
    served: Gateway, tiny: Backbone
) -> None:
    with local_worker(served, tiny), served.client() as client:
        accepted = client.create_story(story("consistory", steps=2))
        first = client.wait(accepted.job).frames[1]
        before = pixels(client, first.artifact)
        half = before.shape[1] // 2
        boxed = client.wait(client.redraw(accepted.story, 1, RedrawIn(box=RIGHT)).job)
        (frame,) = boxed.frames
        assert (boxed.state, frame.version) == (JobState.succeeded, 2)
        after = pixels(client, frame.artifact)
        assert np.array_equal(after[:, :half], before[:, :half])
        assert not np.array_equal(after, before)

        mask = np.zeros(before.shape[:2], np.uint8)
        mask[: half // 2] = 255
        held = client.upload(png(mask))
        asked = RedrawIn(mask=held.id, version=1, seed=first.seed)
        masked = client.wait(client.redraw(accepted.story, 1, asked).job).frames[0]
        again = pixels(client, masked.artifact)
        assert np.array_equal(again[half // 2 :], before[half // 2 :])

        shown = client.story(accepted.story)
        assert [v.version for v in shown.frames[1].versions] == [1, 2, 3]
        assert shown.frames[1].current == 3
        # Undone: the first drawing counts again.
        back = FramePatch(index=1, current=1)
        client.patch_story(shown.id, StoryPatch(revision=shown.revision, frames=[back]))
        assert client.story(shown.id).frames[1].current == 1


def test_a_character_is_looked_for_by_the_worker(
    tiny: Backbone, make_lease: MakeLease, tmp_path: Path
) -> None:
    world = StoryWorld("validation")
    two = next(n for n in range(200) if len(world.frame(n).subjects) == 2)
    Image.fromarray(world.picture(two).rgb).save(tmp_path / "two.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "nobody.png")
    painter = Painter(tiny, bucket=BUCKET)
    for picture, who, told in (
        ("nobody.png", (1, 1), "nobody is found"),
        ("two.png", (1, 1), "2 are seen in the picture and its prompt names 1"),
    ):
        part = DrawnPart(picture=picture, character=who)
        with pytest.raises(InputError, match=told):
            painter.submit(make_lease(story(), 1, part=part), tmp_path)
    assert painter.idle
    face = character_mask(world.picture(two).rgb, 1, 2, "face")
    painter.submit(
        make_lease(story(), 0, part=DrawnPart(picture="two.png", character=(1, 2), only="face")),
        tmp_path,
    )
    drawn: list[np.ndarray] = []
    while not painter.idle:
        drawn += [report.image for report in painter.step() if isinstance(report, Drawn)]
    changed = (drawn[0] != world.picture(two).rgb).any(-1)
    assert changed.any()
    assert not changed[~face].any()


def test_what_cannot_be_marked_is_refused_at_once(served: Gateway, tiny: Backbone) -> None:
    with local_worker(served, tiny), served.client() as client:
        accepted = client.create_story(story("vanilla", steps=1))
        client.wait(accepted.job)
        dark = client.upload(png(np.zeros((128, 128), np.uint8))).id
        small = client.upload(png(np.full((32, 32), 255, np.uint8))).id
        for asked, status, told in (
            (RedrawIn(), 422, "0 of box, mask and character"),
            (RedrawIn(box=RIGHT, mask=dark), 422, "2 of box, mask and character"),
            (RedrawIn(box=[0.5, 0.0, 0.5, 1.0]), 422, "is no rectangle"),
            (RedrawIn(box=[0.0, 0.0, float("1e9"), 1.0]), 422, "is no rectangle"),
            (RedrawIn(mask=small), 422, "the mask has 32x32 pixels"),
            (RedrawIn(mask="art_" + "0" * 32), 404, "no such artifact"),
            (RedrawIn(character="Nobody"), 422, "names no such character"),
            (RedrawIn(box=RIGHT, only="face"), 422, "it is a part of a character"),
            (RedrawIn(box=RIGHT, version=9), 404, "no such version"),
            (RedrawIn(box=RIGHT, prompt="a dragon"), 422, "dragon"),
        ):
            with pytest.raises(ApiError) as refused:
                client.redraw(accepted.story, 0, asked)
            assert refused.value.status == status, (asked, refused.value)
            assert told in str(refused.value), (asked, refused.value)
        with pytest.raises(ApiError) as refused:
            client.redraw(accepted.story, 0, RedrawIn(mask=dark))
        assert "marks nothing" in str(refused.value) or "pixels" in str(refused.value)
        with pytest.raises(ApiError) as refused:
            client.redraw(accepted.story, 99, RedrawIn(box=RIGHT))
        assert refused.value.status == 404
        assert len(client.story(accepted.story).frames[0].versions) == 1


def test_a_frame_without_a_drawing_is_refused(served: Gateway) -> None:
    with served.client() as client:
        accepted = client.create_story(story("vanilla", steps=1))
        with pytest.raises(ApiError) as refused:
            client.redraw(accepted.story, 0, RedrawIn(box=RIGHT))
        assert (refused.value.status, refused.value.code) == (409, "not_drawn")
