"""How a picture is drawn, apart from what it shows: every setting in one place.

Beside each field of `DrawSettings` stand its default, its meaning with the unit, and its range.
Story files, options of the command line, HTTP requests, leases, PNG metadata, replay, what a model
may recommend and the studio's controls are read from there.

A new setting takes three files: a field here, the code that acts on it, and its line in
`client.types.StoryIn`, where users of the API see its type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from consistent_gen.errors import InputError, LimitError, all_of
from consistent_gen.registry import unknown_name

SCHEDULERS: dict[str, str] = {
    "ddim": "consistent_gen.engine.schedulers:ddim",
    "dpm": "consistent_gen.engine.schedulers:dpm",
}
MAX_SEED = 2**63 - 1

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


@dataclass(frozen=True, kw_only=True)
class SettingFacts:
    """What is known of a setting beside its name and its default.

    Attributes:
        kind: of its values: `int` (whole numbers), `float` (numbers), `str` (one of `options`) or
            `tuple` (width and height in pixels).
        about: its meaning and unit in a line, for help texts and the schema of the HTTP API.
        low, high: inclusive range of numbers, and of both sides of a size.
        sign: what stands for the value in help texts, such as N.
        label: what a picture's text for people calls it; with "" it is not named there.
        off: the value that changes nothing, for a setting that is left to the model (default None),
            where it holds if the model recommends none, and for one that pictures are older than.
        needs: what of a model it acts on (`diffusion.seam.Seam.lacks`), "" for what all have.
        lacking: the value that holds for a model without that, None for `off`.
        offered: whether stories, options and requests may name it.
        slider: highest value that a slider offers, None for no slider.
    """

    kind: type
    about: str
    low: float = 0
    high: float = 0
    options: tuple[str, ...] = ()
    sign: str = "N"
    label: str = ""
    off: float | None = None
    needs: str = ""
    lacking: float | None = None
    offered: bool = True
    slider: float | None = None

    def mistake(self, name: str, value: object) -> InputError | None:
        """What is wrong with `value` for the setting called `name`, ready to raise, or None."""
        if self.kind is str:
            known = isinstance(value, str) and value in self.options
            return None if known else unknown_name(name, str(value)[:40], self.options)
        if self.kind is tuple:
            return _size_mistake(name, value, self)
        number = isinstance(value, (int, self.kind)) and not isinstance(value, bool)
        finite = not isinstance(value, float) or math.isfinite(value)
        if not isinstance(value, (int, float)) or not number or not finite:
            words = "whole number" if self.kind is int else "number"
            return InputError(f"{name} must be a {words}, not {str(value)[:40]!r}")
        if not self.low <= value <= self.high:
            given = f"{value:g}" if isinstance(value, float) else str(value)[:40]
            return LimitError(f"{name} is {given}; expected a number from {self.range_words}")
        return None

    @property
    def range_words(self) -> str:
        """Its range, for messages: "0 to 100"."""
        high = "2^63 - 1" if self.high == MAX_SEED else f"{self.high:g}"
        return f"{self.low:g} to {high}"

    def parse(self, text: str) -> Any:
        """The value that `text` spells on a command line; its range is not checked.

        Raises:
            InputError: it spells none.
        """
        if self.kind is int:
            return parse_whole(text)
        if self.kind is float:
            try:
                return float(text)
            except ValueError:
                raise InputError(f"{text[:40]!r} is not a number") from None
        return parse_size(text) if self.kind is tuple else text


def _setting(default: Any, about: str, **facts: Any) -> Any:
    return field(default=default, metadata={"setting": SettingFacts(about=about, **facts)})


@dataclass(frozen=True, kw_only=True)
class DrawSettings:
    """How a picture is drawn. None leaves a choice to the model that draws (see `settled`).

    Raises:
        InputError, LimitError, UnknownNameError: values that are none or out of range; all at once.
    """

    steps: int = _setting(
        25, "denoising steps per frame", kind=int, low=1, high=1000, slider=150, label="Steps"
    )

    scheduler: str = _setting(
        "ddim", f"one of: {', '.join(SCHEDULERS)}", kind=str, sign="NAME", label="Sampler",
        options=tuple(SCHEDULERS),
    )  # fmt: skip

    # Scale of classifier-free guidance (arXiv 2207.12598, with w + 1). At 1 the row without the
    # prompt is not computed.
    guidance: float = _setting(
        5.0, "how strongly prompts bind", kind=float, high=100, sign="G", label="CFG scale",
        needs="guidance", lacking=1.0,
    )  # fmt: skip

    # phi of arXiv 2305.08891, equation 16. A matter of the model, so nobody else is asked.
    guidance_rescale: float | None = _setting(
        None, "how far guidance keeps contrast as it was; 0 is off", kind=float, high=1, off=0.0,
        offered=False,
    )  # fmt: skip

    # Scale of perturbed-attention guidance (arXiv 2403.17377). In every second step the row without
    # the prompt has identity maps for self-attention and this scale takes the place of `guidance`,
    # at no further cost. Off without guidance.
    contours: float | None = _setting(
        None, "how clear shapes are drawn; 0 is off", kind=float, high=100, off=0.0, sign="C",
        label="Contours", needs="maps",
    )  # fmt: skip

    # Guidance at low noise levels changes little and can harm (arXiv 2404.07724), and later steps
    # compute one row instead of two.
    guidance_until: float | None = _setting(
        None, "share of the steps that are guided, the first ones; fewer are faster", kind=float,
        high=1, off=1.0, sign="SHARE", needs="unprompted rows", lacking=0.0,
    )  # fmt: skip

    # A step goes on from what the last one left, its errors included. The last steps may begin anew
    # instead, from the picture so far and noise of their own (`engine.schedulers.Retouching`).
    retouch: float | None = _setting(
        None, "share of the steps, the last ones, that retouch what the others drew; 0 is off",
        kind=float, high=1, off=0.0, sign="SHARE", needs="noise",
    )  # fmt: skip

    # A second stage (`models.refiner`) draws the finished picture from the prediction.
    refine: int | None = _setting(
        None, "1: the model's second stage finishes the picture, at twice the size; 0: it does not",
        kind=int, high=1, off=0, sign="0|1",
    )  # fmt: skip

    # Cells of the latent show in a picture until it is looked at from between them
    # (`engine.polishing`).
    polish: int | None = _setting(
        None, "1: the finished picture is looked at once more from between the cells of its latent",
        kind=int, high=1, off=0, sign="0|1", needs="noise",
    )  # fmt: skip

    # Acts on characters with reference pictures, where an identity adapter fits the model
    # (`story.identity`), beside what the method does with these pictures.
    likeness: float = _setting(
        1.0, "how closely an adapter follows reference pictures; 0 is off", kind=float, high=2,
        off=0.0, sign="L",
    )  # fmt: skip

    # (width, height) that the denoiser draws at; None is the model's own size.
    size: tuple[int, int] | None = _setting(
        None, "pixels, such as 128x128", kind=tuple, low=32, high=2048, sign="WxH"
    )

    def __post_init__(self) -> None:
        if found := mistakes(vars(self)):
            raise all_of(found.values())

    @property
    def guided(self) -> bool:
        """Whether any step takes two rows of a denoiser call, with and without the prompt."""
        return self.guided_steps > 0

    @property
    def guided_steps(self) -> int:
        """How many steps, the first ones, take two rows."""
        until = OFF["guidance_until"] if self.guidance_until is None else self.guidance_until
        guided = 0 if self.guidance == 1.0 else math.floor(until * self.steps + 0.5)
        return min(guided, self.steps)

    @property
    def retouching_steps(self) -> int:
        """How many steps, the last ones, retouch the picture; the first one draws it."""
        share = OFF["retouch"] if self.retouch is None else self.retouch
        return min(math.floor(share * self.steps + 0.5), self.steps - 1)

    def settled(
        self, recommended: Mapping[str, float], default_size: tuple[int, int]
    ) -> DrawSettings:
        """The same with a model's recommendations, and its size in pixels, for what is None."""
        return DrawSettings(**{**OFF, **recommended, "size": default_size, **self._said()})

    def to_json(self) -> dict[str, Any]:
        """The settings that are not left to the model, as plain JSON values by name."""
        return written(self._said())

    def _said(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


SETTINGS: Mapping[str, SettingFacts] = {f.name: f.metadata["setting"] for f in fields(DrawSettings)}
OFFERED = {name: setting for name, setting in SETTINGS.items() if setting.offered}
# The values that change nothing: of what is left to the model, and for older pictures.
OFF = {name: setting.off for name, setting in SETTINGS.items() if setting.off is not None}
# What is left to the model where nobody says it.
LEFT = {f.name for f in fields(DrawSettings) if f.default is None}
# What a model's folder may recommend: that, and the numbers that a story begins with.
RECOMMENDABLE = ("steps", "guidance", *(name for name in OFF if name in LEFT))


def unable(lacks: Mapping[str, str]) -> dict[str, str]:
    """What does nothing with a model, and why: settings by name, and "negative".

    lacks: what the model has not of what settings need, with the reason.
    """
    needs = {name: setting.needs for name, setting in SETTINGS.items()}
    needs["negative"] = "unprompted rows"
    return {name: lacks[need] for name, need in needs.items() if need in lacks}


def lacking(lacks: Mapping[str, str]) -> dict[str, float]:
    """The settings that hold for a model without what they need, where they are not off."""
    return {
        name: setting.lacking
        for name, setting in SETTINGS.items()
        if setting.needs in lacks and setting.lacking is not None
    }


# A choice among drawings, and no part of how one of them is drawn: so it is no field of
# `DrawSettings`, and a picture's replay needs the seed that was chosen and not this.
BEST_OF = SettingFacts(
    kind=int,
    low=1,
    high=8,
    slider=8,
    label="Best of",
    about="how many candidates of each frame are drawn; the one that shows its words and is most "
    "like its characters' other frames is kept",
)

# Like it a choice of the run: see `story.mending`.
MEND = SettingFacts(
    kind=int,
    high=4,
    slider=4,
    label="Drawn again",
    about="how often at most a character's first frame is drawn again when it shows headwear or a "
    "sad or angry face that nobody asked for",
)
USUAL_MEND = 2


@dataclass(frozen=True)
class GoneSetting:
    """A setting of earlier versions. off: the value that changed nothing; about: what it was, and
    what takes its place.
    """

    off: float
    about: str

    def mistake(self, name: str) -> InputError:
        """What is told to who names it still, ready to raise."""
        return InputError(f"{name} no longer exists: {self.about}")


GONE = {
    "stop_at": GoneSetting(
        1.0, "it left out the last steps of a drawing; use retouch, or fewer steps, instead"
    ),
}


def without_gone(said: Mapping[str, Any]) -> dict[str, Any]:
    """What was said, without settings of earlier versions that changed nothing: such a setting was
    written into stored requests and pictures whether anybody had chosen it or not.
    """
    return {
        name: value
        for name, value in said.items()
        if name not in GONE or value not in (None, GONE[name].off)
    }


def chosen(said: Mapping[str, Any], recommended: Mapping[str, float]) -> dict[str, Any]:
    """Settings as `said`, by name, with a model's own steps and guidance where they say none.

    What may be left to the model is left to it still (see `DrawSettings.settled`).
    """
    begun = {name: recommended[name] for name in ("steps", "guidance") if name in recommended}
    return {**begun, **said}


def mistakes(said: Mapping[str, Any]) -> dict[str, InputError]:
    """What is wrong with settings, by name, in the order of the fields; empty when nothing is."""
    found: dict[str, InputError] = {
        name: GONE[name].mistake(name) if name in GONE else unknown_name("setting", name, SETTINGS)
        for name in said
        if name not in SETTINGS
    }
    for name, setting in SETTINGS.items():
        if name in said and not (said[name] is None and name in LEFT):
            mistake = setting.mistake(name, said[name])
            if mistake is not None:
                found[name] = mistake
    return found


def written(said: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as story files and requests write them: a size is "128x96"."""
    return {
        name: f"{value[0]}x{value[1]}" if name == "size" else value for name, value in said.items()
    }


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of a text such as "128x96".

    Raises:
        InputError: it is not of that form.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None:
        raise InputError(f"{text[:40]!r} does not look like 128x128")
    return int(match[1]), int(match[2])


def parse_whole(text: str) -> int:
    """The whole number that `text` spells.

    Raises:
        InputError: it spells none, or one of more than 20 digits.
    """
    if not (text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()):
        raise InputError(f"{text[:40]!r} is not a whole number")
    if len(text) > 20:
        raise InputError(f"{text[:20]}... is too large")
    return int(text)


def fitting_mistake(size: tuple[int, int], multiple: int) -> InputError | None:
    """What is wrong with (width, height) for a model whose sides are multiples, or None."""
    for name, side in zip(("width", "height"), size, strict=True):
        if side % multiple:
            below = max(side - side % multiple, multiple)
            return InputError(
                f"the {name} is {side}, which is not a multiple of {multiple}; "
                f"use {below} or {below + multiple}"
            )
    return None


def costly_mistake(
    size: tuple[int, int], native: tuple[int, int], times: float
) -> LimitError | None:
    """What is wrong with (width, height) for a model of size `native` where a picture may have
    `times` as many latent tokens, or None. Attention compares every token with every other, so a
    step takes up to the square of that factor as long.
    """
    area, own = size[0] * size[1], native[0] * native[1]
    if area <= times * own:
        return None
    side = math.sqrt(times)
    return LimitError(
        f"{size[0]}x{size[1]} is {area / own:.3g} times as large as the model's own "
        f"{native[0]}x{native[1]}; at most {times:g} times, such as "
        f"{int(native[0] * side)}x{int(native[1] * side)}, is drawn here"
    )


def _size_mistake(name: str, value: object, setting: SettingFacts) -> InputError | None:
    whole = isinstance(value, tuple) and [type(side) for side in value] == [int, int]
    if not whole:
        return InputError(f"{name} must be width and height in pixels, not {value!r}")
    assert isinstance(value, tuple)
    for side_name, side in zip(("width", "height"), value, strict=True):
        if not setting.low <= side <= setting.high:
            return LimitError(
                f"the {side_name} is {side}; expected {setting.low:g} to {setting.high:g} pixels"
            )
    return None
