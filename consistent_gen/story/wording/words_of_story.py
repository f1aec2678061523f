"""A whole story in a writer's own words becomes one that a model can draw; nothing is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

from consistent_gen.registry import nearest
from consistent_gen.story.cast import CastMember, head_noun
from consistent_gen.story.plan import DEFAULT_SEED
from consistent_gen.story.prompts import literal_words, render, story_world_styles
from consistent_gen.story.types import Character, Frame, Story
from consistent_gen.story.wording import drawing_words
from consistent_gen.story.wording.scene import Scene
from consistent_gen.story.wording.sheets import PEOPLE, complete, shorten
from consistent_gen.story.wording.story_reader import OpenReader, StoryReader
from consistent_gen.story.wording.tokens import folded
from consistent_gen.story.wording.types import Fate, TextWording, Word, Wording
from consistent_gen.story.wording.vocabulary import Vocabulary

FRIENDLY = ("happy", "calm")
DEFAULT_PLACE = "meadow"  # models of a closed vocabulary draw clothes better where a place is named
_MAX_CUTS = 40


def word_story(
    story: Story, vocabulary: Vocabulary, *, sheets: bool = False, seed: int | None = None
) -> Wording:
    """What a model is told of `story`, and what became of every word of it.

    Texts in words that the model knows, with characters in braces, stay as they are. Of the others
    a closed vocabulary gets its own words; an open one keeps them, and only names without braces
    and pronouns become characters.

    sheets: complete the descriptions of all characters, also of those in the model's own words.
    seed: of the story, if the command line has another.
    """
    if vocabulary.words is None:
        return OpenReader(story, vocabulary).wording()
    return _Closed(story, vocabulary, sheets, seed).wording()


class _Closed(StoryReader):
    def __init__(
        self, story: Story, vocabulary: Vocabulary, sheets: bool, seed: int | None
    ) -> None:
        super().__init__(story, vocabulary)
        self.knows = vocabulary.knows
        self.seed = seed if seed is not None else story.seed or DEFAULT_SEED
        self.reworded = {
            name
            for name, character in story.characters.items()
            if sheets or self.described[name].misfit or not self._plain(character.description)
        }

    def wording(self) -> Wording:
        texts = [*self._styles()]
        self._complete()
        scenes = [self._frame(frame) for frame in self.story.frames]
        lost = self._fit(scenes)
        characters = {
            name: replace(character, description=self._description(name, character))
            for name, character in self.story.characters.items()
        }
        texts += [
            self._character_text(c, characters[c.name], lost)
            for c in self.story.characters.values()
        ]
        frames = []
        for index, (frame, scene) in enumerate(zip(self.story.frames, scenes, strict=True)):
            worded, more = self._frame_texts(index, frame, scene)
            frames.append(worded)
            texts += more
        story = replace(self.story, characters=characters, frames=tuple(frames), style=self.style)
        shown = {
            name: self.described[name].sheet.to_json()
            for name in story.characters
            if name in self.reworded
        }
        return Wording(story, tuple(texts), shown, self.vocabulary.model)

    # characters -------------------------------------------------------------------------------
    def _plain(self, text: str) -> bool:
        """Whether the model knows every word, and the text needs no reading."""
        return self.vocabulary.knows(text) and head_noun(text) is not None

    def _complete(self) -> None:
        taken: list[tuple[str, str]] = []
        for name, character in self.story.characters.items():
            sheet = self.described[name].sheet
            if name in self.reworded:
                if not character.references:  # a picture says what the words leave open
                    complete(sheet, self.seed, taken)
                    taken.append((sheet.kind, sheet.factors["top_colour"]))
                self._restrict(name)

    def _restrict(self, name: str) -> None:
        """Drop factors whose words a small vocabulary lacks, and take a kind that it knows."""
        sheet = self.described[name].sheet
        if not self.knows(sheet.kind):
            known = [kind for kind in drawing_words.table("kind") if self.knows(kind)]
            alike = [kind for kind in known if (kind in PEOPLE) == sheet.is_person]
            if alike or known:
                kind = (alike or known)[0]
                notice = f"this model knows no {sheet.kind}; {name} is drawn as a {kind}"
                self.described[name].notices.append(notice)
                sheet.factors["kind"] = kind
        for factor in [*sheet.factors]:
            if factor not in sheet.factors or factor in ("kind", "mood"):
                continue
            before = sheet.words()
            if not self.vocabulary.knows(before):
                kept = sheet.factors.pop(factor)
                gone = set(self.vocabulary.unknown(before)) - set(
                    self.vocabulary.unknown(sheet.words())
                )
                if not gone:
                    sheet.factors[factor] = kept

    def _description(self, name: str, character: Character) -> str:
        if name not in self.reworded:
            return character.description
        return self.described[name].sheet.words()

    def _character_text(
        self, written: Character, drawn: Character, lost: Mapping[str, list[str]]
    ) -> TextWording:
        name = written.name
        place = f"characters.{name}.description"
        if name not in self.reworded:
            line = written.place.line or 0
            return TextWording(place, line, written.description, drawn.description)
        found = self.described[name]
        notices = [*found.notices]
        if lost.get(name):
            notices.append(f"no room in the prompt for: {', '.join(lost[name])}")
        sheet = found.sheet
        added = [
            f"{f.replace('_', ' ')} {v}" for f, v in sheet.factors.items() if f not in sheet.said
        ]
        if added:
            notices.append(f"completed: {', '.join(added)}")
        return TextWording(
            place,
            written.place.line or 0,
            written.description,
            drawn.description,
            tuple(found.words),
            tuple(notices),
        )

    # frames -----------------------------------------------------------------------------------
    def _frame(self, frame: Frame) -> Scene:
        scene = self.scene(frame.prompt)
        if scene.place is None and scene.actors:
            indoors = self.place in drawing_words.INDOOR
            if self.place is None or (indoors and scene.weather in ("rainy", "snowy")):
                scene.notices.append(f"no place is named; drawn in a {DEFAULT_PLACE}")
                scene.place = DEFAULT_PLACE
            else:
                scene.place = self.place
                scene.notices.append(f"no place is named; as before: {self.place}")
        elif scene.place is not None:
            self.place = scene.place
        self._weather_fits(scene)
        return scene

    def _weather_fits(self, scene: Scene) -> None:
        """No weather on the moon, and only the hour indoors: such pictures were never learned."""
        indoors = scene.place in drawing_words.INDOOR
        if scene.weather is None or not (
            scene.place == "moon" or (indoors and scene.weather in drawing_words.OUTDOOR_WEATHER)
        ):
            return
        for item in scene.items:
            if (
                item.category == "weather"
                and item.word is not None
                and item.word.fate != "left_out"
            ):
                item.word = None
                item.become("left_out", why=f"not drawn together with: {scene.place}")
        scene.weather = None

    def _exact(self, frame: Frame) -> bool:
        """Whether a prompt is in the model's own words already."""
        literal = literal_words(frame.prompt, self.story.characters)
        if not self.vocabulary.knows(literal):
            return False
        found = self._tokens(frame.prompt)
        return all("{" in t.text or "}" in t.text for t in found if t.kind == "name")

    def _frame_texts(
        self, index: int, frame: Frame, scene: Scene
    ) -> tuple[Frame, list[TextWording]]:
        place, line = f"frames[{index}].prompt", (frame.place_of("prompt").line or 0)
        prompt = frame.prompt
        if self._exact(frame):
            text = TextWording(place, line, prompt, prompt, notices=_misfits(scene))
        else:
            self._moods(scene)
            prompt = drawing_words.compose(scene, self.knows)
            words = tuple(item.word for item in scene.items if item.word is not None)
            notices = [*scene.notices, *(f"kept for a bubble: {said!r}" for said in scene.spoken)]
            text = TextWording(place, line, frame.prompt, prompt, words, tuple(notices))
        negative = self._negative(index, frame)
        style = self.frame_styles[index]
        worded = replace(frame, prompt=prompt, negative=negative.drawn, style=style)
        return worded, [text, *([negative] if frame.negative else [])]

    def _moods(self, scene: Scene) -> None:
        """A mood for everybody: of the scene, of the description, otherwise a friendly one."""
        for actor in scene.actors:
            if actor.mood is None and actor.name is not None:
                own = self.described[actor.name].sheet.factors.get("mood")
                digest = sha256(f"{self.seed}|mood|{actor.name}".encode()).digest()
                actor.mood = own or FRIENDLY[digest[0] % 2]
            elif actor.mood is None:
                actor.mood = "calm"

    def _negative(self, index: int, frame: Frame) -> TextWording:
        place, line = f"frames[{index}].negative", (frame.place_of("negative").line or 0)
        text = frame.negative
        if not text or self.vocabulary.knows(text):
            return TextWording(place, line, text, text)
        kept: list[str] = []
        words = []
        for part in re.finditer(r"[^,;.|\n()\[\]]+", text):
            said = part[0].strip()
            if not any(letter.isalpha() for letter in said):
                continue
            start = part.start() + part[0].index(said)
            drawn = self._unwanted(folded(said))
            fate: Fate = "same" if drawn else "left_out"
            fate = "kept" if drawn == said else fate
            words.append(Word(start, start + len(said), said, fate, drawn))
            kept += [drawn] if drawn else []
        out = ", ".join(repr(word.said) for word in words if word.fate == "left_out")
        notice = f"this model has no words for {out}, which were left out of what is not wanted"
        prompt = ", ".join(dict.fromkeys(kept))
        return TextWording(place, line, text, prompt, tuple(words), (notice,) if out else ())

    def _unwanted(self, part: str) -> str:
        """What a part of a negative is in the model's words, "" where it has none for it.

        Only as a whole and by true synonyms: what is merely near would forbid what is wanted.
        """
        if self.knows(part):
            return part
        count, senses = self.lexicon.match(part.replace("-", " ").split())
        same = [s for s in senses if s.relation == "same" and len(s.concepts) == 1]
        if count < len(part.replace("-", " ").split()):
            return ""
        return next((s.value for s in same if self.knows(s.value)), "")

    # room -------------------------------------------------------------------------------------
    def _fit(self, scenes: list[Scene]) -> dict[str, list[str]]:
        """Shorten sheets until every frame has room for its characters; what was named and had to
        go, by character.
        """
        lost: dict[str, list[str]] = {}
        for index, (frame, scene) in enumerate(zip(self.story.frames, scenes, strict=True)):
            exact = self._exact(frame)
            for _ in range(_MAX_CUTS):
                if not exact:
                    self._moods(scene)
                text = frame.prompt if exact else drawing_words.compose(scene, self.knows)
                over = (
                    self._length(text, self.frame_styles[index] or self.style)
                    - self.vocabulary.room
                )
                shown = [a.name for a in scene.actors if a.name in self.reworded and a.name]
                if over <= 0 or not shown:
                    break
                longest = max(shown, key=lambda n: len(self.described[n].sheet.words()))
                sheet = self.described[longest].sheet
                before = len(sheet.words().split())
                lost.setdefault(longest, []).extend(shorten(sheet, before - 1, before))
                if len(sheet.words().split()) == before:
                    break
        return {name: factors for name, factors in lost.items() if factors}

    def _length(self, prompt: str, style: str | None) -> int:
        cast = {}
        for name, character in self.story.characters.items():
            words = self._description(name, character)
            cast[name] = CastMember(name=name, words=words, noun=head_noun(words) or words)
        return Vocabulary.count(render(prompt, cast, style, story_world=True).text)

    # styles -----------------------------------------------------------------------------------
    def _styles(self) -> list[TextWording]:
        """Styles in the model's words: `style` of the story and `frame_styles` of its frames."""
        texts = []
        line = self.story.place_of("style").line or 0
        self.style, text = self._style(self.story.style, "style", line)
        texts += [text] if text else []
        self.frame_styles: list[str | None] = []
        for index, frame in enumerate(self.story.frames):
            line = frame.place_of("style").line or 0
            style, text = self._style(frame.style, f"frames[{index}].style", line)
            self.frame_styles.append(style)
            texts += [text] if text else []
        return texts

    def _style(
        self, style: str | None, place: str, line: int
    ) -> tuple[str | None, TextWording | None]:
        names = story_world_styles()
        if style is None or style.lower() in names:
            return style, None
        low = " ".join(folded(style).replace("-", " ").split())
        words = low.split()
        for start in range(len(words)):
            _, senses = self.lexicon.match(words[start:])
            found = next((s.value for s in senses if s.category == "style"), None)
            if found is not None:
                word = Word(0, len(style), style, "same", found)
                return found, TextWording(place, line, style, found, (word,))
        close = nearest(low, names)
        word = Word(0, len(style), style, "left_out", nearest=(close,) if close else names)
        return close, TextWording(place, line, style, close or "", (word,))


def _misfits(scene: Scene) -> tuple[str, ...]:
    """What a text in known words says that the model never saw together."""
    return tuple(
        f"{item.word.said!r}: {item.word.why}; say {item.word.drawn!r}"
        for item in scene.items
        if item.word is not None and item.word.why.startswith("this model has no")
    )
