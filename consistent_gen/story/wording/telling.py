"""What is said of a wording: line by line for a check, briefly before drawing, as an error."""

from __future__ import annotations

from collections.abc import Iterator

from consistent_gen.errors import StoryError
from consistent_gen.story.cast import CastMember, head_noun
from consistent_gen.story.prompts import literal_words, render
from consistent_gen.story.types import Story
from consistent_gen.story.wording.types import TextWording, Word, Wording
from consistent_gen.story.wording.vocabulary import Vocabulary

_BRIEF_LINES = 8
_BRIEF_WORDS = 4
_EXPLAINED = 6  # words that were left out of a text, at most, for each to have its reason


def full(wording: Wording) -> list[str]:
    """All that became of every text, for people; one list entry is one line."""
    lines = []
    for text in wording.texts:
        if not text.changed and not text.notices:
            continue
        lines.append(f"{wording.story.place.source}:{text.line}: {text.written}")
        if text.changed:
            lines.append(f"    -> {text.drawn or '(nothing)'}")
        near = [f"{w.said!r} as {w.drawn!r}" for w in text.substitutions]
        if near:
            lines.append(f"    drawn as: {', '.join(dict.fromkeys(near))}")
        out = {} if text.place.endswith(".negative") else _left_out(text)  # its notice lists them
        if out:
            lines.append(f"    left out, as this model cannot draw it: {', '.join(out)}")
        lines += [f"    {notice}" for notice in text.notices]
    return lines


def _left_out(text: TextWording) -> dict[str, None]:
    """What was left out of a text, each once, with what comes nearest; why, where it is little."""
    found: dict[str, None] = {}
    for word in text.omissions:
        more = f"nearest: {', '.join(word.nearest)}" if word.nearest else ""
        if not more and len(text.omissions) <= _EXPLAINED and word.why != "an unknown word":
            more = word.why
        found[repr(word.said) + (f" ({more})" if more else "")] = None
    return found


def summary(wording: Wording) -> str:
    """One line on the whole story."""
    if wording.open_vocabulary:
        found = sum(len(text.words) for text in wording.texts)
        return f"{wording.model} reads any word; {found} names and pronouns became characters"
    if not wording.changed:
        return f"drawn as written: {wording.model} knows every word"
    near = sum(len(text.substitutions) for text in wording.texts)
    out = sum(len(text.omissions) for text in wording.texts)
    return f"drawn in {wording.model}'s own words: {near} mapped, {out} left out"


def brief(wording: Wording) -> list[str]:
    """What a writer should know before the pictures come: a few lines."""
    if wording.open_vocabulary or not wording.changed:
        return [f"note: {n}" for text in wording.texts for n in text.notices][:_BRIEF_LINES]
    told = [line for text in wording.texts if (line := _brief_line(text))]
    lines = [f"wording: {summary(wording)}"]
    lines += [f"  {wording.story.place.source}:{line}" for line in told[:_BRIEF_LINES]]
    rest = f" and {len(told) - _BRIEF_LINES} more lines" if len(told) > _BRIEF_LINES else ""
    return [*lines, f"  all of it{rest}: consistent-gen check {wording.story.place.source}"]


def _brief_line(text: TextWording) -> str:
    near = [f"{w.said!r} as {w.drawn!r}" for w in text.words if w.fate == "near"]
    out = [repr(w.said) for w in text.omissions]
    parts = [f"{_few(near)}"] if near else []
    parts += [f"left out: {_few(out)}"] if out else []
    return f"{text.line}: {'; '.join(parts)}" if parts else ""


def _few(words: list[str]) -> str:
    words = list(dict.fromkeys(words))
    more = f" and {len(words) - _BRIEF_WORDS} more" if len(words) > _BRIEF_WORDS else ""
    return ", ".join(words[:_BRIEF_WORDS]) + more


def problems(wording: Wording, vocabulary: Vocabulary, *, strict: bool = False) -> list[StoryError]:
    """What keeps a story from being drawn, all at once, in the order of the lines.

    strict: whether a word that is drawn as something else, or not at all, is a problem too.
    """
    found = [*_too_long(wording, vocabulary)]
    for text in wording.texts:
        if text.place.endswith(".prompt") and not text.drawn.strip():
            found.append(_error(wording, text, "nothing of this can be drawn; write who does what"))
        listed = text.place.endswith(".negative")  # what is left out of it is one problem
        found += [_error(wording, text, n) for n in text.notices if strict and listed]
        for word in text.words if strict else ():
            if word.fate == "near" or (word.fate == "left_out" and not listed):
                found.append(_error(wording, text, _strictly(word)))
    return sorted(found, key=lambda error: error.line or 0)


def refuse(found: list[StoryError], source: str | None) -> None:
    """Raise the first problem, and say how many there are. Does nothing where there is none.

    Raises:
        StoryError: there is a problem.
    """
    if not found:
        return
    first = found[0]
    more = f" ({len(found) - 1} more: consistent-gen check {source})" if len(found) > 1 else ""
    raise StoryError(first.message + more, source=first.source, line=first.line)


def unknown(story: Story, vocabulary: Vocabulary) -> list[StoryError]:
    """Every word of a story, left as it is written, that a closed vocabulary lacks."""
    found = []
    for line, text in _texts(story):
        for word in vocabulary.unknown(text):
            message = f"the model {vocabulary.model!r} never saw {word!r}"
            found.append(StoryError(message, source=story.place.source, line=line))
    return found


def _texts(story: Story) -> Iterator[tuple[int, str]]:
    for character in story.characters.values():
        yield character.place.line or 0, character.description
    for frame in story.frames:
        yield (frame.place_of("prompt").line or 0), literal_words(frame.prompt, story.characters)
        yield (frame.place_of("negative").line or 0), frame.negative


def _strictly(word: Word) -> str:
    if word.fate == "left_out":
        return str(word)
    return f"{word.said!r} would be drawn as {word.drawn!r}"


def _error(wording: Wording, text: TextWording, message: str) -> StoryError:
    if text.line:
        return StoryError(message, source=wording.story.place.source, line=text.line)
    return StoryError(message, source=text.place)  # of a request, which has no lines


def _too_long(wording: Wording, vocabulary: Vocabulary) -> Iterator[StoryError]:
    story = wording.story
    if vocabulary.words is None:
        return  # only its tokenizer can count
    cast = {
        name: CastMember(
            name=name, words=c.description, noun=head_noun(c.description) or c.description
        )
        for name, c in story.characters.items()
    }
    for index, frame in enumerate(story.frames):
        prompt = render(frame.prompt, cast, frame.style or story.style, story_world=True)
        count = vocabulary.count(prompt.text)
        if count > vocabulary.room:
            message = (
                f"with its characters written out the prompt has {count} words, the model reads "
                f"{vocabulary.room}; shorten it or the descriptions"
            )
            place = frame.place_of("prompt")
            where = place.source or f"frames[{index}].prompt"
            yield StoryError(message, source=where, line=place.line)
