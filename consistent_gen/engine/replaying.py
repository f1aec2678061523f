"""Draw a picture again from what it says about itself, and tell how near it came."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from consistent_gen.draw_settings import GONE, OFF, SETTINGS, DrawSettings, without_gone
from consistent_gen.engine.coupling import Identities
from consistent_gen.engine.events import FrameDone
from consistent_gen.engine.loop import Engine
from consistent_gen.engine.metadata import IDENTITIES, LORAS, MOVED, REDRAWN, pixels_sha256
from consistent_gen.engine.redrawing import Redrawing
from consistent_gen.engine.request import FrameRequest
from consistent_gen.engine.sharing_record import KEY, RecipeOf, submit_again
from consistent_gen.errors import InputError
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.loras import Lora

# Rounding differences of kernels stay far above this; another picture stays far below.
CLOSE_PSNR_DB = 35.0
ALONE = "vanilla"  # the method whose frames stand on no others

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "model": dict,
    "prompt": str,
    "negative": str,
    "seed": int,
    "width": int,
    "height": int,
    "method": str,
    "story": dict,
    "bucket": (int, type(None)),
    "dtype": str,
    "machine": dict,
    "versions": dict,
    "pixels_sha256": str,
}


_SETTINGS = [name for name in SETTINGS if name != "size"]


@dataclass(frozen=True)
class ReplayResult:
    """How the new picture compares with the old one.

    max_abs_diff: largest difference of a colour value, 0..255; psnr: decibels, infinite when
    identical. reasons: what differs from when it was drawn, one sentence each.
    """

    verdict: Literal["identical", "close", "different"]
    max_abs_diff: int
    psnr: float
    reasons: tuple[str, ...]
    image: np.ndarray


def replay(
    image: np.ndarray,
    metadata: Mapping[str, Any],
    backbone: Backbone,
    recipe_of: RecipeOf | None = None,
) -> ReplayResult:
    """Draw the frame of `metadata` with `backbone` and compare it with `image`, uint8 [h w 3].

    A frame of a shared story says how its anchors were drawn; they are drawn again first.
    recipe_of: method name -> its recipe; without it only frames that stand alone are drawn.

    Raises:
        InputError: the metadata lack something, or the frame stands on what they do not hold.
    """
    request = request_of(metadata)
    _check_loras(metadata, backbone)
    last = _drawn(_engine_of(metadata, backbone), request, recipe_of)
    reasons = differences(metadata, last.metadata)
    if pixels_sha256(image) != metadata["pixels_sha256"]:
        reasons.append("the file's pixels were changed after it was drawn")
    return compare(image, last.image, reasons)


def redraw(
    image: np.ndarray,
    metadata: Mapping[str, Any],
    backbone: Backbone,
    mask: np.ndarray,
    *,
    seed: int,
    prompt: str | None = None,
    recipe_of: RecipeOf | None = None,
    identities: Identities | None = None,
) -> FrameDone:
    """Draw a part of a picture, uint8 [h w 3], again, as its metadata say; the rest stays.

    mask: bool [h w], True where it is drawn again. seed: of what is drawn. prompt: instead of the
    picture's own; it has to say the words that stand for the characters, if they are shared.
    recipe_of: as of `replay`; anchors of a shared story are drawn again first. identities: who is
    drawn, as an adapter was told: what a picture does not hold that was drawn after references.

    Raises:
        InputError: as `replay` and `Redrawing`, or the prompt lacks a character's words.
    """
    request = request_of(metadata)
    _check_loras(metadata, backbone)
    left = [REDRAWN, MOVED]
    if identities is not None and request.method == ALONE:  # else anchors are after pictures, too
        left.append(IDENTITIES)
    story = {k: value for k, value in request.story.items() if k not in left}
    if prompt is not None:
        story = _with_prompt(story, request.prompt, prompt, backbone)
    redrawing = Redrawing(picture=image, mask=mask)
    asked = replace(
        request, seed=seed, story=story, prompt=prompt or request.prompt, redrawing=redrawing,
        identities=identities,
    )  # fmt: skip
    return _drawn(_engine_of(metadata, backbone), asked, recipe_of)


def loras_of(metadata: Mapping[str, Any]) -> tuple[Lora, ...]:
    """The LoRAs that a picture was drawn with.

    Raises:
        InputError: its record of them is damaged.
    """
    model = metadata.get("model")
    said = model.get(LORAS, []) if isinstance(model, Mapping) else []
    found = []
    for entry in said if isinstance(said, list) else [said]:
        known = entry if isinstance(entry, dict) else {}
        sha256, weight = known.get("sha256"), known.get("weight")
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not isinstance(sha256, str) or weight is None or not number:
            raise InputError(f"the picture's metadata have a wrong LoRA: {str(entry)[:80]!r}")
        name = known.get("name")
        name = name if isinstance(name, str) else None
        found.append(Lora(sha256=sha256, weight=float(weight), name=name))
    return tuple(found)


def _check_loras(metadata: Mapping[str, Any], backbone: Backbone) -> None:
    """Refuse a model with other LoRAs than a picture was drawn with."""
    was, now = ({(lora.sha256, lora.weight): lora for lora in loras}
                for loras in (loras_of(metadata), backbone.loras))  # fmt: skip
    if missing := [lora.words for key, lora in was.items() if key not in now]:
        raise InputError(
            f"the picture was drawn with the LoRA {missing[0]}, which the model was not loaded "
            "with; name its file (--lora, or loras= in Python)"
        )
    if more := [lora.words for key, lora in now.items() if key not in was]:
        raise InputError(
            f"the model was loaded with the LoRA {more[0]}, which the picture was not drawn with; "
            "load it without"
        )


def _engine_of(metadata: Mapping[str, Any], backbone: Backbone) -> Engine:
    """An engine whose calls have the size of those that drew a picture."""
    bucket = metadata["bucket"]
    options: dict[str, Any] = {} if bucket is None else {"bucket": bucket}
    return Engine(backbone, exact=bucket is not None, **options)


def _with_prompt(
    story: Mapping[str, Any], old: str, new: str, backbone: Backbone
) -> dict[str, Any]:
    """The record of a shared frame with the places of its characters' words in another prompt."""
    record = story.get(KEY)
    if not isinstance(record, dict) or not isinstance(record.get("subjects"), list):
        return dict(story)
    was, now = ([*_tokens_read(backbone, text)] for text in (old, new))
    place_of = {token: place for place, token in reversed(now)}  # the first of equal ones
    words_at = dict(was)
    subjects = []
    for entry in record["subjects"]:
        name, tokens = entry if isinstance(entry, list) and len(entry) == 2 else ("?", [])
        words = [words_at[t] for t in tokens if isinstance(t, int) and t in words_at]
        if any(word not in place_of for word in words) or len(words) != len(tokens):
            number = words[0][0] if words else 0
            said = [token for by, token in words if by == number]
            raise InputError(
                f"the new prompt does not say the word that stands for {name}: "
                f"{backbone.readers[number].tokenizer.decode(said)!r}"
            )
        subjects.append([name, [place_of[word] for word in words]])
    return {**story, KEY: {**record, "subjects": subjects}}


def _tokens_read(backbone: Backbone, prompt: str) -> Iterator[tuple[int, tuple[int, int]]]:
    """Where each token of a prompt stands, and which it is: its reader's number, and its id."""
    for number, reader in enumerate(backbone.readers):
        for i, token in enumerate(reader.read(prompt)["input_ids"]):
            yield reader.first + i, (number, token)


def _drawn(engine: Engine, request: FrameRequest, recipe_of: RecipeOf | None) -> FrameDone:
    if IDENTITIES in request.story:
        raise InputError(
            "the picture was drawn after reference pictures of its characters, which it does not "
            "hold; draw the story file again instead"
        )
    if REDRAWN in request.story and request.redrawing is None:
        raise InputError(
            "a part of the picture was drawn again over an older one, which it does not hold; "
            "draw the older one again, and that part of it"
        )
    if request.method == ALONE:
        engine.submit(request)
    elif recipe_of is None:
        raise InputError(
            f"the picture was drawn with method {request.method!r}, which reads other frames of "
            "its story; draw the story file again instead"
        )
    else:
        submit_again(engine, request, recipe_of)
    (done,) = engine.drain().values()  # what it stands on is hidden
    return done


def request_of(metadata: Mapping[str, Any]) -> FrameRequest:
    """The request that drew a frame.

    Raises:
        InputError: a field is missing or of the wrong type, or a setting that was used is gone.
    """
    metadata = {**OFF, **without_gone(metadata)}  # older pictures name fewer settings
    for name in GONE.keys() & metadata.keys():
        raise InputError(
            f"the picture was drawn with {name} {str(metadata[name])[:20]} and cannot be drawn "
            f"again; {GONE[name].mistake(name)}"
        )
    for name in (*_FIELDS, *_SETTINGS):
        if name not in metadata:
            raise InputError(f"the picture's metadata lack {name!r}")
    for name, kind in _FIELDS.items():
        value = metadata[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"the picture's metadata have a wrong {name!r}: {value!r}")
    settings = DrawSettings(
        **{name: metadata[name] for name in _SETTINGS},
        size=(metadata["width"], metadata["height"]),
    )
    said = {name: metadata[name] for name in ("prompt", "negative", "seed", "story", "method")}
    moved = metadata["story"].get(MOVED, 0.0)
    if isinstance(moved, bool) or not isinstance(moved, (int, float)):
        raise InputError(f"the picture's metadata have a wrong {MOVED!r}: {moved!r}")
    return FrameRequest(**said, settings=settings, moved=float(moved))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What the two frames were not drawn alike in, one sentence each."""
    reasons = []
    if old["model"].get("sha256") != new["model"]["sha256"]:
        reasons.append(
            f"other model weights: drawn with {_model(old['model'])}, now {_model(new['model'])}"
        )
    was, now = (model.get("refiner") for model in (old["model"], new["model"]))
    if was != now:
        reasons.append(f"other second stage: drawn with {_short(was)}, now {_short(now)}")
    for name in ("bucket", "dtype"):
        if old[name] != new[name]:
            reasons.append(f"other {name}: drawn with {old[name]}, now {new[name]}")
    for part in ("machine", "versions"):
        for name in sorted({*old[part], *new[part]}):
            was, now = old[part].get(name), new[part].get(name)
            if was != now:
                reasons.append(f"other {name}: drawn with {was}, now {now}")
    if new["bucket"] is None:
        reasons.append("drawn in throughput mode, which does not promise equal bytes")
    return reasons


def compare(old: np.ndarray, new: np.ndarray, reasons: list[str]) -> ReplayResult:
    """The verdict on two pictures, uint8 [h w 3]."""
    if old.shape != new.shape:
        reasons = [*reasons, f"other size: {_size(old)} in the file, now {_size(new)}"]
        return ReplayResult("different", 255, 0.0, tuple(reasons), new)
    difference = np.abs(old.astype(np.int16) - new.astype(np.int16))
    worst = int(difference.max())
    if worst == 0:
        return ReplayResult("identical", 0, math.inf, tuple(reasons), new)
    error = float(np.mean(difference.astype(np.float64) ** 2))
    psnr = 10 * math.log10(255**2 / error)
    return ReplayResult(
        "close" if psnr >= CLOSE_PSNR_DB else "different", worst, psnr, tuple(reasons), new
    )


def _model(model: Mapping[str, Any]) -> str:
    return f"{model.get('name')} ({_short(model.get('sha256'))})"


def _short(sha256: object) -> str:
    return "none" if sha256 is None else str(sha256)[:10]


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
