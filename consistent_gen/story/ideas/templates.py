"""A story from an idea without a language model: an arc of lines over the world's places, actions,
moods, weather and views, all drawn from one seed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from consistent_gen.story.ideas.plots import PlotLine, beats, fitting
from consistent_gen.story.ideas.reading import NAMES, Hero, Idea
from consistent_gen.story.script import MAX_CHARS
from consistent_gen.story.types import Character, Frame, Story
from consistent_gen.story.wording import Vocabulary
from consistent_gen.story.wording.drawing_words import INDOOR, compose, phrase, table
from consistent_gen.story.wording.scene import Actor, Scene
from consistent_gen.story.wording.sheets import GENDERS

DEEDS = {"dancing": "dance", "reading": "read", "jumping": "jump", "running": "run"}
_FRIENDS = ("fox", "cat", "bear", "rabbit", "dog", "robot", "girl", "boy")
_MOODS = ("sad", "angry", "sleepy", "surprised")
# Said of a day in captions; a sunny one is not worth a word.
_DAYS = {
    "sunny": ("The sun is shining.", "There is not a cloud in the sky."),
    "cloudy": ("It is a grey day.", "Clouds hang low today."),
    "rainy": ("It has been raining since morning.", "Rain, rain, nothing but rain."),
    "snowy": ("It has snowed in the night.", "Everything is white with snow."),
    "sunset": ("It is evening, and the sky is red.", "The sun is going down."),
    "night": ("It is night, and the stars are out.", "It is dark, and everybody is asleep."),
}
_BEGINS = {
    "rainy": ("It begins to rain.", "Rain sets in."),
    "snowy": ("It begins to snow.", "The first snow falls."),
    "cloudy": ("Clouds come up.", ""),
}
_HOURS = {
    "sunset": ("In the evening, ", "As the sun goes down, ", "Towards evening, "),
    "night": ("That night, ", "When the stars come out, ", "Late at night, "),
    "day": ("The next morning, ", "The next day, "),
}
_COMES = {  # the same as sentences
    "sunset": ("Evening comes.", "The sun goes down."),
    "night": ("Night falls.", "The stars come out."),
    "day": ("A new day begins.", "The next day is here."),
}
_WET = ("rainy", "snowy")
_DARK = ("sunset", "night")
_NOT_FAR = ("moon",)  # nobody walks there; only an idea that names it goes there
_TOKEN = re.compile(r"<([^<>]+)>")
_AGREES = re.compile(r"\[([^|\]]+)\|([^\]]+)\]")


@dataclass
class _Told:
    """What the frames so far have said."""

    place: str
    weather: str
    company: list[Hero]


class Teller:
    """Tells one idea as a story. Equal idea, frames, seed and vocabulary: an equal story."""

    def __init__(self, idea: Idea, vocabulary: Vocabulary, rng: random.Random) -> None:
        self.idea, self.knows, self.rng = idea, vocabulary.knows, rng
        scene = idea.scene
        self.actions = {a.name: a.action for a in scene.actors if a.name}
        self.moods = {a.name: a.mood for a in scene.actors if a.name and a.mood}
        self.deed = next((a for a in self.actions.values() if a), None)
        self.thing = "balloon" if self.deed == "balloon" else scene.prop or ""
        self.plot = self._plot()
        places = [p for p in table("place") if phrase("place", p, self.knows)]
        named = scene.place if scene.place in places else None
        away = [p for p in places if p not in (named, *_NOT_FAR)] or places
        goes = self.plot == "go"
        open_air = [p for p in away if p not in INDOOR] or away
        self.home = (
            named
            if named and not goes
            else rng.choice(open_air if scene.weather is not None else away)
        )
        others = [p for p in away if p != self.home] or away
        self.goal = named if named and goes else rng.choice(others)
        self.places = [p for p in others if p != self.goal] or others
        self.friend = idea.heroes[1] if self.plot == "seek" else None
        self.heroes = idea.heroes[:1] if self.plot == "seek" else list(idea.heroes)
        self._waiting: list[str] = []
        self._used: set[PlotLine] = set()

    def tell(self, frames: int) -> Story:
        """The story: its words are the model's, apart from the descriptions."""
        arc = beats(frames)
        if len(self.idea.heroes) == 1 and "turn" in arc and self.rng.random() < 0.75:
            self.friend = self._make_friend()
        told = _Told(self.home, "", list(self.heroes))
        weathers = self._weathers(arc)
        drawn = [
            self._frame(beat, weather, told, first=at == 0)
            for at, (beat, weather) in enumerate(zip(arc, weathers, strict=True))
        ]
        cast = {
            hero.name: Character(name=hero.name, description=hero.description)
            for hero in dict.fromkeys([*self.idea.heroes, *told.company])
        }
        return Story(title=self._title(), characters=cast, frames=tuple(drawn))

    def _plot(self) -> str:
        if self.thing:
            return "thing"
        if self.idea.sought:
            return "seek"
        if self.idea.alone and self.idea.scene.weather is not None:
            return "day"
        if self.deed in DEEDS and self._is_said(self.deed):
            return "do"
        if self.idea.scene.place is not None and self.deed in (None, "walking", "running"):
            return "go"
        if len(self.idea.heroes) > 1:
            return "friends"
        moody = self.moods.get(self.idea.heroes[0].name) in _MOODS
        return "feel" if moody and not self.idea.sentence else "quest"

    def _is_said(self, deed: str) -> bool:
        """Whether the writer's own verb is what is drawn: to fly is not to jump."""
        return any(
            item.sense is not None and item.sense.relation == "same"
            and item.category == "action" and item.sense.value == deed
            for item in self.idea.scene.items
        )  # fmt: skip

    def _make_friend(self) -> Hero:
        kinds = [k for k in _FRIENDS if self.knows(k) and k not in self.idea.heroes[0].description]
        kind = self.rng.choice(kinds or ["friend"])
        gender = GENDERS.get(kind) or self.rng.choice(("she", "he"))
        names = [n for n in NAMES[gender] if n != self.idea.heroes[0].name]
        return Hero(self.rng.choice(names), f"a {kind}", gender)

    def _weathers(self, arc: Sequence[str]) -> list[str]:
        """An hour or a weather for each beat: days pass, and each has its evening."""
        named = self.idea.scene.weather
        days = max(1, round(len(arc) / 6))
        found = []
        for day in range(days):
            length = len(arc) * (day + 1) // days - len(arc) * day // days
            wet = self.rng.choice(("sunny", "cloudy", "rainy", "rainy", "snowy"))
            night = self.rng.choice(_DARK)
            for at in range(length):
                part = at / length
                middle = "cloudy" if part < 0.55 and wet in _WET else wet
                found.append(
                    "sunny" if part < 0.3 else middle if part < 0.7
                    else "sunset" if part < 0.85 else night
                )  # fmt: skip
        if named is not None:  # it lasts to the turn, or through the first three frames
            until = arc.index("turn") if "turn" in arc else 1
            for at in range(max(until, 1) if self.plot == "day" else min(until, 3)):
                found[at] = named
        known = {w for w in table("weather") if phrase("weather", w, self.knows)}
        return [weather if weather in known else "" for weather in found]

    # one frame --------------------------------------------------------------------------------
    def _frame(self, beat: str, weather: str, told: _Told, *, first: bool) -> Frame:
        line = self._line(beat, weather, told)
        place = self._place(line, told)
        weather = self._fitting_weather(line.hour or weather, place)
        heroes = list(told.company)
        friend = self.friend if line.friend is not None else None
        actors = [self._actor(hero, line.action, line.mood, beat) for hero in heroes]
        if friend is not None and line.friend is not None:
            actors.append(self._actor(friend, *line.friend, beat))
        holds = line.action.startswith("thing")
        scene = Scene(
            actors=actors,
            place=place,
            weather=weather or None,
            prop=self.thing if holds and self.thing != "balloon" else None,
            camera=line.view or self.rng.choice((None, None, None, "close", "far")),
        )
        if beat == "idea" and self.thing and not holds:
            scene.prop = self.thing if self.thing != "balloon" else None
        if len(actors) > 1 and scene.camera == "close":
            scene.camera = None  # several faces do not fit
        caption = self._caption(line, beat, place, weather, heroes, told, first=first)
        if friend is not None:
            told.company.append(friend)
        told.place, told.weather = place, weather or told.weather
        return Frame(prompt=compose(scene, self.knows), caption=caption[: MAX_CHARS["caption"]])

    def _line(self, beat: str, weather: str, told: _Told) -> PlotLine:
        meets = (
            self.friend is not None and self.friend not in told.company
            and (beat == "turn" or (beat == "ending" and self.plot == "seek"))
        )  # fmt: skip
        found = fitting(self.plot, beat, meets=meets)
        wet = weather in (*_WET, "night")
        sure = [line for line in found if line not in self._used] or found
        # Nobody has a picnic in the rain, and a line of one hour waits for it.
        fits = [line for line in sure if not line.hour or line.hour == weather]
        fits = [line for line in fits if not (wet and line.where == "out")] or fits or sure
        own = [line for line in fits if self.plot in line.plots]
        line = self.rng.choice(own or fits)
        self._used.add(line)
        return line

    def _place(self, line: PlotLine, told: _Told) -> str:
        if line.where in ("home", "goal", "here"):
            return {"home": self.home, "goal": self.goal, "here": told.place}[line.where]
        if not self._waiting:
            self._waiting = self.rng.sample(self.places, len(self.places))
        inside = line.where == "in"
        fits = [
            p for p in self._waiting
            if p != told.place and (not line.where or (p in INDOOR) == inside)
        ]  # fmt: skip
        spare = [p for p in self.places if not line.where or (p in INDOOR) == inside]
        place = fits[0] if fits else self.rng.choice(spare or self.places)
        if place in self._waiting:
            self._waiting.remove(place)
        return place

    def _fitting_weather(self, weather: str, place: str) -> str:
        """No weather on the moon, only hours indoors, no snow where it never falls."""
        if place == "moon":
            return ""
        if place in INDOOR:
            return weather if weather in _DARK else ""
        if weather == "snowy" and place in ("desert", "beach"):
            return "cloudy" if phrase("weather", "cloudy", self.knows) else ""
        return weather

    def _actor(self, hero: Hero, action: str, mood: str, beat: str) -> Actor:
        own = self.moods.get(hero.name)
        held, _, otherwise = action.partition("/")
        if held == "thing":
            action = "balloon" if self.thing == "balloon" else otherwise or "standing"
        elif held == "deed":
            action = self.actions.get(hero.name) or self.deed or "standing"
        if beat == "idea" and self.actions.get(hero.name) and self.idea.sentence:
            action = self.actions[hero.name] or action
        mood = own or "sad" if mood == "own" else mood
        if beat in ("opening", "idea") and own is not None:
            mood = own
        if not phrase("action", action, self.knows):
            action = "standing"
        return Actor(hero.name, "", action=action, mood=mood, rank=3.0)

    # captions ---------------------------------------------------------------------------------
    def _caption(
        self, line: PlotLine, beat: str, place: str, weather: str, heroes: list[Hero], told: _Told,
        *, first: bool,
    ) -> str:  # fmt: skip
        text = line.caption
        if beat == "idea" and self.idea.sentence:
            # What somebody is holds on other days, too.
            lasts = re.search(r"^\S+( and \S+)* (is|are) (?!\w+ing\b)", self.idea.sentence)
            text = self.idea.sentence if lasts else f"@One day, @{self.idea.sentence}"
        elif beat == "idea" and self.idea.alone and self.plot not in ("thing", "day"):
            text = "@One day, @<A> [has|have] only one thing in mind: <idea>."
        many = len(heroes) > 1
        text = _AGREES.sub(lambda m: m[2 if many else 1], text)
        hour, sky = ("", "") if first else self._passing(weather, told.weather)
        match = re.match(r"@([^@]*)@", text)
        if match is not None:
            text = text[match.end() :]
            hour = hour or ("" if sky else match[1])
        elif "<weather>" in text:
            hour = sky = ""
        elif hour:
            new = weather if weather in _DARK else "day"
            hour, sky = "", self.rng.choice(_COMES[new])
        text = self._filled(text, place, weather, heroes)
        if hour:
            names = tuple(h.name for h in (*heroes, *([self.friend] if self.friend else [])))
            text = hour + (text if text.startswith((*names, "“", "I ")) else _small(text))
        return f"{sky} {_large(text)}".strip()

    def _passing(self, weather: str, before: str) -> tuple[str, str]:
        """(the hour, a sentence about the sky), where they have changed."""
        if not weather or weather == before:
            return "", ""
        if weather in _DARK:
            return self.rng.choice(_HOURS[weather]), ""
        hour = self.rng.choice(_HOURS["day"]) if before in _DARK else ""
        sky = self.rng.choice(_BEGINS.get(weather, ("",)))
        if before in _WET and weather == "sunny":
            sky = "The sun comes out again."
        elif before in _WET and weather == "cloudy":
            sky = "The rain stops." if before == "rainy" else "It stops snowing."
        return (hour, "") if hour else ("", sky)

    def _filled(self, text: str, place: str, weather: str, heroes: list[Hero]) -> str:
        they, them, their = _pronouns(heroes)
        where = _definite(place)
        friend = self.friend or heroes[-1]
        mood = self.idea.mood or self.moods.get(heroes[0].name) or "sad"
        words = {
            "A": _listed([hero.name for hero in heroes]), "H": heroes[0].name, "F": friend.name,
            "a F": friend.description, "they": they, "them": them, "their": their, "place": where,
            "to place": "to " + where.partition(" ")[2], "thing": f"the {self.idea.thing}",
            "a thing": self._some_thing(), "do": DEEDS.get(self.deed or "", "do"),
            "doing": self.deed or "doing", "mood": mood,
            "idea": _small(self.idea.written.rstrip(" .!?")),
            "weather": self.rng.choice(_DAYS.get(weather, ("",))),
        }  # fmt: skip

        def word(match: re.Match[str]) -> str:
            found = words.get(match[1]) or words[match[1].lower()]
            return found if match[1] in words else _large(found)

        return " ".join(_TOKEN.sub(word, text).split())

    def _some_thing(self) -> str:
        plural = any(
            item.sense is not None and item.sense.plural and item.low == self.idea.thing
            for item in self.idea.scene.items
        )
        if plural or self.idea.thing.endswith(("flowers", "blossoms")):
            return f"some {self.idea.thing}"
        return _with_article(self.idea.thing)

    def _title(self) -> str:
        title = _large(self.idea.written.rstrip(" .!;:,"))
        return title if len(title) <= MAX_CHARS["title"] else title[:100].rsplit(" ", 1)[0] + "…"


def tell(idea: Idea, frames: int, vocabulary: Vocabulary, rng: random.Random) -> Story:
    """A story of so many frames that tells `idea`."""
    story = Teller(idea, vocabulary, rng).tell(frames)
    assert len(story.frames) == frames
    return story


def _pronouns(heroes: Sequence[Hero]) -> tuple[str, str, str]:
    if len(heroes) > 1:
        return "they", "them", "their"
    return ("she", "her", "her") if heroes[0].gender == "she" else ("he", "him", "his")


def _definite(place: str) -> str:
    """ "in the forest": the phrase with "the", where the world has one."""
    found = [text for text in table("place")[place] if " the " in f" {text} "]
    return found[0] if found else table("place")[place][0]


def _listed(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), names[-1]])


def _with_article(noun: str) -> str:
    return ("an " if noun[:1] in tuple("aeiou") else "a ") + noun


def _large(text: str) -> str:
    return text[:1].upper() + text[1:]


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]
