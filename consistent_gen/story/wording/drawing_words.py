"""A scene in the words of the story world, in the order of the captions that its model learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from consistent_gen.registry import resolve
from consistent_gen.story.wording.scene_state import Actor, Scene

# The story world's own tables, looked up by name, as other models draw without them.
TABLES = {
    "place": "consistent_gen.world.phrases:PLACE_PHRASES",
    "weather": "consistent_gen.world.phrases:WEATHER_PHRASES",
    "prop": "consistent_gen.world.phrases:PROP_PHRASES",
    "camera": "consistent_gen.world.phrases:CAMERA_PHRASES",
    "action": "consistent_gen.world.phrases:ACTION_PHRASES",
    "mood": "consistent_gen.world.phrases:EXPRESSION_ADJECTIVES",
    "kind": "consistent_gen.world.phrases:KIND_NOUNS",
}
INDOOR = ("bedroom", "kitchen", "library")
OUTDOOR_WEATHER = ("cloudy", "rainy", "snowy")
_SMALL = ("a", "the", "in", "on", "at", "by", "of", "with", "to", "up")
Knows = Callable[[str], bool]


def table(name: str) -> Mapping[str, Sequence[str]]:
    """Value -> phrases for it, the plainest first."""
    found: Mapping[str, Sequence[str]] = resolve(TABLES, name)
    if name != "action":
        return found
    forms: Mapping[str, Sequence[tuple[str, str]]] = resolve(TABLES, name)
    return {value: [ing for ing, _ in pairs] for value, pairs in forms.items()}


def phrase(category: str, value: str, knows: Knows, said: Sequence[str] = ()) -> str:
    """Words for a value that the model knows, with the writer's own where one of them has it; ""
    when it knows none.
    """
    known = [text for text in table(category)[value] if text and knows(text)]
    own = {word for word in said if word not in _SMALL}
    telling = {text: {word for word in text.split() if word not in _SMALL} for text in known}
    whole = [text for text in known if telling[text] <= own]
    if whole:
        return max(whole, key=lambda text: len(telling[text]))
    return next((text for text in known if telling[text] & own), known[0] if known else "")


def compose(scene: Scene, knows: Knows) -> str:
    """The prompt: who does what, where, when, with what, seen how. Names stand in braces."""
    said = [word for item in scene.items if item.kind == "sense" for word in item.low.split()]
    actors = scene.actors
    parts = [_who(actor, knows) for actor in actors]
    actions = [_does(actor, knows, said) for actor in actors]
    together = len(actors) > 1 and len(set(actions)) == 1
    if not together:
        parts = [f"{part} {action}".strip() for part, action in zip(parts, actions, strict=True)]
    text = parts[-1] if parts else ""
    if len(parts) > 1:
        text = ", ".join(parts[:-1]) + " and " + text
    if together:
        text = f"{text} {actions[0]}".strip()
    for category in ("place", "weather", "prop"):
        value = getattr(scene, category)
        if value is not None:
            text += " " + phrase(category, value, knows, said)
    if scene.camera is not None and (view := phrase("camera", scene.camera, knows, said)):
        text += ", " + view
    return " ".join(text.split())


def _does(actor: Actor, knows: Knows, said: Sequence[str]) -> str:
    action = actor.action or "standing"
    if action == "standing" and actor.rank < 2.0:  # the word was only near to it
        action = actor.pose
    return phrase("action", action, knows, said)


def _who(actor: Actor, knows: Knows) -> str:
    mood = phrase("mood", actor.mood, knows) if actor.mood else ""
    if actor.name is not None:
        return "{" + f"{mood} {actor.name}".strip() + "}"
    traits = [word for word in actor.traits if knows(word)]
    noun = phrase("kind", actor.kind, knows) or actor.kind
    words = " ".join(word for word in (mood, *traits, noun) if word)
    dress = f" in {actor.wears}" if actor.wears and knows(f"in {actor.wears}") else ""
    return ("an " if words[0] in "aeiou" else "a ") + words + dress
