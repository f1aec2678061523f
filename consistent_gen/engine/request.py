"""What to draw: one frame as data, checked before any work starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from consistent_gen.attention.roles import Subject as Subject
from consistent_gen.draw_settings import LEFT, MAX_SEED, OFF, SETTINGS, DrawSettings
from consistent_gen.engine.coupling import Coupling, Identities
from consistent_gen.errors import InputError, LimitError
from consistent_gen.registry import unknown_name

if TYPE_CHECKING:
    import numpy as np

    from consistent_gen.engine.redrawing import Redrawing
    from consistent_gen.models.backbone import Backbone

Preview = Literal["none", "linear", "decode"]
PREVIEWS = ("none", "linear", "decode")
_MAX_STEPS = int(SETTINGS["steps"].high)
# Share of the steps after which a picture is moved: where figures stand is decided by then, and
# what the edges need is still drawn (docs/adapters.md).
MOVED_AT = 0.35


@dataclass(frozen=True, kw_only=True)
class FrameRequest:
    """One picture to draw.

    Attributes:
        prompt, negative: the words for and against; `negative` acts only with guidance.
        seed: 0..2**63 - 1; all randomness of the frame comes from it.
        settings: how it is drawn.
        preview, preview_every: what a `Step` event shows and on every how-many-th step; "linear"
            costs almost nothing, "decode" runs the autoencoder.
        id: name in events; None lets the engine choose.
        after: ids of frames that must be finished before this one starts.
        behind: ids of frames that stay at least `behind_by` steps ahead of this one (one, so that
            step k can read what they left at step k), or are finished. They must have the same
            steps and scheduler.
        given: ids of frames, all of them among `after`, whose finished pictures a network that was
            trained to look at pictures is given; the coupling has them (`Coupling.picture`).
        alone_for: steps, the first ones, that the frame makes in calls of its own where calls have
            a fixed size, fewer than it makes: while others wait for it, a whole call for its rows
            would be mostly empty.
        coupling: ties the frame to others inside the model (see `coupling.Coupling`).
        subjects: where the prompt names whom, for attention policies.
        hidden: the frame is a means to others; it is not decoded, and only its failure is an event.
        twin_of: the frame whose first pass this is; it is hidden too.
        reference: a picture, uint8 [h w 3] of the frame's size, that stands in for the drawing: at
            every step the latent is this picture noised to the step's level, and the model only
            looks at it. So a picture of the user's own can be what other frames read.
        redrawing: a finished picture of which only a part is drawn (see `engine.redrawing`); what
            comes out has that picture's size.
        moved: how far to the right what is drawn is moved, as a share of the width from -0.5 to
            0.5, once it is decided where everything stands (`MOVED_AT`): what the model draws in
            the middle stands elsewhere then. What leaves at one edge comes in at the other.
        identities: who is in the picture, as an identity adapter was told, beside `coupling`.
        method: name that goes into the metadata; "vanilla" is a frame on its own.
        story: further JSON values for the metadata (title, frame index, version).
    """

    prompt: str
    seed: int
    negative: str = ""
    settings: DrawSettings = field(default_factory=DrawSettings)
    preview: Preview = "none"
    preview_every: int = 1
    id: str | None = None
    after: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    behind_by: int = 1
    given: tuple[str, ...] = ()
    alone_for: int = 0
    coupling: Coupling | None = None
    subjects: tuple[Subject, ...] = ()
    hidden: bool = False
    twin_of: str | None = None
    reference: np.ndarray | None = field(default=None, compare=False)
    redrawing: Redrawing | None = field(default=None, compare=False)
    identities: Identities | None = field(default=None, compare=False)
    moved: float = 0.0
    method: str = "vanilla"
    story: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _whole("seed", self.seed, 0, MAX_SEED)
        _whole("preview_every", self.preview_every, 1, _MAX_STEPS)
        _whole("behind_by", self.behind_by, 1, _MAX_STEPS)
        _whole("alone_for", self.alone_for, 0, self.settings.steps - 1)
        if not -0.5 <= self.moved <= 0.5:
            raise LimitError(f"moved is {self.moved!r}; expected a share of the width, -0.5 to 0.5")
        if self.preview not in PREVIEWS:
            raise unknown_name("preview", self.preview, PREVIEWS)

    def with_settings(self, **changes: Any) -> FrameRequest:
        """The same request with other settings, by the names of `DrawSettings`."""
        return replace(self, settings=replace(self.settings, **changes))

    def settled(self, backbone: Backbone) -> FrameRequest:
        """The same request with what it leaves to the model: recommended settings and the size."""
        settings = self.settings.settled(backbone.recommended, backbone.default_size)
        return replace(self, settings=settings)

    @property
    def moves_at(self) -> int:
        """The number of steps after which what is drawn is moved; 0 for never."""
        return max(1, round(MOVED_AT * self.settings.steps)) if self.moved else 0

    @property
    def couplings(self) -> tuple[Coupling, ...]:
        """All that acts inside the model for this frame."""
        own = () if self.identities is None else (self.identities.coupling,)
        return own if self.coupling is None else (self.coupling, *own)

    def size(self, backbone: Backbone) -> tuple[int, int]:
        """(width, height) in pixels on this model."""
        return self.settings.size or backbone.default_size

    def check(self, backbone: Backbone) -> None:
        """Accept the request for this model or say what is wrong.

        Raises:
            InputError: a size that does not fit, a word the model never saw, too many steps.
            LimitError: larger than is accepted.
        """
        backbone.latent_shape(*self.size(backbone))
        backbone.check_prompt(self.prompt)
        if self.settings.guided:
            backbone.check_prompt(self.negative)
        if self.reference is not None:
            width, height = self.size(backbone)
            given = self.reference.shape, self.reference.dtype.name
            if given != ((height, width, 3), "uint8"):
                raise InputError(
                    f"the reference picture is {given[1]} {given[0]}; "
                    f"expected uint8 {(height, width, 3)}, the frame's size"
                )
        if self.settings.refine and backbone.refiner is None:
            raise InputError(
                f"refine is 1, but model {backbone.name!r} has no second stage; leave it out"
            )
        self._check_able(backbone)
        trained = int(backbone.scheduler_config.get("num_train_timesteps", _MAX_STEPS))
        _whole("steps", self.settings.steps, 1, trained)

    def _check_able(self, backbone: Backbone) -> None:
        """Refuse what the model's family cannot do and was asked for."""
        asked = {name: getattr(self.settings, name) for name in LEFT}
        for name, reason in backbone.unable.items():
            if name == "negative" and self.negative:
                raise InputError(unable_words(name, backbone.name, reason))
            own = backbone.recommended.get(name, OFF.get(name))
            if asked.get(name) not in (None, own):
                raise InputError(unable_words(name, backbone.name, reason))


def unable_words(name: str, model: str, reason: str) -> str:
    """What is said of a setting that a model cannot act on (`Backbone.unable`)."""
    return f"{name} does nothing with model {model!r}: {reason}; leave it out"


def _whole(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{name} must be a whole number, got {value!r}")
    if not low <= value <= high:
        raise LimitError(f"{name} {value} is out of range; expected {low} to {high}")
