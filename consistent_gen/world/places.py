"""The twelve places by name: how each is drawn. Their names stand in `spec`, their words in
`phrases`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from consistent_gen.world import places_built, places_indoor, places_nature
from consistent_gen.world.painter import Brush
from consistent_gen.world.spec import INDOOR
from consistent_gen.world.stage import Stage

_DRAW: dict[str, Callable[[Stage], float]] = {
    "meadow": places_nature.draw_meadow,
    "forest": places_nature.draw_forest,
    "beach": places_nature.draw_beach,
    "city": places_built.draw_city,
    "bedroom": places_indoor.draw_bedroom,
    "kitchen": places_indoor.draw_kitchen,
    "library": places_indoor.draw_library,
    "mountain": places_nature.draw_mountain,
    "desert": places_nature.draw_desert,
    "castle": places_built.draw_castle,
    "farm": places_built.draw_farm,
    "moon": places_nature.draw_moon_surface,
}


def draw_place(painter: Brush, place: str, weather: str, rng: random.Random) -> float:
    """Draw the background over the whole picture; returns where the ground begins (units).

    Objects stand at the sides: the middle is kept calm for the figures.
    """
    return _DRAW[place](Stage(painter, weather, rng, indoor=place in INDOOR))
