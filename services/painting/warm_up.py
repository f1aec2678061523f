"""From settings to a painter that is ready: model loaded, bucket chosen, first frame drawn.

The bucket is measured once per model, machine and software and kept in the data folder, since the
last bits of pictures depend on it: all workers of a server and all its restarts must agree.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from consistent_gen.checkpoints import atomic_file
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.errors import ConsistentGenError, OutputError
from consistent_gen.runtime import versions
from consistent_gen.story.best_of import ScoresFrames
from services.settings import EngineSettings, Settings

if TYPE_CHECKING:
    from consistent_gen.engine.request import Preview
    from consistent_gen.models.backbone import Backbone
    from services.painting.painter import Painter

PROFILES = "buckets"
# A decoded preview may take this share of the time of the steps between two previews.
_PREVIEW_SHARE = 0.25
_log = logging.getLogger("services.worker")


def painter_maker(
    settings: Settings,
    *,
    threads: int | None = 1,
    exact: bool | None = None,
    late_join: bool = True,
    scorer: ScoresFrames | None = None,
) -> Callable[[], Painter]:
    """A function that makes a warm painter, as `Worker` wants it.

    threads: of torch on a CPU; None leaves its default. exact: see `engine.Engine`. late_join,
    scorer: see `Painter`.
    """

    def make() -> Painter:
        import torch

        from services.painting.painter import Painter

        if threads is not None:
            torch.set_num_threads(threads)
        _quiet_libraries()
        backbone = loaded(settings.engine)
        bucket = settings.engine.bucket or bucket_for(backbone, settings.storage.data_dir)
        preview = warm_up(backbone, bucket, settings.engine.preview_every)
        return Painter(
            backbone,
            bucket=bucket,
            exact=exact,
            max_frames=settings.engine.max_frames,
            preview=preview,
            late_join=late_join,
            scorer=scorer,
        )

    return make


def loaded(engine: EngineSettings) -> Backbone:
    """The model that settings name, as they want it loaded.

    Raises:
        As `models.load_backbone`.
    """
    from consistent_gen.models import load_backbone

    return load_backbone(
        engine.model, dtype=engine.dtype, loras=engine.lora_files, offload=engine.offload
    )


def bucket_for(backbone: Backbone, folder: Path) -> int:
    """The bucket that was measured for this model here before, else measured now.

    When two processes measure at once, both take the one that was written first.
    """
    from consistent_gen.engine.exactness import MAX_BUCKET, best_bucket
    from consistent_gen.engine.metadata import machine

    facts = {"model": backbone.sha256, "dtype": str(backbone.dtype), **machine(backbone)}
    text = json.dumps([facts, versions()], sort_keys=True)
    path = folder / PROFILES / hashlib.sha256(text.encode()).hexdigest()[:20]
    bucket = _read(path, MAX_BUCKET)
    if bucket is not None:
        return bucket
    measured = best_bucket(backbone)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path.with_suffix(f".{os.getpid()}")) as temporary:
            temporary.write_text(f"{measured}\n", encoding="utf-8")
        os.link(path.with_suffix(f".{os.getpid()}"), path)  # fails if somebody was first
    except FileExistsError:
        pass
    except (OSError, OutputError):
        _log.warning("the bucket cannot be kept in %s; it is measured at every start", folder)
    finally:
        path.with_suffix(f".{os.getpid()}").unlink(missing_ok=True)
    return _read(path, MAX_BUCKET) or measured


def warm_up(backbone: Backbone, bucket: int, preview_every: int) -> Preview:
    """Draw a small frame, so that the first user does not wait; returns how to make previews:
    decoded where that costs little beside the steps, else a linear guess.

    Raises:
        ConsistentGenError: the model cannot draw; the engine's own error.
    """
    from consistent_gen.engine import Engine, FrameError, FrameRequest

    engine = Engine(backbone, bucket=bucket)
    size = backbone.trial_size
    settings = DrawSettings(steps=2, size=size)
    request = FrameRequest(prompt="", seed=0, settings=settings, preview="linear")
    started = time.perf_counter()
    for event in engine.run([request]):
        if isinstance(event, FrameError):
            raise ConsistentGenError(f"the warm-up frame failed: {event.error}")
    engine.submit(FrameRequest(prompt="", seed=0, settings=settings))
    stepped = time.perf_counter()
    engine.step()
    step_s = time.perf_counter() - stepped
    shape = backbone.latent_shape(*size)
    import torch

    decoded = time.perf_counter()
    backbone.decode(torch.zeros(1, *shape))
    decode_s = time.perf_counter() - decoded
    _log.info("warm after %.1f s: bucket %d", time.perf_counter() - started, bucket)
    # A call serves bucket / 2 frames, each of which is decoded by itself.
    between_s = step_s * max(preview_every, 1) * 2 / bucket
    return "decode" if decode_s <= _PREVIEW_SHARE * between_s else "linear"


def _read(path: Path, most: int) -> int | None:
    try:
        bucket = int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return bucket if 2 <= bucket <= most else None


def _quiet_libraries() -> None:
    """Their progress bars do not belong into a server's log."""
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
