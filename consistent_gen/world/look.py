"""How an identity looks: its colours and its proportions, worked out once per drawing.

All lengths are units of the figure frame (about 100 units of standing height).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from consistent_gen.world.painter import label
from consistent_gen.world.palette import RGB, coat_color, eye_color, hue_color, mix, skin_color
from consistent_gen.world.spec import Identity

INK: RGB = (0.22, 0.14, 0.17)
CREAM: RGB = (0.985, 0.965, 0.925)
SCREEN: RGB = (0.80, 0.91, 0.95)
PLUM: RGB = (0.22, 0.13, 0.24)
ROSE: RGB = (0.93, 0.45, 0.45)

ADULTS = ("woman", "man")
_KIND_SCALE = {"woman": 1.08, "man": 1.09, "rabbit": 0.86, "robot": 0.95}

_hue_color = lru_cache(maxsize=512)(hue_color)


def shade(color: RGB, amount: float) -> RGB:
    """`color` moved towards a dark plum by `amount` in [0, 1]."""
    return mix(color, PLUM, amount)


def tint(color: RGB, amount: float) -> RGB:
    """`color` moved towards a warm white by `amount` in [0, 1]."""
    return mix(color, CREAM, amount)


def luma(color: RGB) -> float:
    """Perceived brightness in [0, 1] (Rec. 601 weights on encoded values)."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


@dataclass(frozen=True, kw_only=True)
class Body:
    """Proportions in figure units: bone lengths, half widths of shoulder and hip, thickness."""

    thigh: float
    shin: float
    upper_arm: float
    forearm: float
    torso: float
    shoulder: float
    hip: float
    limb: float
    head_scale: float

    @classmethod
    def of(cls, who: Identity) -> Body:
        """Proportions of an identity from its kind, height and build."""
        scale = (0.84 + 0.32 * who.height) * _KIND_SCALE.get(who.kind, 0.97)
        arm = 0.72 + 0.28 * scale  # short figures keep arms that reach past their big heads
        shoulder = 9.4 + 3.8 * who.build + {"man": 2.4, "bear": 0.8}.get(who.kind, 0.0)
        hip = 8.2 + 5.2 * who.build + {"woman": 0.8, "man": -0.6, "bear": 1.2}.get(who.kind, 0.0)
        return cls(
            thigh=13.0 * scale,
            shin=12.5 * scale,
            upper_arm=13.4 * arm,
            forearm=13.4 * arm,
            torso=26.0 * scale,
            shoulder=shoulder,
            hip=hip,
            limb=6.8 + 2.6 * who.build,
            head_scale=0.96 if who.kind in ADULTS else 1.0,
        )


@dataclass(frozen=True, kw_only=True)
class Look:
    """An identity with its colours resolved. `index` is the subject number that labels carry."""

    who: Identity
    index: int
    body: Body
    skin: RGB
    hair: RGB
    pale: RGB
    top: RGB
    pattern: RGB
    bottom: RGB
    shoe: RGB
    accessory: RGB
    eye: RGB

    @classmethod
    def of(cls, who: Identity, index: int) -> Look:
        """Colours of an identity: people have skin and hair, others a coat with a tuft."""
        coat, skin = coat_color(who.coat, who.coat_shift), skin_color(who.skin)
        tuft = shade(coat, 0.30) if luma(coat) > 0.4 else tint(coat, 0.32)
        return cls(
            who=who,
            index=index,
            body=Body.of(who),
            skin=skin if who.is_person else coat,
            hair=coat if who.is_person else tuft,
            pale=mix(SCREEN, skin, 0.2) if who.kind == "robot" else mix(CREAM, skin, 0.3),
            top=_hue_color(who.top_hue),
            pattern=_hue_color(who.pattern_hue),
            bottom=_hue_color(who.bottom_hue),
            shoe=_hue_color(who.shoe_hue),
            accessory=_hue_color(who.accessory_hue),
            eye=eye_color(who.eye_color),
        )

    def tag(self, part: str) -> int:
        """The label byte of one of this figure's parts."""
        return label(self.index, part)

    @property
    def feminine(self) -> bool:
        """True for girl and woman: lashes and fuller hair."""
        return self.who.kind in ("girl", "woman")

    @property
    def face_half_width(self) -> float:
        """Half width of the face in head units, 17.5 to 22."""
        return 17.5 + 4.5 * self.who.face_width
