"""How events are wired: one place for what must hold for every one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from consistent_gen.draw_settings import SETTINGS, DrawSettings, SettingFacts
from consistent_gen.errors import InputError
from ui.messages import guarded
from ui.style import script

# Streams hold a thread while they wait for the server, so there is a bound on them.
MAX_STREAMS = 24
MAX_CALLS = 32
MAX_UPLOAD_BYTES = 20 << 20
_MEDIA_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}


def wire(
    event: Callable[..., Any],
    handler: Callable[..., Any],
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
    *,
    stream: bool = False,
    in_order: bool = False,
    **options: Any,
) -> Any:
    """Attach a handler to an event: private to this page, its errors shown as messages.

    stream: the handler goes on for as long as something is drawn. in_order: the answers to presses
    that follow each other fast arrive in the order of the presses.

    Our own HTTP interface is the public one; a visitor must not get round its checks and quotas.
    """
    limit, called = (MAX_STREAMS, "streams") if stream else (MAX_CALLS, "calls")
    if in_order:
        limit, called = 1, "in order"
    return event(
        guarded(handler),
        inputs=list(inputs or []),
        outputs=list(outputs or []),
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=limit,
        concurrency_id=called,
        **options,
    )


def setting_slider(name: str, elem_id: str) -> gr.Slider:
    """A slider for a setting of drawings, over the values that are worth choosing."""
    return slider_of(SETTINGS[name], getattr(DrawSettings, name), elem_id)


def slider_of(setting: SettingFacts, value: float, elem_id: str, info: str = "") -> gr.Slider:
    """The same for what is chosen beside the settings of drawings."""
    assert setting.slider is not None, f"{setting.label} has no slider"
    return gr.Slider(
        setting.low,
        setting.slider,
        value=value,
        step=1 if setting.kind is int else None,
        label=setting.label,
        info=info or None,
        elem_id=elem_id,
    )


def uploaded(path: object) -> tuple[bytes, str]:
    """The bytes and media type of a picture that the browser has just uploaded.

    Raises:
        InputError: no such upload (a path from elsewhere is never read), too large, no picture.
    """
    file = arrived(path)
    if file.stat().st_size > MAX_UPLOAD_BYTES:
        raise InputError(f"The picture is larger than {MAX_UPLOAD_BYTES >> 20} MiB.")
    data = file.read_bytes()
    kind = next((k for magic, k in _MEDIA_TYPES.items() if data.startswith(magic)), None)
    if kind is None:
        raise InputError("Only PNG, JPEG and WebP pictures can be read.")
    return data, kind


def arrived(path: object) -> Path:
    """The file that the browser has just uploaded; a path from elsewhere is never read.

    Raises:
        InputError: there is no such upload.
    """
    folder = Path(get_upload_folder()).resolve()
    file = Path(str(path)).resolve()
    if not file.is_relative_to(folder) or not file.is_file():
        raise InputError("That file did not arrive; choose it again.")
    return file


def file_value(path: str | None) -> dict[str, Any] | None:
    """A file inside the JSON of one of our own components; Gradio adds its address."""
    return None if path is None else {"path": path, "meta": {"_type": "gradio.FileData"}}


def plain_html(value: str = "", *, clicks: bool = False, **options: Any) -> gr.HTML:
    """HTML in our own style sheets alone. With `clicks`, its buttons raise the event `pick`."""
    js = script("clicks") if clicks else None
    return gr.HTML(value, js_on_load=js, apply_default_css=False, padding=False, **options)


def html_part(name: str, css_class: str, **options: Any) -> gr.HTML:
    """A component of our own: an empty element that the script `assets/NAME.js` fills.

    The template is constant on purpose. Gradio compiles templates into JavaScript, so text of users
    must never become part of one.
    """
    template = f'<div class="{css_class}"></div><p class="{css_class}-live" aria-live="polite"></p>'
    return gr.HTML(
        html_template=template,
        js_on_load=script(name),
        apply_default_css=False,
        padding=False,
        **options,
    )
