"""How much of what people write in their own words gets drawn.

    python -m benchmarks.wording [FILE] [--attributes FILE] [--lost] [--json OUT]

FILE holds stories in the voices of different people, with what a reader expects to see
in each frame (`tests/story/wording/voices/stories.yaml` has this form). No model is loaded: what is
measured is whether a story draws without an edit, what share of the concepts is in the text that
the model gets, as it is or as what the lexicon calls its nearest, and whether any word got lost
without a notice. `--lost` prints the concepts that were not kept.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from consistent_gen.checkpoints import write_json
from consistent_gen.story.prompts import literal_words
from consistent_gen.story.types import Character, Frame, Story
from consistent_gen.story.wording import Vocabulary, Wording, read_vocabulary, word_story
from consistent_gen.story.wording.drawing_words import TABLES, table
from consistent_gen.story.wording.lexicon import Lexicon, Sense, lexicon
from consistent_gen.story.wording.tokens import folded

VOICES = Path(__file__).parent.parent / "tests" / "story" / "wording" / "voices"
WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")


def story_of(entry: Mapping[str, Any]) -> Story:
    """A story of a file of voices."""
    characters = {
        name: Character(name=name, description=str(text))
        for name, text in (entry.get("characters") or {}).items()
    }
    frames = tuple(Frame(prompt=str(text)) for text in entry["frames"])
    return Story(title=str(entry.get("id", "story")), characters=characters, frames=frames)


def silent_drops(wording: Wording, words: Lexicon, names: Iterable[str]) -> list[str]:
    """Words that say something and of which nothing is told, in all texts that were changed."""
    lost = []
    named = {part for name in names for part in WORD.findall(folded(name))}
    for text in wording.texts:
        told = [(word.start, word.end) for word in text.words]
        if not text.changed:
            continue
        for found in WORD.finditer(text.written):
            low = folded(found[0])
            small = any(sense.category == "small" for sense in words.of(low))
            own = low in named or low.removesuffix("'s") in named or low.rstrip("'") in named
            if small or own or any(a <= found.start() and found.end() <= b for a, b in told):
                continue
            if not _part_of_small_talk(text.written, found, words):
                lost.append(f"{text.place}: {found[0]}")
    return lost


def _part_of_small_talk(text: str, found: re.Match[str], words: Lexicon) -> bool:
    """Whether a word stands in a phrase of small talk: the "end" of "in the end"."""
    around = [*WORD.finditer(text)]
    place = next(i for i, other in enumerate(around) if other.start() == found.start())
    for start in range(max(0, place - 4), place + 1):
        for end in range(place + 1, min(len(around), start + 6) + 1):
            phrase = " ".join(folded(part[0]) for part in around[start:end])
            if any(sense.category == "small" for sense in words.of(phrase)):
                return True
    return False


def kept(concept: str, prompt: str, story: Story, drawn: Story, words: Lexicon) -> bool:
    """Whether the prompt that a model gets shows `concept`, or its nearest."""
    shown = [name for name in story.characters if re.search(rf"{re.escape(name)}}}", prompt)]
    if any(folded(name) == folded(concept) for name in story.characters):
        return any(folded(name) == folded(concept) for name in shown)
    looks = " ".join(drawn.characters[name].description for name in shown)
    said = " ".join(folded(story.characters[name].description) for name in shown)
    parts = WORD.findall(folded(concept))
    if re.search(rf"\b{re.escape(' '.join(parts))}\b", said) and _is_being(concept, words):
        return True
    count, senses = words.match(parts)
    if count == len(parts):
        return any(_shows(s, prompt, looks) for s in senses)
    # "Red wellies" is no entry: both have to be there.
    return len(parts) > 1 and all(kept(part, prompt, story, drawn, words) for part in parts)


def written_in(concept: str, text: str, words: Lexicon) -> bool:
    """Whether the text itself has the concept's word, in any form; others are a reader's guess."""
    low = folded(text)
    bases = {sense.base for sense in words.of(folded(concept))}
    forms = {form for part in WORD.findall(low) for form in (s.base for s in words.of(part))}
    return folded(concept) in low or bool(bases & forms)


def _is_being(concept: str, words: Lexicon) -> bool:
    return any(sense.category == "kind" for sense in words.of(folded(concept)))


def _shows(sense: Sense, prompt: str, looks: str) -> bool:
    if sense.relation == "none":
        return False
    # Of what goes with an action, its mood may stand for it; where it is usual may not.
    told = [c.partition(".") for c in sense.concepts[:2]]
    told = [c for c in told if c[0] not in ("place", "weather")] or told[:1]
    return any(_shows_one(category, value, prompt, looks) for category, _, value in told)


def _shows_one(category: str, value: str, prompt: str, looks: str) -> bool:
    bare = re.sub(r"\{[^{}]*\}", " ", prompt)
    if category == "kind":
        group = {"people": ("woman", "man"), "children": ("girl", "boy")}.get(value, (value,))
        if value in ("adult", "child", "person"):
            group = ("woman", "man", "girl", "boy")
        return any(re.search(rf"\b{noun}\b", f"{bare} {looks}") for noun in group)
    if category == "mood":
        return any(re.search(rf"\b{word}\b", prompt) for word in table("mood")[value])
    if category == "body":
        return bool(looks) or bool(re.search(r"\b(a|an) ", bare))
    if category == "part":
        return any(_shows_one("place", place, prompt, looks) for place in value.split("/"))
    if category in TABLES:
        return any(text and re.search(rf"\b{text}\b", bare) for text in table(category)[value])
    return bool(re.search(rf"\b{value}\b", f"{bare} {looks}"))


def measure(stories: Sequence[Mapping[str, Any]], vocabulary: Vocabulary) -> dict[str, Any]:
    """Figures over all stories, and the concepts that were not kept."""
    words = lexicon()
    drawn = total = found = named = named_found = dropped = frames = 0
    seconds, lost = [], Counter[str]()
    drops: list[str] = []
    where = []
    for entry in stories:
        story = story_of(entry)
        start = time.perf_counter()
        wording = word_story(story, vocabulary)
        seconds.append(time.perf_counter() - start)
        unknown = [
            frame.prompt
            for frame in wording.story.frames
            if not vocabulary.knows(literal_words(frame.prompt, story.characters))
        ]
        drawn += wording.drawable and not unknown
        missing = silent_drops(wording, words, story.characters)
        drops += [f"{entry.get('id')} {text}" for text in missing]
        dropped += len(missing)
        for written, frame, concepts in zip(
            story.frames, wording.story.frames, entry.get("concepts", ()), strict=False
        ):
            frames += 1
            for concept in concepts:
                total += 1
                named += written_in(str(concept), written.prompt, words)
                if kept(str(concept), frame.prompt, story, wording.story, words):
                    found += 1
                    named_found += written_in(str(concept), written.prompt, words)
                else:
                    lost[str(concept)] += 1
                    where.append((str(concept), written.prompt, frame.prompt))
    return {
        "stories": len(stories),
        "frames": frames,
        "stories_drawn": drawn / len(stories),
        "concepts": total,
        "concepts_kept": found / max(total, 1),
        "concepts_named": named,
        "concepts_named_kept": named_found / max(named, 1),
        "silent_drops": dropped,
        "drops": drops,
        "seconds_mean": sum(seconds) / len(seconds),
        "seconds_most": max(seconds),
        "where": where,
        "lost": dict(lost.most_common()),
    }


def measure_attributes(
    entries: Sequence[Mapping[str, Any]], vocabulary: Vocabulary
) -> dict[str, float]:
    """Share of single descriptions whose mood is drawn, whose first colour is drawn, and whose
    colours are all drawn or told (of those that name any).
    """
    moods = colours = coloured = saying = told = 0
    for entry in entries:
        character = Character(name="X", description=str(entry["text"]))
        story = Story(title="x", characters={"X": character}, frames=(Frame(prompt="X."),))
        wording = word_story(story, vocabulary)
        words = lexicon()
        expects = entry["expects"]
        prompt = wording.story.frames[0].prompt
        mood = str(expects.get("mood", ""))
        moods += not mood or any(_shows(s, prompt, "") for s in words.of(mood))
        looks = wording.story.characters["X"].description
        if "colour" in expects:
            senses = [s for s in words.of(str(expects["colour"])) if s.category == "colour"]
            colours += any(re.search(rf"\b{s.value}\b", looks) for s in senses)
            coloured += 1
        text = wording.text("characters.X.description")
        said = [w.said.casefold() for w in text.words]
        said += [] if text.changed else [text.written.casefold()]  # all of it is drawn
        # Every colour that is said; an entry that says none has nothing to tell.
        named = [str(colour).casefold() for colour in entry["colours"]]
        saying += bool(named)
        told += bool(named) and all(any(c in s or s in c for s in said) for c in named)
    count = len(entries)
    return {
        "moods": moods / count,
        "colours": colours / max(coloured, 1),
        "colours_told": told / max(saying, 1),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="?", default=VOICES / "stories.yaml")
    parser.add_argument("--attributes", type=Path, default=VOICES / "attributes.yaml")
    parser.add_argument("--lost", action="store_true", help="print what was not kept")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(argv)
    vocabulary = read_vocabulary()
    start = time.perf_counter()
    lexicon()
    loading = time.perf_counter() - start
    figures = measure(yaml.safe_load(options.file.read_text(encoding="utf-8")), vocabulary)
    figures["seconds_lexicon"] = loading
    figures["lexicon_entries"] = lexicon().entries
    entries = yaml.safe_load(options.attributes.read_text(encoding="utf-8"))
    figures["attributes"] = measure_attributes(entries, vocabulary)
    shown = Table("figure", "value", title=f"Own words: {options.file.name}")
    for name, value in figures.items():
        if name not in ("lost", "drops", "attributes", "where"):
            shown.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    for name, value in figures["attributes"].items():
        shown.add_row(f"attributes: {name}", f"{value:.4g}")
    console = Console()
    console.print(shown)
    if options.lost:
        for concept, written, drawn in figures["where"]:
            console.print(f"{concept}: {written} -> {drawn}", highlight=False, markup=False)
        console.print(figures["drops"])
    if options.json is not None:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
