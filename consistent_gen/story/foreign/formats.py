"""Stories in the formats of other programs: published benchmarks (ConsiStory+, 1Prompt1Story,
ViStoryBench, T2IS), lists with names in brackets, requests, workflows and prompts with weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from consistent_gen.story.script import MAX_CHARACTERS, MAX_CHARS, MAX_FRAMES
from consistent_gen.story.types import Character, Frame, Story

_NAME = re.compile(r"[^\W\d_][\w .'\u2019-]{0,39}")


@dataclass
class ForeignStory:
    """A story in another format: names with descriptions, and frames with texts."""

    title: str = ""
    style: str | None = None
    seed: int | None = None
    characters: dict[str, str] = field(default_factory=dict)
    frames: list[ForeignFrame] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class ForeignFrame:
    """prompt: with characters in braces or by name. negative: what should not be there."""

    prompt: str
    caption: str = ""
    negative: str = ""


@dataclass(frozen=True)
class Imported:
    """A story of another format. format: its name. count: stories in the file. notes: what has no
    place in a story file and was left behind.
    """

    story: Story
    format: str
    count: int
    notes: tuple[str, ...] = ()


def as_story(found: ForeignStory, name: str) -> tuple[Story, list[str]]:
    """The story, within the bounds of a story file, and what had to be left behind."""
    notes = [*found.notes]
    characters: dict[str, Character] = {}
    for written, description in found.characters.items():
        known = clean_name(written)
        if known is None or len(characters) == MAX_CHARACTERS or known in characters:
            notes.append(
                f"the character {written[:40]!r} was left behind: no name for a story file"
            )
            continue
        text = _cut(_line(description) or known, "description", notes)
        characters[known] = Character(name=known, description=text)
    frames = []
    for frame in found.frames[:MAX_FRAMES]:
        prompt = _cut(_braced(_line(frame.prompt), characters), "prompt", notes)
        caption = _cut(_line(frame.caption), "caption", notes) or None
        negative = _cut(_line(frame.negative), "negative", notes)
        frames.append(Frame(prompt=prompt, caption=caption, negative=negative))
    if len(found.frames) > MAX_FRAMES:
        notes.append(
            f"{len(found.frames) - MAX_FRAMES} frames were left behind; at most {MAX_FRAMES}"
        )
    style = None if found.style is None else _cut(_line(found.style), "style", notes) or None
    title = _cut(_line(found.title) or name, "title", notes)
    story = Story(
        title=title, style=style, seed=found.seed, characters=characters, frames=tuple(frames)
    )
    return story, notes


def clean_name(text: str) -> str | None:
    """`text` as a character's name, None where it cannot be one."""
    name = re.sub(r"[^\w .'\u2019-]", " ", text)
    name = " ".join(re.sub(r"^[\W\d_]+", "", name).split())[:40].strip()
    return name if _NAME.fullmatch(name) else None


def _braced(prompt: str, characters: dict[str, Character]) -> str:
    """The prompt with braces for characters alone."""
    kept = re.sub(r"\{([^{}]*)\}", lambda m: m[0] if m[1] in characters else m[1], prompt)
    outside = re.split(r"(\{[^{}]*\})", kept)
    return "".join(
        p if p[1:-1] in characters and p[:1] == "{" else p.translate(_NO_BRACES) for p in outside
    )


_NO_BRACES = str.maketrans("", "", "{}")


def _line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str, key: str, notes: list[str]) -> str:
    limit = MAX_CHARS[key]
    if len(text) <= limit:
        return text
    notes.append(f"a {key} of {len(text)} characters was cut to {limit}")
    return text[:limit].rsplit(" ", 1)[0]


# Benchmarks --------------------------------------------------------------------------------------
_OF = re.compile(r"\s+of\s*:?\s*$", re.IGNORECASE)
_LANGUAGES = ("en", "english", "ch", "zh", "cn")
_INSTRUCTION = ("prompt", "instruction", "text", "caption")
_PARTS = ("prompts", "sub_prompts", "subprompts", "captions", "images", "settings")
# "[TOP-LEFT]: ...", "[TOP]-[LEFT]: ...", "[LEFT]:...", "[IMAGE 2] ...", "Image 3: ...", "(4) ..."
_SIDE = r"(?:top|bottom|upper|lower|middle|center|centre|left|right)"
_GRID = re.compile(
    rf"\[{_SIDE}(?:[- ]{_SIDE})*\](?:-\[{_SIDE}\])?\s*:?|"
    r"\[?\b(?:image|panel|frame|scene|picture)\s*\d+\]?\s*[:.)]|\(\d+\)|<\d+>",
    re.IGNORECASE,
)
# "Images with a 2x2 grid layout depicting a young barber, red hair": article, what, and more of it.
_SHOWN = re.compile(
    r"(?:depicting|portraying|showing|featuring|layout|images? of|pictures? of)\s+"
    r"(an?)\s+((?:[\w-]+\s+){0,3}?[a-z-]+)(?=,|\.|$|\s+(?:in|with|who|wearing|at|on|of|and|\w+ing)\b)"
    r"((?:,|\s+(?:with|wearing|in))?[^.]{0,200})",
    re.IGNORECASE,
)
_SHARED = re.compile(
    r"\b(?:all|the) (?:images|pictures|panels) (?:share|feature|are|have)\b", re.IGNORECASE
)


def consistory(tree: Any) -> list[ForeignStory]:
    """Groups of `style`, `subject`, `concept_token` and `settings`, wherever they stand."""
    return [_group(entry) for entry in _mappings(tree) if {"subject", "settings"} <= entry.keys()]


def _group(entry: dict[str, Any]) -> ForeignStory:
    subject = str(entry["subject"])
    token = entry.get("concept_token") or subject
    token = str(token[0] if isinstance(token, list) and token else token)
    name = clean_name(token.title()) or "Subject"
    settings = entry["settings"] if isinstance(entry["settings"], list) else [entry["settings"]]
    style = _OF.sub("", str(entry.get("style") or "")) or None
    frames = [ForeignFrame(f"{{{name}}} {setting}") for setting in settings]
    return ForeignStory(title=subject, style=style, characters={name: subject}, frames=frames)


def one_prompt(value: Any) -> list[ForeignStory]:
    """Groups of one `id_prompt` and a `frame_prompt_list`, wherever they stand."""
    return [
        ForeignStory(
            title=str(entry["id_prompt"]),
            characters={"Subject": str(entry["id_prompt"])},
            frames=[ForeignFrame(f"{{Subject}} {text}") for text in entry["frame_prompt_list"]],
        )
        for entry in _mappings(value)
        if "id_prompt" in entry and isinstance(entry.get("frame_prompt_list"), list)
    ]


def vistory(value: Any) -> list[ForeignStory]:
    """`Characters` with names and prompts, `Shots` with who appears, where and what happens."""
    if not isinstance(value, dict) or not isinstance(value.get("Shots"), list):
        return []
    found = ForeignStory(title=_in_language(value.get("Story_title") or value.get("Story_type")))
    people = value.get("Characters")
    for key, entry in people.items() if isinstance(people, dict) else ():
        if isinstance(entry, dict):
            name = clean_name(str(entry.get("name_en") or key)) or clean_name(str(key))
            if name is not None:
                found.characters[name] = _in_language(entry, "prompt_") or str(key)
    for shot in value["Shots"]:
        if isinstance(shot, dict):
            found.frames.append(_shot(shot, found))
    found.notes.append("reference pictures beside the file are not taken in; name them yourself")
    return [found] if found.frames else []


def _shot(shot: dict[str, Any], found: ForeignStory) -> ForeignFrame:
    said = _in_language(shot.get("Static Shot Description")) or _in_language(
        shot.get("Plot Correspondence")
    )
    place = _in_language(shot.get("Setting Description"))
    camera = _in_language(shot.get("Shot Perspective Design"))
    shown = shot.get("Characters Appearing")
    names = shown.get("en", []) if isinstance(shown, dict) else shown or []
    known = [n for n in map(str, names) if n in found.characters and n not in said]
    parts = [" and ".join(f"{{{name}}}" for name in known), said, place, camera]
    text = ". ".join(part.strip().rstrip(".") for part in parts if part.strip())
    return ForeignFrame(text, caption=_in_language(shot.get("Plot Correspondence")))


def t2is(value: Any) -> list[ForeignStory]:
    """One instruction each, with its pictures in a list or marked in the text. What it says of all
    of them is the style.
    """
    entries = value if isinstance(value, list) else [value]
    if isinstance(value, dict) and all(isinstance(v, dict) for v in value.values()):
        entries = list(value.values())
    found = [_instruction(entry) for entry in entries if isinstance(entry, dict)]
    return [story for story in found if story is not None]


def _instruction(entry: dict[str, Any]) -> ForeignStory | None:
    text = next((entry[k] for k in _INSTRUCTION if isinstance(entry.get(k), str)), "")
    parts: list[Any] = next((entry[k] for k in _PARTS if isinstance(entry.get(k), list)), [])
    texts = [part if isinstance(part, str) else _described(part) for part in parts]
    title = text
    if not any(texts) and text:
        title, *texts = [piece.strip(" ;:,.") for piece in _GRID.split(text)]
        texts = [piece for piece in texts if piece] or [text]
    shared = _SHARED.search(title)
    style = title[shared.end() :].strip(" :,.") if shared and len(texts) > 1 else None
    frames = [ForeignFrame(part) for part in texts if part]
    if not frames:
        return None
    notes = ["what judges the pictures (criteria) has no place in a story file"]
    notes = notes if "criteria" in entry else []
    story = ForeignStory(title=title[:100], style=style, frames=frames, notes=notes)
    _name_who_is_shown(story, title)
    return story


def _name_who_is_shown(story: ForeignStory, title: str) -> None:
    """Make a character of whom the title describes, if at least two frames speak of it again: the
    barber of "Images depicting a young barber in a shop" and of "the barber sweeps".
    """
    shown = _SHOWN.search(title)
    if shown is None:
        return
    noun = shown[2].split()[-1]
    again = re.compile(rf"\b(?:an?|the)\s+(?:[\w-]+\s+)?{re.escape(noun)}\b", re.IGNORECASE)
    told = [again.search(frame.prompt) is not None for frame in story.frames]
    name = clean_name(noun.title())
    if name is None or sum(told) < 2:
        return
    story.characters[name] = f"{shown[1]} {shown[2]}{shown[3]}"
    story.frames = [
        replace(frame, prompt=again.sub(f"{{{name}}}", frame.prompt)) for frame in story.frames
    ]


def _described(part: Any) -> str:
    if not isinstance(part, dict):
        return ""
    return next((part[k] for k in _INSTRUCTION if isinstance(part.get(k), str)), "")


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        yield from _mappings(item)


def _in_language(value: Any, prefix: str = "") -> str:
    """The English text of a value in several languages, otherwise another."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        for language in _LANGUAGES:
            if isinstance(value.get(prefix + language), str):
                return str(value[prefix + language])
    return ""


# Prompts -----------------------------------------------------------------------------------------
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


def prompt_list(text: str) -> list[ForeignStory]:
    """Lines such as `[Bob] at home #He reads the paper.`; `[NC]` is a frame without characters.

    Names are described by the lines before the first empty one (or `---`); without such a line, by
    the first line of each name that comes again.
    """
    lines = [line.strip() for line in text.splitlines()]
    marked = [_LINE.fullmatch(line) for line in lines]
    if not any(marked) or any(
        line and not line.startswith(("-", "#")) and not mark
        for line, mark in zip(lines, marked, strict=True)
    ):
        return []
    found = ForeignStory()
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


def _frame(start: str, rest: str, found: ForeignStory) -> ForeignFrame:
    """A frame of a line without its first name. Names in brackets further on are names, too."""
    prompt, _, caption = rest.partition("#")
    known = {name: f"{{{name}}}" for name in found.characters}
    prompt = _BRACKETS.sub(lambda m: known.get(m[1].strip(), m[1]), prompt)
    return ForeignFrame((start + prompt).strip(), caption=_BRACKETS.sub(r"\1", caption).strip())


def story_diffusion(value: Any) -> list[ForeignStory]:
    """Requests with a `general_prompt` that describes and a `prompt_array` with a line a frame."""
    found: list[ForeignStory] = []
    for request in value if isinstance(value, list) else [value]:
        texts = [request.get(k) for k in _REQUEST] if isinstance(request, dict) else []
        said = [text.strip() for text in texts if isinstance(text, str)]
        if len(said) < len(_REQUEST):
            continue
        general, lines = said
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
