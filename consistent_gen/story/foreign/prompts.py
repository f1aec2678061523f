"""Prompts of other programs: lists with names in brackets, workflows, prompts with weights."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from consistent_gen.story.foreign.found import Found, FoundFrame, clean_name

_LINE = re.compile(r"\[([^\[\]\n]{1,60})\]\s*(.*)")
_BRACKETS = re.compile(r"\[([^\[\]\n]{1,60})\]")
_REQUEST = ("general_prompt", "prompt_array")
_NO_STYLE = "(No style)"
_NOBODY = ("nc", "none", "no character")
_LORA = re.compile(r"<[^<>]{1,120}>")
_EMBEDDING = re.compile(r"\bembedding:[\w.-]+(?::[\d.]+)?")
_WEIGHT = re.compile(r"\(([^()]*?)\s*:\s*-?\d+(?:\.\d+)?\)")
_GROUP = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]|\{([^{}]*)\}")
_WORDS = re.compile(r"\b(?:BREAK|AND|ADDCOMM|ADDBASE)\b")
_NEGATIVE = re.compile(r"^\s*negative prompt\s*:\s*", re.IGNORECASE | re.MULTILINE)
_SETTINGS = re.compile(r"^\s*steps\s*:\s*\d+.*$", re.IGNORECASE | re.MULTILINE | re.DOTALL)
_SEED = re.compile(r"\bseed\s*:\s*(\d{1,18})\b", re.IGNORECASE)
_ROUNDS = 12  # brackets within brackets


def prompt_list(text: str) -> list[Found]:
    """Lines such as `[Bob] at home #He reads the paper.`; `[NC]` is a frame without characters.

    Names are described by the lines before the first empty one (or `---`); without such a line, by
    the first line of each name that comes again.
    """
    lines = [line.strip() for line in text.splitlines()]
    marked = [_LINE.fullmatch(line) for line in lines]
    if not any(marked) or any(line and not line.startswith(("-", "#")) and not mark
                              for line, mark in zip(lines, marked, strict=True)):  # fmt: skip
        return []
    found = Found()
    head = _head(lines)
    names = [m[1].strip() for m in marked if m]
    for place, mark in enumerate(marked):
        if mark is None:
            continue
        name, rest = mark[1].strip(), mark[2].strip()
        if name.lower() in _NOBODY:
            found.frames.append(_frame("", rest, found))
            continue
        known = clean_name(name)
        if known is None:
            found.notes.append(f"the line of [{name}] was left behind: no name for a story file")
        elif known not in found.characters and (place < head or names.count(name) > 1):
            found.characters[known] = rest.partition("#")[0].strip() or known
        else:
            found.characters.setdefault(known, known)
            found.frames.append(_frame(f"{{{known}}} ", rest, found))
    return [found] if found.frames else []


def _head(lines: list[str]) -> int:
    """The number of lines before the first that separates descriptions from frames."""
    for place, line in enumerate(lines):
        if place and (not line or line.startswith("--")) and any(lines[place:]):
            return place
    return 0


def _frame(start: str, rest: str, found: Found) -> FoundFrame:
    """A frame of a line without its first name. Names in brackets further on are names, too."""
    prompt, _, caption = rest.partition("#")
    known = {name: f"{{{name}}}" for name in found.characters}
    prompt = _BRACKETS.sub(lambda m: known.get(m[1].strip(), m[1]), prompt)
    return FoundFrame((start + prompt).strip(), caption=_BRACKETS.sub(r"\1", caption).strip())


def story_diffusion(value: Any) -> list[Found]:
    """Requests with a `general_prompt` that describes and a `prompt_array` with a line a frame."""
    found: list[Found] = []
    for request in value if isinstance(value, list) else [value]:
        texts = [request.get(k) for k in _REQUEST] if isinstance(request, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            continue
        general, lines = (text.strip() for text in texts)
        if not _LINE.match(general):
            # One character without a name, whom every line shows.
            general = f"[Subject] {general}"
            lines = "\n".join(
                line if _LINE.match(line) else f"[Subject] {line}" for line in lines.splitlines()
            )
        for story in prompt_list(f"{general}\n\n{lines}"):
            negative = request.get("negative_prompt")
            if isinstance(negative, str):
                story.frames = [replace(frame, negative=negative) for frame in story.frames]
            style = request.get("style_name")
            story.style = style if isinstance(style, str) and style != _NO_STYLE else None
            story.notes.append("of the request, prompts and the style's name were taken")
            found.append(story)
    return found


def weighted(text: str) -> list[Found]:
    """One prompt as A1111 writes it: weights in brackets, a negative prompt, a line of settings."""
    settings = _SETTINGS.search(text)
    body = text[: settings.start()] if settings else text
    prompt, *negatives = _NEGATIVE.split(body, maxsplit=1)
    found = Found()
    frame = FoundFrame(_plain(prompt, found), negative=_plain(" ".join(negatives), found))
    seed = _SEED.search(settings[0]) if settings else None
    if seed is not None:
        found.seed = int(seed[1])
    if settings:
        found.notes.append("of the settings, the seed alone was taken")
    found.frames = [frame] if frame.prompt else []
    return [found] if found.frames else []


def comfyui(value: Any) -> list[Found]:
    """The prompts of a workflow: those that samplers read, else all, the second as negative."""
    texts = _api_texts(value) or _graph_texts(value)
    if not texts:
        return []
    found = Found(notes=["of the workflow, the prompts alone were taken"])
    prompt, negative = texts[0], texts[1] if len(texts) > 1 else ""
    frame = FoundFrame(_plain(prompt, found), negative=_plain(negative, found))
    found.frames = [frame] if frame.prompt else []
    return [found] if found.frames else []


def _api_texts(value: Any) -> list[str]:
    """[positive, negative] of the first sampler in a workflow as it is sent to a server."""
    nodes = value if isinstance(value, dict) else {}
    nodes = {
        k: n for k, n in nodes.items() if isinstance(n, dict) and isinstance(n.get("inputs"), dict)
    }
    for node in nodes.values():
        ends = {end: node["inputs"].get(end) for end in ("positive", "negative")}
        if all(isinstance(link, list) and link for link in ends.values()):
            return [_text_before(nodes, str(link[0]), end, 12) for end, link in ends.items()]
    texts = [n["inputs"].get("text") for n in nodes.values()]
    return [text for text in texts if isinstance(text, str)]


def _text_before(nodes: dict[str, Any], key: str, end: str, left: int) -> str:
    """The text at `key` or at what feeds it: through its input `end`, where it has both."""
    inputs = nodes.get(key, {}).get("inputs", {})
    for name in ("text", "text_g", "string", "prompt", "clip_l"):
        if isinstance(inputs.get(name), str):
            return str(inputs[name])
    for link in ([inputs[end]] if end in inputs else inputs.values()) if left else ():
        fed = isinstance(link, list) and link
        if fed and (text := _text_before(nodes, str(link[0]), end, left - 1)):
            return text
    return ""


def _graph_texts(value: Any) -> list[str]:
    """Texts of a workflow as the editor saves it: [positive, negative] of the first node that has
    both, else those of all that encode text.
    """
    nodes = value.get("nodes") if isinstance(value, dict) else None
    nodes = [n for n in nodes if isinstance(n, dict)] if isinstance(nodes, list) else []
    links = value.get("links") if isinstance(value, dict) else None
    # A link is [its id, from node, its output, to node, its input, type].
    source = {
        link[0]: link[1]
        for link in (links if isinstance(links, list) else ())
        if isinstance(link, list) and len(link) > 3 and isinstance(link[0], int)
    }
    by_id = {n["id"]: n for n in nodes if isinstance(n.get("id"), int | str)}
    for node in nodes:
        ends = _graph_links(node)
        if ends.keys() >= {"positive", "negative"}:
            texts = [
                _graph_text(by_id, source, source.get(ends[end]), end, 12)
                for end in ("positive", "negative")
            ]
            if texts[0]:
                return texts
    return [text for n in nodes if "TextEncode" in str(n.get("type")) for text in _widgets(n)[:1]]


def _graph_text(
    by_id: dict[Any, Any], source: dict[int, Any], key: Any, end: str, left: int
) -> str:
    """The text of node `key` or of what feeds it: through its input `end`, where it has both."""
    node = by_id.get(key) if isinstance(key, int | str) else None
    if node is None:
        return ""
    if "TextEncode" in str(node.get("type")) and _widgets(node):
        return _widgets(node)[0]
    links = _graph_links(node)
    for link in ([links[end]] if end in links else links.values()) if left else ():
        if text := _graph_text(by_id, source, source.get(link), end, left - 1):
            return text
    return ""


def _graph_links(node: dict[str, Any]) -> dict[str, int]:
    inputs = node.get("inputs")
    return {
        str(i.get("name")): i["link"]
        for i in (inputs if isinstance(inputs, list) else ())
        if isinstance(i, dict) and isinstance(i.get("link"), int)
    }


def _widgets(node: dict[str, Any]) -> list[str]:
    values = node.get("widgets_values")
    return [v for v in values if isinstance(v, str)] if isinstance(values, list) else []


def _plain(text: str, found: Found) -> str:
    """A prompt without weights, brackets and names of extra networks."""
    for pattern, what in ((_LORA, "extra networks"), (_EMBEDDING, "embeddings")):
        for match in pattern.findall(text):
            found.notes.append(f"{match} was left behind: {what} are not used")
        text = pattern.sub(" ", text)
    weights = _WEIGHT.search(text) is not None
    for _ in range(_ROUNDS):
        before = text
        text = _GROUP.sub(
            lambda m: next(g for g in m.groups() if g is not None), _WEIGHT.sub(r"\1", text)
        )
        if text == before:
            break
    if weights and not any("weights" in note for note in found.notes):
        found.notes.append("weights of words were left behind")
    text = _WORDS.sub(",", text).replace("\\(", "").replace("\\)", "")
    parts = [" ".join(part.split()) for part in text.split(",")]
    return ", ".join(part for part in parts if part)
