"""Prompts of other programs: lists with names in brackets, workflows, prompts with weights."""

from __future__ import annotations

import re
from typing import Any

from consistent_gen.story.foreign.found import ForeignFrame, ForeignStory, clean_name

_LINE = re.compile(r"\[([^\[\]\n]{1,60})\]\s*(.*)")
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


def prompt_list(text: str) -> list[ForeignStory]:
    """Lines such as `[Bob] at home #He reads the paper.`; `[NC]` is a frame without characters.

    Names are described by the lines before the first empty one (or `---`); without such a line, by
    the first line of each name that comes again.
    """
    lines = [line.strip() for line in text.splitlines()]
    marked = [_LINE.fullmatch(line) for line in lines]
    if not any(marked) or any(line and not line.startswith(("-", "#")) and not mark
                              for line, mark in zip(lines, marked, strict=True)):  # fmt: skip
        return []
    found = ForeignStory()
    head = _head(lines)
    names = [m[1].strip() for m in marked if m]
    for place, mark in enumerate(marked):
        if mark is None:
            continue
        name, rest = mark[1].strip(), mark[2].strip()
        if name.lower() in _NOBODY:
            found.frames.append(_frame("", rest))
            continue
        known = clean_name(name)
        if known is None:
            found.notes.append(f"the line of [{name}] was left behind: no name for a story file")
        elif known not in found.characters and (place < head or names.count(name) > 1):
            found.characters[known] = rest.partition("#")[0].strip() or known
        else:
            found.characters.setdefault(known, known)
            found.frames.append(_frame(f"{{{known}}} ", rest))
    return [found] if found.frames else []


def _head(lines: list[str]) -> int:
    """The number of lines before the first that separates descriptions from frames."""
    for place, line in enumerate(lines):
        if place and (not line or line.startswith("--")) and any(lines[place:]):
            return place
    return 0


def _frame(start: str, rest: str) -> ForeignFrame:
    prompt, _, caption = rest.partition("#")
    return ForeignFrame((start + prompt).strip(), caption=caption.strip())


def weighted(text: str) -> list[ForeignStory]:
    """One prompt as A1111 writes it: weights in brackets, a negative prompt, a line of settings."""
    settings = _SETTINGS.search(text)
    body = text[: settings.start()] if settings else text
    prompt, *negatives = _NEGATIVE.split(body, maxsplit=1)
    found = ForeignStory()
    frame = ForeignFrame(_plain(prompt, found), negative=_plain(" ".join(negatives), found))
    seed = _SEED.search(settings[0]) if settings else None
    if seed is not None:
        found.seed = int(seed[1])
    if settings:
        found.notes.append("of the settings, the seed alone was taken")
    found.frames = [frame] if frame.prompt else []
    return [found] if found.frames else []


def comfyui(value: Any) -> list[ForeignStory]:
    """The prompts of a workflow: those that samplers read, else all, the second as negative."""
    texts = _api_texts(value) or _graph_texts(value)
    if not texts:
        return []
    found = ForeignStory(notes=["of the workflow, the prompts alone were taken"])
    prompt, negative = texts[0], texts[1] if len(texts) > 1 else ""
    frame = ForeignFrame(_plain(prompt, found), negative=_plain(negative, found))
    found.frames = [frame] if frame.prompt else []
    return [found] if found.frames else []


def _api_texts(value: Any) -> list[str]:
    """[positive, negative] of the first sampler in a workflow as it is sent to a server."""
    nodes = value if isinstance(value, dict) else {}
    nodes = {
        k: n for k, n in nodes.items() if isinstance(n, dict) and isinstance(n.get("inputs"), dict)
    }
    for node in nodes.values():
        ends = [node["inputs"].get(key) for key in ("positive", "negative")]
        if all(isinstance(end, list) and end for end in ends):
            return [_text_before(nodes, str(end[0]), 12) for end in ends]
    texts = [n["inputs"].get("text") for n in nodes.values()]
    return [text for text in texts if isinstance(text, str)]


def _text_before(nodes: dict[str, Any], key: str, left: int) -> str:
    """The text at `key` or at what feeds it."""
    inputs = nodes.get(key, {}).get("inputs", {})
    for name in ("text", "text_g", "string", "prompt", "clip_l"):
        if isinstance(inputs.get(name), str):
            return str(inputs[name])
    for link in inputs.values() if left else ():
        if (
            isinstance(link, list)
            and link
            and (text := _text_before(nodes, str(link[0]), left - 1))
        ):
            return text
    return ""


def _graph_texts(value: Any) -> list[str]:
    """Texts of a workflow as the editor saves it."""
    nodes = value.get("nodes") if isinstance(value, dict) else None
    found = []
    for node in nodes if isinstance(nodes, list) else ():
        if isinstance(node, dict) and "TextEncode" in str(node.get("type")):
            values = node.get("widgets_values")
            found += (
                [v for v in values if isinstance(v, str)][:1] if isinstance(values, list) else []
            )
    return found


def _plain(text: str, found: ForeignStory) -> str:
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
