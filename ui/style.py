"""How the studio looks: storybook paper by day, lamp light by night.

The colours live in `assets/studio.css` as variables; the theme hands the same ones to Gradio's own
components, so that both agree in light and dark. Fonts come with Gradio, nothing is fetched; of
those it carries only some have the Latin letters (its Lora and Source Sans 3 do not).
"""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

import gradio as gr

ASSETS = Path(__file__).resolve().parent / "assets"
# Gradio name -> variable of studio.css; the variable itself changes with the mode.
_COLOURS = {
    "body_background_fill": "--paper",
    "body_text_color": "--ink",
    "body_text_color_subdued": "--soft",
    "background_fill_primary": "--card",
    "background_fill_secondary": "--paper",
    "block_background_fill": "--card",
    "block_border_color": "--line",
    "block_info_text_color": "--soft",
    "block_label_background_fill": "--card",
    "block_label_border_color": "--line",
    "block_label_text_color": "--soft",
    "block_title_text_color": "--soft",
    "panel_background_fill": "--card",
    "panel_border_color": "--line",
    "border_color_primary": "--line",
    "border_color_accent": "--accent",
    "color_accent": "--accent",
    "color_accent_soft": "--accent-soft",
    "link_text_color": "--accent",
    "link_text_color_hover": "--accent",
    "link_text_color_active": "--accent",
    "link_text_color_visited": "--accent",
    "input_background_fill": "--field",
    "input_background_fill_focus": "--field",
    "input_border_color": "--line",
    "input_border_color_focus": "--accent",
    "input_placeholder_color": "--faint",
    "checkbox_background_color": "--field",
    "checkbox_background_color_selected": "--accent",
    "checkbox_border_color": "--faint",
    "checkbox_border_color_selected": "--accent",
    "checkbox_label_background_fill": "--field",
    "checkbox_label_background_fill_selected": "--accent-soft",
    "checkbox_label_background_fill_hover": "--accent-soft",
    "checkbox_label_text_color": "--ink",
    "checkbox_label_text_color_selected": "--ink",
    "button_primary_background_fill": "--accent",
    "button_primary_background_fill_hover": "--accent-deep",
    "button_primary_border_color": "--accent",
    "button_primary_text_color": "--on-accent",
    "button_secondary_background_fill": "--field",
    "button_secondary_background_fill_hover": "--accent-soft",
    "button_secondary_border_color": "--line",
    "button_secondary_text_color": "--ink",
    "button_cancel_background_fill": "--field",
    "button_cancel_background_fill_hover": "--accent-soft",
    "button_cancel_border_color": "--bad",
    "button_cancel_text_color": "--bad",
    "slider_color": "--accent",
    "table_border_color": "--line",
    "table_even_background_fill": "--card",
    "table_odd_background_fill": "--paper",
    "error_text_color": "--bad",
}
_SHAPES = {
    "block_radius": "14px",
    "block_shadow": "none",
    "block_border_width": "1px",
    "block_label_text_size": "0.8rem",
    "block_title_text_weight": "600",
    "container_radius": "14px",
    "input_border_width": "1px",
    "input_radius": "9px",
    "input_shadow": "none",
    "button_border_width": "1px",
    "button_large_radius": "12px",
    "button_medium_radius": "10px",
    "button_small_radius": "9px",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
    "shadow_drop": "none",
    "shadow_drop_lg": "none",
}
HEAD = '<meta name="color-scheme" content="light dark">'
SWITCH_LIGHT = """() => {
  const dark = document.body.classList.toggle('dark');
  localStorage.setItem('studio-light', dark ? 'dark' : 'light');
}"""


def theme() -> gr.themes.Base:
    """The theme for `gr.mount_gradio_app`."""
    made = gr.themes.Base(
        font=[gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "system-ui"],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "monospace"],
        text_size=gr.themes.sizes.text_md,
        spacing_size=gr.themes.sizes.spacing_md,
    )
    known = inspect.signature(made.set).parameters
    values: dict[str, Any] = dict(_SHAPES)
    for name, variable in _COLOURS.items():
        for key in (name, f"{name}_dark"):
            if key in known:
                values[key] = f"var({variable})"
    return made.set(**values)


@functools.cache
def css() -> str:
    """All style sheets of the studio."""
    sheets = ("studio.css", "desk.css", "panels.css", "personas.css")
    return "\n".join((ASSETS / sheet).read_text(encoding="utf-8") for sheet in sheets)


@functools.cache
def script(name: str) -> str:
    """The JavaScript `assets/NAME.js`."""
    return (ASSETS / f"{name}.js").read_text(encoding="utf-8")
