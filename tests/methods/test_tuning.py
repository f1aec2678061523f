"""Settings of methods that a model's folder recommends: where they come from and where they act."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consistent_gen.checkpoints import weights_folder
from consistent_gen.cli.replay import recipe_named
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.methods import METHODS
from consistent_gen.methods.tuning import recipe_of, tuned
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.tiny import build_tiny


def model(folder: Path, recommended: Any = None) -> Backbone:
    place = build_tiny(folder / "model")
    if recommended is not None:
        (place / "recommended.json").write_text(json.dumps(recommended))
    return load_backbone(place, device="cpu")


def test_without_a_recommendation_methods_are_as_published(tmp_path: Path) -> None:
    plain = model(tmp_path, {"contours": 1.0})
    assert plain.recommended == {"contours": 1.0}
    for name in METHODS:
        assert tuned(name, plain) == recipe_of(name)


def test_what_the_folder_recommends_acts_and_overrides_win(tmp_path: Path) -> None:
    settings = {"anchors": 1, "window": {"skip": 0, "branches": ["cond"]}}
    backbone = model(tmp_path, {"methods": {"consistory": settings}})
    found = tuned("consistory", backbone)
    sharing, mixing, injection = found.rules
    assert (found.anchors, sharing.window.skip, sharing.window.branches) == (1, 0, ("cond",))
    assert (mixing.window.skip, mixing.window.steps) == (0, (0.0, 0.11))
    published = recipe_of("consistory").rules
    assert (sharing.select, injection.mix) == (published[0].select, published[2].mix)
    more = tuned("consistory", backbone, ["anchors=3", "window.skip=2"])
    assert (more.anchors, more.rules[0].window.skip) == (3, 2)
    assert tuned("head_start", backbone) == recipe_of("head_start")
    # Pictures of a story are replayed by the same recipe.
    assert recipe_named(backbone, "consistory") == found


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"anchor": 1}, "anchors"), ({"anchors": "two"}, "anchors"), ({"window": {"skp": 1}}, "skip")],
)
def test_a_wrong_setting_names_the_file(tmp_path: Path, settings: Any, says: str) -> None:
    backbone = model(tmp_path, {"methods": {"consistory": settings}})
    with pytest.raises(InputError, match=says) as caught:
        tuned("consistory", backbone)
    assert "recommended.json" in str(caught.value)


@pytest.mark.parametrize("methods", [[], {"consistory": 1}, "consistory"])
def test_a_damaged_recommendation_is_refused_on_loading(tmp_path: Path, methods: Any) -> None:
    with pytest.raises(CheckpointError, match=r"methods.*recommended\.json"):
        model(tmp_path, {"methods": methods})


def test_the_shipped_recommendation_fits_the_methods() -> None:
    backbone = load_backbone(weights_folder("storyworld"), device="cpu")
    assert backbone.method_settings
    for name in backbone.method_settings:
        assert tuned(name, backbone).anchors == 1
