"""Views of subjects, the losses and scores over them, and the recipe at toy size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from consistent_gen.encoders.subject import SubjectEncoder
from consistent_gen.errors import InputError
from consistent_gen.training import subject_encoder
from consistent_gen.training.probes import IGNORE
from consistent_gen.training.subject_encoder import (
    IdentityProbe,
    area_under_curve,
    identity_scores,
    info_nce,
    masks_of,
    retrieval,
    shaken,
)
from consistent_gen.training.subject_views import (
    DIFFER,
    GROUP,
    TELLING,
    SubjectViews,
    draw_views,
)
from consistent_gen.training.truth import schema
from consistent_gen.world.spec import identity_held_out, scene_held_out


@pytest.fixture(scope="module")
def drawn() -> dict[str, Tensor]:
    return draw_views(SubjectViews(), 0, 3)


def test_twins_differ_in_few_factors_and_keep_to_their_side() -> None:
    for held_out in (False, True):
        views = SubjectViews(held_out=held_out)
        for group in range(20):
            one, twin = views.identities(group)
            different = {k for k, v in asdict(one).items() if v != asdict(twin)[k]}
            assert 0 < len(different) <= DIFFER and different <= set(TELLING)
            assert identity_held_out(one) == identity_held_out(twin) == held_out
    assert SubjectViews(kind="cat").identities(3)[0].kind == "cat"


def test_views_of_a_group_show_its_two_subjects_in_other_scenes() -> None:
    views = SubjectViews(held_out=True)
    for group in range(4):
        one, twin = views.identities(group)
        seen = [views.view(group, row) for row in range(GROUP)]
        shown = [picture.frame.subjects[slot].identity for picture, slot in seen]
        assert shown == [one, one, twin, twin]
        assert len({picture.frame.layout_seed for picture, _ in seen}) == GROUP
        for picture, _ in seen:
            assert all(
                scene_held_out(s.action, picture.frame.place) for s in picture.frame.subjects
            )


def test_rows_hold_what_the_crop_shows(drawn: dict[str, Tensor]) -> None:
    assert drawn["crops"].shape == (12, 3, 64, 64) and drawn["parts"].shape == (12, 32, 32)
    again = draw_views(SubjectViews(), 0, 3)
    assert all(torch.equal(v.nan_to_num(), again[k].nan_to_num()) for k, v in drawn.items())
    second = draw_views(SubjectViews(), 1, 1)
    assert not torch.equal(second["crops"], drawn["crops"][:4])
    for row in range(12):
        x0, y0, x1, y1 = (drawn["boxes"][row].float() * 32).round().long().tolist()
        inside = drawn["parts"][row, max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1]
        assert (inside > 0).sum() == (drawn["parts"][row] > 0).sum() > 0
        for x, y in drawn["keypoints"][row].float().tolist():
            assert math.isnan(x) or (0 <= x <= 1 and 0 <= y <= 1)
    head = drawn["parts"][torch.arange(12)[:, None], *_cells(drawn["keypoints"])]
    assert (head > 0).float().mean() > 0.8, "keypoints lie on the subject"


def _cells(points: Tensor) -> tuple[Tensor, Tensor]:
    cells = (points.float().nan_to_num(0.5) * 32).long().clamp(0, 31)
    return cells[..., 1], cells[..., 0]


def test_redrawn_views_are_some_of_them(vae: Path, drawn: dict[str, Tensor]) -> None:
    other = draw_views(SubjectViews(), 0, 3, vae)
    same = [torch.equal(a, b) for a, b in zip(drawn["crops"], other["crops"], strict=True)]
    assert 0 < sum(same) < 12
    assert torch.equal(drawn["parts"], other["parts"])


def test_info_nce_has_its_closed_forms() -> None:
    basis = torch.eye(4).repeat_interleave(2, 0)
    assert info_nce(basis, 0.01).item() == pytest.approx(0.0, abs=1e-6)
    alike = torch.ones(8, 4) / 2
    assert info_nce(alike, 0.5).item() == pytest.approx(math.log(7))
    wrong = basis.roll(1, 0)
    assert info_nce(wrong, 0.1).item() > 5.0
    order = torch.tensor([6, 7, 2, 3, 0, 1, 5, 4])  # pairs among each other, and within a pair
    values = torch.nn.functional.normalize(torch.randn(8, 4, generator=_seeded()), dim=1)
    assert info_nce(values[order], 0.1).item() == pytest.approx(
        info_nce(values, 0.1).item(), abs=1e-5
    )


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shaking_moves_picture_mask_parts_and_points_together(drawn: dict[str, Tensor]) -> None:
    rows = {name: values.clone() for name, values in drawn.items()}
    # A bright square and a part of its own at a keypoint, so that all three can be compared.
    rows["crops"].zero_(), rows["parts"].zero_()
    rows["crops"][:, :, 24:32, 36:44] = 255
    rows["parts"][:, 12:16, 18:22] = 2
    rows["keypoints"][:] = torch.tensor([40 / 64, 28 / 64]).half()
    crops, parts, points = shaken(rows, _seeded(), 0.0)
    grid = torch.arange(64) + 0.5
    for b in range(len(crops)):
        light = crops[b, 0] * (crops[b, 0] > 0.4)
        x, y = (light.sum(0) * grid).sum() / light.sum(), (light.sum(1) * grid).sum() / light.sum()
        assert torch.allclose(points[b, 0] * 64, torch.stack([x, y]), atol=0.7)
        cells = (parts[b] == 2).nonzero().float().mean(0).flip(0) * 2 + 1
        assert torch.allclose(points[b, 0] * 64, cells, atol=1.5)
        mask = crops[b, 3]
        assert mask[int(y), int(x)] > 0.8 and mask.min() == 0.0
    assert not torch.equal(shaken(rows, _seeded(1), 0.0)[0], crops)


def test_a_mask_is_coarse_or_a_box() -> None:
    parts = torch.zeros(2, 32, 32, dtype=torch.uint8)
    parts[:, 8:24, 12:20] = 3
    boxes = torch.tensor([[12, 8, 20, 24], [12, 8, 20, 24]]) / 32
    coarse, box = masks_of(parts, boxes, torch.tensor([False, True]))
    assert box.sum() == 16 * 32 and set(box.unique().tolist()) == {0.0, 1.0}
    assert coarse[0, 32, 32] == 1.0 and len(coarse.unique()) > 4


def test_the_probe_learns_nothing_from_what_is_hidden(drawn: dict[str, Tensor]) -> None:
    probe = IdentityProbe(schema(), 8)
    hidden = dict(drawn)
    hidden["factors"] = torch.full_like(drawn["factors"], IGNORE)
    hidden["hues"] = torch.full_like(drawn["hues"], math.nan)
    hidden["scalars"] = torch.full_like(drawn["scalars"], math.nan)
    loss = probe.loss(torch.randn(12, 8), hidden)
    loss.backward()
    assert loss.item() == 0.0 and probe.read.weight.grad is not None
    assert (probe.read.weight.grad == 0).all()
    assert probe.loss(torch.randn(12, 8), drawn).item() > 1.0


def test_scores_of_vectors() -> None:
    same, other = torch.tensor([0.9, 0.5]), torch.tensor([0.1, 0.5, 0.7])
    assert area_under_curve(same, other) == pytest.approx((3 + 1.5) / 6)
    assert retrieval(torch.eye(4)) == 1.0 and retrieval(torch.eye(4).roll(1, 0)) == 0.0
    names = torch.eye(10).repeat_interleave(2, 0)  # five groups of one and the twin
    assert set(identity_scores(names @ names.T).values()) == {1.0}
    blind = torch.eye(5).repeat_interleave(4, 0)  # one and the twin are the same to it
    scores = identity_scores(blind @ blind.T)
    assert scores["retrieval"] == 1.0 and scores["auc_twins"] == 0.5


def test_the_recipe_learns_resumes_and_says_how_well(views: Path, tmp_path: Path) -> None:
    config = subject_encoder.SubjectEncoderConfig(
        run=tmp_path, views=views, images=16, batch=8, width=16, threads=1, measured=3,
        device="cpu",
    )  # fmt: skip
    scores = subject_encoder.main(config)
    assert set(scores) == {
        "retrieval", "retrieval_with_twins", "auc", "auc_twins", "part_accuracy", "part_overlap",
        "keypoint_error",
    }  # fmt: skip
    model = SubjectEncoder.load(tmp_path / "weights")
    assert sum(p.numel() for p in SubjectEncoder(model.part_names).parameters()) < 2_000_000
    assert subject_encoder.main(replace(config, images=16)) == scores


@pytest.mark.slow
def test_a_step_lowers_the_losses_of_its_own_views(views: Path, tmp_path: Path) -> None:
    config = subject_encoder.SubjectEncoderConfig(
        run=tmp_path, views=views, images=320, batch=8, width=16, threads=1, measured=2,
        device="cpu", warmup_images=8, every_s=0.01, halflife_images=20.0,
    )  # fmt: skip
    subject_encoder.main(config)
    lines = _log(tmp_path)
    for name in ("contrast", "probed", "parts", "points"):
        early, late = (_mean(part, name) for part in (lines[:5], lines[-5:]))
        assert late < early, name


def _log(run: Path) -> list[Mapping[str, float]]:
    import json

    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def _mean(lines: list[Mapping[str, float]], name: str) -> float:
    return sum(line[name] for line in lines) / len(lines)


def test_what_cannot_be_learnt_from_is_refused(views: Path, tmp_path: Path) -> None:
    config = subject_encoder.SubjectEncoderConfig(run=tmp_path, views=tmp_path, threads=1)
    with pytest.raises(InputError, match="no views in"):
        subject_encoder.main(config)
    with pytest.raises(InputError, match="expected a multiple of 4"):
        subject_encoder.main(replace(config, views=views, batch=6))
