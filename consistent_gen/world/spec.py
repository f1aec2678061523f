"""What can be drawn: identities, frames, and seeded sampling of both with held-out combinations.

An `Identity` has 27 factors. Discrete ones are words of the tables below, continuous ones are
floats in [0, 1] (hues are circular). A caption names only some of them, so text alone cannot keep a
character. A `FrameSpec` is a place, a weather, a style, a camera and one to three `SubjectSpec`s.
Sampling takes a `random.Random`; the same state gives the same specification on every machine.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import asdict, dataclass
from typing import Any

from consistent_gen.world.palette import COATS, EYES, HUES, hue_name

KINDS = ("girl", "boy", "woman", "man", "fox", "cat", "bear", "rabbit", "dog", "robot")
PEOPLE = ("girl", "boy", "woman", "man")
HAIR_STYLES = ("short", "bob", "long", "curly", "ponytail", "spiky")
CHEEKS = ("none", "freckles", "blush", "stripes")
NOSES = ("button", "pointed", "wide")
EAR_SHAPES = ("round", "pointed", "floppy")
TOPS = ("shirt", "sweater", "dress", "jacket", "overalls")
SLEEVES = ("short", "long")
PATTERNS = ("plain", "stripes", "dots", "checks")
BOTTOMS = ("trousers", "shorts", "skirt")
SHOES = ("boots", "sneakers", "sandals")
ACCESSORIES = ("none", "hat", "glasses", "scarf", "crown", "backpack", "bow")

# Discrete factor -> its words. Order is the class order of the readers.
DISCRETE: dict[str, tuple[str, ...]] = {
    "kind": KINDS,
    "coat": tuple(COATS),
    "hair_style": HAIR_STYLES,
    "cheeks": CHEEKS,
    "eye_color": tuple(EYES),
    "nose": NOSES,
    "ear_shape": EAR_SHAPES,
    "top": TOPS,
    "sleeve": SLEEVES,
    "pattern": PATTERNS,
    "bottom": BOTTOMS,
    "shoes": SHOES,
    "accessory": ACCESSORIES,
}
HUE_FACTORS = ("top_hue", "pattern_hue", "bottom_hue", "shoe_hue", "accessory_hue")
SCALAR_FACTORS = (
    "height", "build", "skin", "coat_shift", "face_width", "eye_spacing", "eye_size", "ear_size",
    "pattern_scale",
)  # fmt: skip

PLACES = (
    "meadow", "forest", "beach", "city", "bedroom", "kitchen", "library", "mountain", "desert",
    "castle", "farm", "moon",
)  # fmt: skip
INDOOR = ("bedroom", "kitchen", "library")
WEATHERS = ("sunny", "cloudy", "rainy", "snowy", "sunset", "night")
ACTIONS = (
    "standing", "waving", "walking", "running", "sitting", "jumping", "reading", "eating",
    "dancing", "balloon",
)  # fmt: skip
EXPRESSIONS = ("happy", "sad", "angry", "surprised", "sleepy", "calm")
STYLES = ("flat", "outlined", "pencil", "watercolor", "pixel", "neon", "papercut")
CAMERAS = ("close", "medium", "far")
PROPS = ("none", "ball", "flowers", "kite", "butterfly", "lantern")

HELD_OUT_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Everything that makes a character itself, independent of the frame."""

    kind: str
    height: float
    build: float
    skin: float
    coat: str
    coat_shift: float
    hair_style: str
    cheeks: str
    face_width: float
    eye_spacing: float
    eye_size: float
    eye_color: str
    nose: str
    ear_shape: str
    ear_size: float
    top: str
    top_hue: float
    sleeve: str
    pattern: str
    pattern_scale: float
    pattern_hue: float
    bottom: str
    bottom_hue: float
    shoes: str
    shoe_hue: float
    accessory: str
    accessory_hue: float

    @property
    def is_person(self) -> bool:
        """True for girl, boy, woman and man: they have skin and hair; others have a coat all
        over.
        """
        return self.kind in PEOPLE

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary of all factors, in declaration order."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class SubjectSpec:
    """A character in a frame. `x` in [0, 1] is the horizontal centre, `facing` is -1 (left) or 1
    (right).
    """

    identity: Identity
    action: str
    expression: str
    x: float
    facing: int


@dataclass(frozen=True, kw_only=True)
class FrameSpec:
    """One picture. `layout_seed` fixes all the random detail of the place, `prop` is an extra
    object.
    """

    place: str
    weather: str
    style: str
    camera: str
    prop: str
    subjects: tuple[SubjectSpec, ...]
    layout_seed: int


def _hash_share(*words: str) -> float:
    """A fixed number in [0, 1) for a tuple of words, equal on every machine."""
    digest = hashlib.sha256("|".join(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def identity_held_out(identity: Identity) -> bool:
    """True when the combination (kind, coat, top colour name, accessory) never appears in
    training.
    """
    combination = (identity.kind, identity.coat, hue_name(identity.top_hue), identity.accessory)
    return _hash_share("identity", *combination) < HELD_OUT_SHARE


def scene_held_out(action: str, place: str) -> bool:
    """True when the pair (action, place) never appears in training."""
    return _hash_share("scene", action, place) < HELD_OUT_SHARE


def sample_hue(rng: random.Random) -> float:
    """A garment hue in [0, 1): a named anchor plus a jitter that keeps clear of the name's
    borders.
    """
    names = list(HUES)
    degrees = sorted(h for h, _, _ in HUES.values())
    center = HUES[rng.choice(names)][0]
    i = degrees.index(center)
    below = (center - degrees[i - 1]) % 360.0
    above = (degrees[(i + 1) % len(degrees)] - center) % 360.0
    t = rng.uniform(-1.0, 1.0) * 0.32
    return ((center + (t * above if t > 0 else t * below)) % 360.0) / 360.0


def sample_identity(
    rng: random.Random, *, held_out: bool = False, kind: str | None = None
) -> Identity:
    """A random identity inside (`held_out=False`) or outside the training combinations."""
    while True:
        identity = _draw_identity(rng, kind)
        if identity_held_out(identity) == held_out:
            return identity


def _draw_identity(rng: random.Random, kind: str | None) -> Identity:
    words = {name: rng.choice(options) for name, options in DISCRETE.items()}
    if kind is not None:
        words["kind"] = kind
    if words["kind"] in ("boy", "man"):
        words["top"] = "shirt" if words["top"] == "dress" else words["top"]
        words["bottom"] = "trousers" if words["bottom"] == "skirt" else words["bottom"]
    hues = {name: sample_hue(rng) for name in HUE_FACTORS}
    scalars = {name: rng.random() for name in SCALAR_FACTORS}
    if hue_name(hues["pattern_hue"]) == hue_name(hues["top_hue"]):  # a pattern must be seen
        hues["pattern_hue"] = (hues["top_hue"] + rng.uniform(0.3, 0.7)) % 1.0
    factors: dict[str, Any] = {**words, **hues, **scalars}
    return Identity(**factors)


def sample_frame(
    rng: random.Random,
    *,
    held_out: bool = False,
    identities: tuple[Identity, ...] | None = None,
    style: str | None = None,
) -> FrameSpec:
    """A random frame. `held_out=True` takes identities and (action, place) pairs outside training.

    `identities` fixes who is in the picture (1 to 3), `style` fixes the style.
    """
    if identities is None:
        count = rng.choices((1, 2, 3), weights=(70, 25, 5))[0]
        kinds = rng.sample(KINDS, count)
        identities = tuple(sample_identity(rng, held_out=held_out, kind=k) for k in kinds)
    camera = rng.choices(CAMERAS, weights=(40, 48, 12))[0] if len(identities) == 1 else "medium"
    place, actions = _sample_scene(rng, len(identities), held_out)
    weather = rng.choice(("sunny", "sunset", "night")) if place in INDOOR else rng.choice(WEATHERS)
    if place == "moon":
        weather = "night"
    subjects = []
    for i, (identity, action) in enumerate(zip(identities, actions, strict=True)):
        subjects.append(
            SubjectSpec(
                identity=identity,
                action=action,
                expression=rng.choice(EXPRESSIONS),
                x=_slot(i, len(identities), camera) + rng.uniform(-0.05, 0.05),
                facing=rng.choice((-1, 1)),
            )
        )
    return FrameSpec(
        place=place,
        weather=weather,
        style=style or rng.choice(STYLES),
        camera=camera,
        prop=rng.choices(PROPS, weights=(65, 7, 7, 7, 7, 7))[0],
        subjects=tuple(subjects),
        layout_seed=rng.getrandbits(32),
    )


def _sample_scene(rng: random.Random, count: int, held_out: bool) -> tuple[str, list[str]]:
    while True:
        place = rng.choice(PLACES)
        actions = [rng.choice(ACTIONS) for _ in range(count)]
        if all(scene_held_out(a, place) == held_out for a in actions):
            return place, actions


def _slot(i: int, count: int, camera: str) -> float:
    if count == 1:
        return {"close": 0.5, "medium": 0.5, "far": 0.45}[camera]
    return (0.29, 0.71)[i] if count == 2 else (0.18, 0.5, 0.82)[i]
