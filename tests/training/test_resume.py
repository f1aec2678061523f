"""A recipe that was stopped and goes on ends where it would have ended without a stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from consistent_gen.checkpoints import weights_folder
from consistent_gen.models.story_world import StoryWorldConfig
from consistent_gen.training import (
    adapter,
    autoencoder,
    reader,
    refiner,
    semantics,
    story_model,
    subject_encoder,
)
from consistent_gen.training.loop import RecipeConfig, Training, learning_rate, load_run
from tests.every_run import or_slow

TOY = StoryWorldConfig(
    widths=(16, 16, 32), heads=(1, 1, 1), text_width=32, text_layers=1, text_heads=1
)
BATCH, STEPS, STOP = 4, 8, 3
# The stop lies on the plateau, the end in the decay; the average and the rows move all the time.
SHARED: dict[str, Any] = {
    "images": BATCH * STEPS, "batch": BATCH, "warmup_images": 4, "decay_share": 0.5,
    "halflife_images": 8.0, "every_s": 1e9, "threads": 1, "device": "cpu", "seed": 3,
}  # fmt: skip

Recipe = tuple[Callable[[Any], Any], Any]


def _recipes(run: Path, given: dict[str, Path]) -> dict[str, Recipe]:
    vae, pictures = {"vae": given["vae"]}, {"pictures": given["pictures"]}
    drawn = {"rows": given["rows"], "out": run / "out"}
    paired = drawn | {"rows": given["paired_rows"]}
    story = {**vae, "model": TOY, "processes": 1, "grow_images": 8}
    seen = {**vae, **pictures, "width": 32, "measured": 8}
    adapted = {"run": run, "out": run / "out", "model": given["model"], **SHARED}
    adapted |= {"rows": given["adapter_rows"], "reader": weights_folder("reader")}
    return {
        "autoencoder": (
            autoencoder.main,
            autoencoder.AutoencoderConfig(
                run=run, out=run / "out", measured=4, **pictures, **SHARED
            ),
        ),
        "semantics": (
            semantics.main,
            semantics.SemanticsConfig(run=run, measured=4, **vae, **drawn, **SHARED),
        ),
        "story_model": (
            story_model.main,
            story_model.StoryModelConfig(run=run, **drawn, **story, **SHARED),
        ),
        "story_model in pairs": (
            story_model.main,
            story_model.StoryModelConfig(run=run, pairs=True, **paired, **story, **SHARED),
        ),
        "reader": (reader.main, reader.ReaderConfig(run=run, **seen, **SHARED)),
        "judge": (reader.main, reader.ReaderConfig(run=run, judge=True, **seen, **SHARED)),
        "subject_encoder": (
            subject_encoder.main,
            subject_encoder.SubjectEncoderConfig(
                run=run, views=given["views"], width=16, measured=2, **SHARED
            ),
        ),
        "adapter": (adapter.main, adapter.AdapterConfig(arm="people", **adapted)),
        "adapter of references": (adapter.main, adapter.AdapterConfig(arm="reference", **adapted)),
        "refiner": (
            refiner.main,
            refiner.RefinerConfig(
                run=run,
                model=given["model"],
                out=run / "out",
                widths=(16, 8, 8, 8),
                blocks=(2, 1, 1, 1),
                crop=4,
                first_rows=2,
                crops_per_row=8,
                held_out=2,
                **SHARED,
            ),
        ),
    }


def _stop_at(monkeypatch: pytest.MonkeyPatch, seen: int) -> None:
    """Ask the recipe to end, as an operating system does, when it has seen so many images."""
    update = Training.update

    def updated(training: Training, **figures: Any) -> None:
        update(training, **figures)
        if training.seen == seen:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Training, "update", updated)


RECIPES = (
    "autoencoder", "semantics", "story_model", "story_model in pairs", "reader", "judge", "refiner",
    "subject_encoder", "adapter", "adapter of references",
)  # fmt: skip


@pytest.mark.parametrize("name", or_slow(RECIPES, ["semantics"]))
@pytest.mark.filterwarnings("ignore:.*should be kept in float32.*")
def test_stopped_and_resumed_equals_uninterrupted(
    name: str,
    pictures: Path,
    vae: Path,
    rows: Path,
    paired_rows: Path,
    story_model: Path,
    views: Path,
    adapter_rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refiner, "ROWS", 2)  # so that rows are made between steps
    given = {"pictures": pictures, "vae": vae, "rows": rows, "paired_rows": paired_rows}
    given |= {"model": story_model, "views": views, "adapter_rows": adapter_rows}
    main, whole = _recipes(tmp_path / "whole", given)[name]
    result = main(whole)
    main, parts = _recipes(tmp_path / "parts", given)[name]
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        _stop_at(patch, STOP * BATCH)
        main(parts)
    assert ended.value.code == 128 + signal.SIGTERM
    stopped = load_run(parts.run / "checkpoint")
    assert stopped is not None and stopped[1]["seen_images"] == STOP * BATCH
    assert main(parts) == result

    first, second = (load_run(c.run / "checkpoint") for c in (whole, parts))
    assert first is not None and second is not None and first[1] == second[1]
    assert first[1]["seen_images"] == STEPS * BATCH and first[0].keys() == second[0].keys()
    moved = 0
    for key, values in first[0].items():
        assert torch.equal(values, second[0][key]), key
        moved += not torch.equal(values, stopped[0][key])
    assert {key.split(".")[0] for key in first[0]} > {"average", "optimizer"} and moved > 9
    logs = [_log(c.run) for c in (whole, parts)]
    assert [sum(line["images"] for line in log) for log in logs] == [STEPS * BATCH] * 2
    assert [line["seen"] for line in logs[1]] == [STOP * BATCH, STEPS * BATCH]


SCRIPT = """
import sys
from pathlib import Path
from consistent_gen.models.story_world import StoryWorldConfig
from consistent_gen.training import story_model

if __name__ == "__main__":
    run, rows, vae = map(Path, sys.argv[1:])
    toy = StoryWorldConfig(
        widths=(16, 16, 32), heads=(1, 1, 1), text_width=32, text_layers=1, text_heads=1
    )
    story_model.main(story_model.StoryModelConfig(
        run=run, out=run / "out", rows=rows, vae=vae, model=toy, processes=2, device="cpu",
        images=320, batch=4, warmup_images=8, halflife_images=40.0, grow_images=80, every_s=0.2,
    ))
"""


@pytest.mark.slow
def test_several_processes_save_together_and_go_on(rows: Path, vae: Path, tmp_path: Path) -> None:
    """The first process is asked to end and hands it on; all stop at the same step."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def started(run: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(script), str(run), str(rows), str(vae)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert started(whole).wait(timeout=500) == 0
    first = started(parts)
    while not (parts / "checkpoint" / "state.json").exists():
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=300) == 128 + signal.SIGTERM
    stopped = load_run(parts / "checkpoint")
    assert stopped is not None and 0 < stopped[1]["seen_images"] < 320
    assert started(parts).wait(timeout=500) == 0
    for rank in (0, 1):
        one, two = (load_run(run / "checkpoint", rank) for run in (whole, parts))
        assert one is not None and two is not None and one[1] == two[1]
        for key, values in one[0].items():
            assert torch.equal(values, two[0][key]), key
    assert [sum(line["images"] for line in _log(run)) for run in (whole, parts)] == [320] * 2


def _log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


class _Slow(torch.nn.Module):
    """One weight; a step of it takes as long as `Training` believes that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))


def _toy(config: RecipeConfig) -> Training:
    model = _Slow()
    return Training(config, {"model": model}, [torch.optim.Adam(model.parameters())])


def _step(training: Training) -> None:
    noise = torch.randn(1, generator=training.generator("noise"))
    (training.modules["model"].weight * noise).sum().backward()
    training.update(loss=float(noise))


def _config(run: Path, **options: Any) -> RecipeConfig:
    return RecipeConfig(**(SHARED | {"run": run, "lr": 0.1} | options))


def test_a_time_becomes_a_number_of_images_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("consistent_gen.training.loop.time.monotonic", lambda: clock[0])
    config = _config(tmp_path, within_s=100.0)

    training, steps = _toy(config), 0
    for _ in training.steps():
        _step(training)
        clock[0] += 10.0 if steps == 0 else 1.0  # the first step is slow and does not count
        steps += 1
        if steps == 20:
            training.save()
            break
    assert steps == 20 and training.images == pytest.approx(BATCH * 91, abs=2 * BATCH)
    again = _toy(config)
    assert again.seen == 20 * BATCH and again.images == training.images
    for _ in again.steps():
        clock[0] += 50.0
        _step(again)
    assert again.seen == again.images
    longer = _toy(replace(config, within_s=0.0, images=int(again.images) + BATCH))
    assert longer.images == again.images + BATCH, "a number that is given counts"


def test_a_kill_between_checkpoints_repeats_what_came_after_the_last(tmp_path: Path) -> None:
    config = _config(tmp_path)
    training = _toy(config)
    for seen in training.steps():
        _step(training)
        if seen == 2 * BATCH:
            training.save()
        if seen == 4 * BATCH:
            training.log.write(seen=training.seen)  # a line without its checkpoint
            break
    whole, again = _toy(_config(tmp_path / "whole")), _toy(config)
    assert again.seen == 3 * BATCH
    for part in (again, whole):
        for _ in part.steps():
            _step(part)
    assert torch.equal(again.modules["model"].weight, whole.modules["model"].weight)
    assert sum(line["images"] for line in _log(tmp_path)) == BATCH * STEPS
    assert len(list((tmp_path / "checkpoint").glob("tensors-*"))) == 2


def test_a_checkpoint_of_earlier_versions_is_gone_on_from(tmp_path: Path) -> None:
    """Everything lay in one file, and the state said what was seen."""
    config = _config(tmp_path)
    training = _toy(config)
    for seen in training.steps():
        _step(training)
        if seen == BATCH:
            training.save()
            break
    folder = tmp_path / "checkpoint"
    (folder / "state.json").write_text('{"seen_images": 8}')
    (folder / "tensors-8.safetensors").rename(folder / "tensors.safetensors")
    again = _toy(config)
    assert again.seen == 2 * BATCH
    assert torch.equal(again.modules["model"].weight, training.modules["model"].weight)


def test_the_rate_warms_up_stays_and_decays(tmp_path: Path) -> None:
    config = _config(tmp_path, warmup_images=10, images=100, decay_share=0.5)
    rates = [learning_rate(config, seen, 100) for seen in range(101)]
    assert rates[0] == pytest.approx(0.01) and rates[10:51] == [0.1] * 41
    assert rates[75] == pytest.approx(0.05) and rates[100] == 0.0
    assert learning_rate(config, 90, float("inf")) == 0.1
