"""Loading a model for a command: libraries quiet, a spinner while it lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consistent_gen.models.backbone import Backbone


def load_model(
    path: str | None, attention_backend: str | None = None, dtype: str | None = None
) -> Backbone:
    """The model in the folder `path`, or the shipped one, with the named attention kernel.

    dtype: the number format to compute in (see `runtime.dtype`).

    Raises:
        CheckpointError: the folder is missing or cannot be loaded.
        As `attention.backends.select_backend`.
    """
    from consistent_gen.cli.progress import waiting

    with waiting("loading the model"):
        import diffusers
        import transformers

        # Their bars would stand between ours.
        transformers.utils.logging.disable_progress_bar()
        diffusers.utils.logging.disable_progress_bar()

        from consistent_gen.models import load_backbone

        backbone = load_backbone(path, dtype=dtype)
        if attention_backend is not None:
            from consistent_gen.attention.backends import select_backend

            select_backend(backbone.unet, attention_backend)
        return backbone
