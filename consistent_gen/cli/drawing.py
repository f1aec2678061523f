"""Remembered identities to pictures: the drawer that `consistent-gen chat` gives its assistant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consistent_gen.memory.assistant import DrawJob
    from consistent_gen.memory.concepts import RememberedIdentity
    from consistent_gen.memory.embedders import Picture
    from consistent_gen.models.backbone import Backbone
    from consistent_gen.story.casting import Identity


def story_identity(identity: RememberedIdentity, folder: Path) -> Identity:
    """A remembered identity as the story engine casts it: words, noun and picture files.

    The reference pictures are written into ``folder``, named by their content. Whoever keeps the
    folder must remove it when the identity is forgotten.
    """
    import hashlib

    from consistent_gen.story.casting import Identity

    paths = []
    for data in identity.references:
        path = folder / f"{hashlib.sha256(data).hexdigest()[:16]}.png"
        path.write_bytes(data)
        paths.append(path)
    return Identity(
        name=identity.name, words=identity.words, noun=identity.noun, references=tuple(paths)
    )


def story_drawer(
    model: str | None, *, seed: int = 1, steps: int = 25
) -> Callable[[DrawJob], Picture]:
    """A drawer over one story model, loaded when the first picture is asked for.

    Each attempt has a seed of its own. The words draw; reference pictures are not used here.
    """
    from consistent_gen.cli.loading import load_model
    from consistent_gen.engine.events import FrameDone, FrameError
    from consistent_gen.engine.loop import Engine
    from consistent_gen.engine.request import FrameRequest
    from consistent_gen.errors import InputError
    from consistent_gen.runtime import frame_seed

    loaded: list[Backbone] = []

    def draw(job: DrawJob) -> Picture:
        if not loaded:
            loaded.append(load_model(model))
        backbone = loaded[0]
        unknown = backbone.unknown_words(job.prompt)
        if unknown:
            raise InputError(
                f"this model does not know the words {', '.join(unknown[:8])}; describe the "
                "character and the scene with words of `consistent-gen models --words`"
            )
        request = FrameRequest(
            prompt=job.prompt, seed=frame_seed(seed, job.attempt), steps=steps,
            negative=", ".join(w for i in job.identities for w in i.avoid),
        )  # fmt: skip
        for event in Engine(backbone, bucket=4).run([request]):
            if isinstance(event, FrameError):
                raise event.error
            if isinstance(event, FrameDone):
                return event.image
        raise AssertionError("the engine ended without a frame")

    return draw
