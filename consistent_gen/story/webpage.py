"""index.html: the same page for a browser, with prompt and seed of every frame on demand.

One file without scripts and without requests to anywhere: its style is inline and its pictures
are the files beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from consistent_gen.story.layout import grid_for

_STYLE = """
:root { color-scheme: light dark; --paper: #faf6ee; --card: #fffdf8; --ink: #342e2a;
  --soft: #6b6058; --line: #e6dccb; --accent: #a85a28; --shadow: 70 50 30; }
@media (prefers-color-scheme: dark) { :root { --paper: #1d1a18; --card: #282421; --ink: #f2ebe1;
  --soft: #b9aea2; --line: #3d3732; --accent: #eda676; --shadow: 0 0 0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.55 "Aileron", "Avenir Next", "Nunito Sans", system-ui, sans-serif; }
header { padding: clamp(2rem, 6vw, 4.5rem) 1.25rem 1.5rem; text-align: center; }
h1 { margin: 0; font-size: clamp(2rem, 5vw, 3.25rem); line-height: 1.15; letter-spacing: -0.01em;
  text-wrap: balance; overflow-wrap: anywhere; }
header::after { content: "\\2022  \\2022  \\2022"; color: var(--accent); letter-spacing: 0.4em;
  display: block; margin-top: 0.75rem; }
main { max-width: calc(var(--columns) * 30rem); margin: 0 auto; padding: 1rem 1.25rem 3rem;
  display: grid; gap: clamp(1.25rem, 3vw, 2.25rem);
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 1rem;
  overflow: hidden; display: flex; flex-direction: column;
  box-shadow: 0 0.4rem 1.4rem rgb(var(--shadow) / 0.12); }
img { display: block; width: 100%; height: auto; }
img.pixel { image-rendering: pixelated; }
figcaption { padding: 1rem 1.25rem 0.9rem; display: flex; flex-direction: column; flex: 1; }
figcaption p { margin: 0 0 0.6rem; text-wrap: pretty; overflow-wrap: anywhere; }
details { margin-top: auto; font-size: 0.875rem; color: var(--soft); }
summary { cursor: pointer; width: fit-content; border-radius: 0.25rem; }
summary:hover { color: var(--accent); }
summary:focus-visible, a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
dl { margin: 0.5rem 0 0.25rem; display: grid; grid-template-columns: auto 1fr;
  gap: 0.15rem 0.9rem; }
dd { margin: 0; overflow-wrap: anywhere; color: var(--ink); }
code { font: 0.95em ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; }
footer { padding: 0 1.25rem 3rem; text-align: center; color: var(--soft); font-size: 0.875rem; }
a { color: inherit; }
@media print { details, footer { display: none; }
  figure { break-inside: avoid; box-shadow: none; } }
"""


@dataclass(frozen=True, kw_only=True)
class WebFrame:
    """What the web page shows of a frame. `path` is relative to the page, with forward slashes."""

    path: str
    width: int
    height: int
    prompt: str
    seed: int
    caption: str = ""
    negative: str = ""
    pixelated: bool = False
    scores: tuple[tuple[str, float], ...] = ()


def web_page(title: str, frames: list[WebFrame], made_with: str) -> str:
    """The text of index.html. `made_with` is a line for the foot: model, method, steps."""
    figures = "\n".join(_figure(i, frame) for i, frame in enumerate(frames))
    columns = min(grid_for(len(frames)).columns, 4)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<header><h1>{escape(title)}</h1></header>
<main style="--columns: {columns}">
{figures}
</main>
<footer>{escape(made_with)} &middot; <a href="page.png">page as one picture</a> &middot;
<a href="report.json">report</a></footer>
</body>
</html>
"""


def _figure(index: int, frame: WebFrame) -> str:
    kind = ' class="pixel"' if frame.pixelated else ""
    caption = f"\n<p>{escape(frame.caption)}</p>" if frame.caption else ""
    rows = [("Prompt", escape(frame.prompt))]
    if frame.negative:
        rows.append(("Not wanted", escape(frame.negative)))
    rows.append(("Seed", f"<code>{frame.seed}</code>"))
    rows += [(escape(name), f"{value:.3f}") for name, value in frame.scores]
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    return f"""<figure>
<img{kind} src="{escape(frame.path)}" width="{frame.width}" height="{frame.height}" \
alt="{escape(frame.prompt)}">
<figcaption>{caption}
<details><summary>Prompt and seed<span hidden> of frame {index + 1}</span></summary>
<dl>{listed}</dl></details>
</figcaption>
</figure>"""
