"""Loading a model for a command: allocator first, libraries quiet, a spinner while it lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consistent_gen.runtime import tune_allocator

if TYPE_CHECKING:
    from consistent_gen.models.backbone import Backbone


def load_model(path: str | None) -> Backbone:
    """The model in the folder `path`, or the shipped one.

    Raises:
        CheckpointError: the folder is missing or cannot be loaded.
    """
    tune_allocator()
    from consistent_gen.cli.progress import waiting

    with waiting("loading the model"):
        import diffusers
        import transformers

        # Their bars would stand between ours.
        transformers.utils.logging.disable_progress_bar()
        diffusers.utils.logging.disable_progress_bar()

        from consistent_gen.models import load_backbone

        return load_backbone(path)
