"""Errors as messages: what a handler raises on purpose becomes a sentence on the page."""

from __future__ import annotations

import functools
import html
import inspect
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from gradio import queueing, route_utils, routes, utils
from pydantic import ValidationError

from consistent_gen.errors import ConsistentGenError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_log = logging.getLogger("ui.faults")


# How the server names a place in a request; on the page scenes are counted from 1.
_FRAME = re.compile(r"\bframes\[(\d{1,3})\](?:\.\w+)?: ")


class _Brief:
    """Stands for `traceback` inside gradio: a fault is one line that says where it happened."""

    def __getattr__(self, name: str) -> Any:
        return getattr(traceback, name)

    def print_exc(self, *_: object, **__: object) -> None:
        """Log the place. Messages of foreign errors may quote what somebody typed."""
        error = sys.exc_info()[1]
        if error is None or isinstance(error, gr.Error):
            return
        frames = traceback.extract_tb(error.__traceback__)[::-1]
        places = " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in frames)
        _log.error("fault in the studio: %s at %s", type(error).__name__, places)


def quiet_faults() -> None:
    """Let gradio log faults as the server does, and what a browser sends wrong not at all."""
    for module in (queueing, routes, route_utils, utils):
        module.traceback = _Brief()  # type: ignore[attr-defined]


def warn(text: str) -> None:
    """Show a warning. Gradio reads messages as HTML, so what people typed is escaped."""
    gr.Warning(_lines(text), title="That did not work", duration=None)


def tell(text: str) -> None:
    """Show something good to know."""
    gr.Info(_lines(text), title="Studio", duration=5)


def readable(error: Exception) -> str:
    """An error as sentences for people. Values that somebody typed are not repeated at length."""
    if isinstance(error, ValidationError):
        parts = []
        for problem in error.errors(include_input=False, include_url=False)[:5]:
            place = " ".join(str(part) for part in problem["loc"])
            parts.append(f"{place}: {problem['msg']}")
        return "\n".join(parts)
    return _FRAME.sub(lambda found: f"Scene {int(found[1]) + 1}: ", str(error)) or "It failed."


def guarded(handler: Callable[_P, _R]) -> Callable[_P, _R]:
    """A handler (function or generator) that warns instead of raising, and then changes nothing.

    Only errors meant for people are caught; a fault of ours still reaches the log.
    """
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                yield from handler(*args, **kwargs)
            except (ConsistentGenError, ValidationError) as error:
                warn(readable(error))
                yield gr.skip()

        return stream  # type: ignore[return-value]

    @functools.wraps(handler)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return handler(*args, **kwargs)
        except (ConsistentGenError, ValidationError) as error:
            warn(readable(error))
            unchanged: Any = gr.skip()
            return unchanged  # type: ignore[no-any-return]

    return call


def _lines(text: str) -> str:
    return "<br>".join(html.escape(line) for line in text.splitlines())
