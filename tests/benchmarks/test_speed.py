from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import speed
from consistent_gen.models import load_backbone
from consistent_gen.models.tiny import build_tiny


def test_attention_and_convolutions_are_counted() -> None:
    q = torch.zeros(2, 3, 64, 16)
    with torch.inference_mode(), speed.flop_counter() as counter:
        torch.nn.functional.scaled_dot_product_attention(q, q, q)
    assert counter.get_total_flops() == 2 * 2 * (2 * 3 * 64 * 64 * 16)
    with torch.inference_mode(), speed.flop_counter() as counter:
        torch.nn.Conv2d(4, 5, 3, padding=1)(torch.zeros(1, 4, 8, 8))
    assert counter.get_total_flops() == 2 * (8 * 8 * 4 * 5 * 9)


def test_a_row_costs_the_same_in_any_batch(tmp_path: Path) -> None:
    backbone = load_backbone(build_tiny(tmp_path / "tiny"), device="cpu")
    assert speed.row_gflop(backbone, 2) == pytest.approx(speed.row_gflop(backbone, 5))


def test_prints_a_table_and_writes_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "GEMM_SIDE", 64)
    model = build_tiny(tmp_path / "tiny")
    out = tmp_path / "speed.json"
    arguments = ["--model", str(model), "--steps", "2", "--frames", "3", "--repeats", "1"]
    assert speed.main([*arguments, "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["unet_forwards_per_second"] == pytest.approx(12 / result["seconds"])
    assert result["share_of_peak"] == pytest.approx(
        result["unet_forwards_per_second"] * result["gflop_per_forward"]
        / max(result["gemm_peaks_gflops"])
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "3 frames x 2 steps" in printed
    assert f"{result['share_of_peak']:.1%}" in printed


def test_a_missing_model_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert speed.main(["--model", str(tmp_path / "none" / "x")]) == 1
    assert capsys.readouterr().err.startswith("error: no model folder at")
