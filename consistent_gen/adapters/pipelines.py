"""An adapter in a stock diffusers pipeline, for the length of a block.

    with adapt(pipe, adapter) as drawing:
        drawing.show([mia])
        pipe("a girl in a meadow").images[0].save("mia.png")

It stands beside attention sharing: `with adapt(...), share(...)` in either order. The pipeline is
neither copied nor changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from consistent_gen.adapters.adapter import Adapter
from consistent_gen.adapters.fusing import Fusing
from consistent_gen.adapters.policy import Capture, IdentityTokens
from consistent_gen.adapters.references import CharacterRef
from consistent_gen.adapters.scales import ScalePlan
from consistent_gen.adapters.weights import places_of
from consistent_gen.attention.patch import attached
from consistent_gen.attention.rows import Branch, Call, Row
from consistent_gen.errors import InputError

_PICTURE = "picture"  # every row of a pipeline's call draws what was last shown


class AdaptedPipeline:
    """Says who is in the pictures that a pipeline draws; made by `adapt`."""

    def __init__(self, pipe: Any, adapter: Adapter, capture: Capture | None = None) -> None:
        self.pipe, self.adapter = pipe, adapter
        self.policy = adapter.policy(capture=capture)
        self._shown: IdentityTokens | None = None
        self._calls: list[Call] = []  # a method may call the UNet within a call

    def show(
        self,
        people: Sequence[CharacterRef],
        *,
        masks: Mapping[int, Tensor] | None = None,
        plan: ScalePlan | None = None,
        fusing: Fusing | None = None,
    ) -> IdentityTokens | None:
        """From now on pictures show these characters; nobody if there are none.

        Args and errors as of `Adapter.identities`, whose result is returned.
        """
        shown = None
        if people:
            shown = self.adapter.identities(people, masks=masks, plan=plan, fusing=fusing)
        self.policy.show(_PICTURE, shown)
        self._shown = shown
        return shown

    def before_call(self, _unet: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the UNet: announce the rows."""
        sample = args[0] if args else kwargs["sample"]
        time = args[1] if len(args) > 1 else kwargs["timestep"]
        times = self.pipe.scheduler.timesteps
        at = (times == time.to(times) if isinstance(time, Tensor) else times == time).nonzero()
        guided = self._guided()
        branches: tuple[Branch, ...] = ("uncond", "cond") if guided else ("cond",)
        if len(sample) % len(branches) or not len(at):
            raise InputError(
                f"the pipeline calls its UNet with {len(sample)} rows at time {float(time):g}; "
                f"expected {'two rows' if guided else 'a row'} per picture at one of its times"
            )
        count, step = len(sample) // len(branches), int(at[0])
        trained = int(self.pipe.scheduler.config.num_train_timesteps)
        rows = tuple(
            Row(slot, _PICTURE, branches[slot // count], step, len(times),
                (float(time) + 1) / trained)
            for slot in range(len(sample))
        )  # fmt: skip
        self._calls.append(Call(len(sample), (sample.shape[-2], sample.shape[-1]), rows))
        self.policy.begin(self._calls[-1])

    def after_call(self, _unet: Any, _args: Any, _output: Any) -> None:
        """Forward hook of the UNet: a call within a call leaves the outer one as it was."""
        if self._calls:
            self._calls.pop()
        self.policy.end()
        if self._calls:
            self.policy.begin(self._calls[-1])

    def before_control(self, _control: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Forward pre-hook of the ControlNet: it reads the tokens in place of the text."""
        if self._shown is None:
            return None
        named = "encoder_hidden_states" in kwargs
        text: Tensor = kwargs["encoder_hidden_states"] if named else args[2]
        # Without guidance, and where the ControlNet guesses, all rows have the prompt.
        guided = self._guided() and not kwargs.get("guess_mode", False)
        half = len(text) // 2 if guided else 0
        rows = [self._shown.uncond] * half + [self._shown.cond] * (len(text) - half)
        tokens = torch.stack(rows).to(text)
        if named:
            return args, {**kwargs, "encoder_hidden_states": tokens}
        return (*args[:2], tokens, *args[3:]), kwargs

    def _guided(self) -> bool:
        return bool(getattr(self.pipe, "do_classifier_free_guidance", False))


@contextmanager
def adapt(
    pipe: Any, adapter: Adapter, *, capture: Capture | None = None
) -> Iterator[AdaptedPipeline]:
    """Let an adapter act in a StableDiffusion(XL)Pipeline within a block.

    After the block the UNet is what it was, processors by identity. InstantID's tokens also take
    the place of the text in the pipeline's ControlNet, of several in the first.

    Raises:
        InputError: a pipeline without a UNet, or an adapter that was built for another one.
    """
    unet = getattr(pipe, "unet", None)
    if unet is None:
        raise InputError(
            f"a {type(pipe).__name__} has no UNet; expected a StableDiffusionPipeline "
            "or a StableDiffusionXLPipeline"
        )
    if places_of(unet) != adapter.places:
        raise InputError(
            f"this {adapter.title} was built for a UNet with {len(adapter.places)} attention "
            f"layers of other sizes; this one has {len(places_of(unet))}: load it for this one"
        )
    drawing = AdaptedPipeline(pipe, adapter, capture)
    with attached(unet, drawing.policy):
        hooks = [
            # Before the policies hear of the call.
            unet.register_forward_pre_hook(drawing.before_call, with_kwargs=True, prepend=True),
            unet.register_forward_hook(drawing.after_call, always_call=True),
        ]
        control = getattr(pipe, "controlnet", None)
        if adapter.feeds_control and control is not None:
            control = next(iter(getattr(control, "nets", [control])))
            hooks.append(
                control.register_forward_pre_hook(drawing.before_control, with_kwargs=True)
            )
        try:
            yield drawing
        finally:
            for hook in hooks:
                hook.remove()
