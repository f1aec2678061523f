"""Sky, falling weather and the tint that goes over a whole picture."""

from __future__ import annotations

from consistent_gen.world.painter import Brush, ellipse
from consistent_gen.world.palette import RGB, mix
from consistent_gen.world.stage import Stage, boxes, dots, strokes

# weather -> colours of the sky at the zenith and at the horizon
SKIES: dict[str, tuple[RGB, RGB]] = {
    "sunny": ((0.50, 0.75, 0.93), (0.83, 0.93, 0.97)),
    "cloudy": ((0.63, 0.70, 0.77), (0.82, 0.85, 0.87)),
    "rainy": ((0.40, 0.47, 0.57), (0.62, 0.68, 0.74)),
    "snowy": ((0.70, 0.77, 0.86), (0.88, 0.92, 0.95)),
    "sunset": ((0.60, 0.47, 0.68), (0.99, 0.72, 0.48)),
    "night": ((0.09, 0.11, 0.29), (0.22, 0.27, 0.47)),
}
_CLOUDS: dict[str, RGB] = {
    "sunny": (0.98, 0.99, 1.0),
    "cloudy": (0.92, 0.93, 0.95),
    "rainy": (0.52, 0.57, 0.65),
    "snowy": (0.95, 0.96, 0.98),
    "sunset": (0.98, 0.78, 0.72),
    "night": (0.24, 0.28, 0.46),
}
_CLOUD_COUNT = {"sunny": 2, "cloudy": 5, "rainy": 4, "snowy": 3, "sunset": 2, "night": 1}


def draw_sky(stage: Stage, horizon: float = 80.0) -> None:
    """Fill the picture with sky and hang sun or moon, stars and clouds in it."""
    top, bottom = SKIES[stage.weather]
    stage.painter.gradient(boxes([(-20.0, -20.0, 148.0, 148.0)]), top, bottom, 0.0, horizon)
    if stage.weather == "night":
        draw_stars(stage, 16, horizon - 15.0)
        draw_moon(stage)
    elif stage.weather in ("sunny", "sunset"):
        _draw_sun(stage, horizon)
    for i in range(_CLOUD_COUNT[stage.weather]):
        # clouds keep to the sides so that heads stand against clear sky
        x = stage.near(4.0, 34.0) if i % 2 else stage.near(94.0, 124.0)
        _draw_cloud(stage, x, stage.near(6.0, 34.0), stage.near(9.0, 15.0))


def _draw_sun(stage: Stage, horizon: float) -> None:
    side = stage.rng.choice((20.0, 108.0)) + stage.near(-6.0, 6.0)
    if stage.weather == "sunset":
        y, radius, color = horizon - stage.near(9.0, 16.0), 14.0, (1.0, 0.86, 0.55)
    else:
        y, radius, color = stage.near(15.0, 22.0), 10.0, (1.0, 0.90, 0.52)
    stage.soft(ellipse(side, y, radius * 1.7, radius * 1.7), color, 0.22)
    stage.soft(ellipse(side, y, radius * 1.3, radius * 1.3), color, 0.30)
    stage.fill(ellipse(side, y, radius, radius), color)


def draw_moon(stage: Stage) -> None:
    """A full moon in an upper corner."""
    x, y = stage.rng.choice((19.0, 109.0)) + stage.near(-5.0, 5.0), stage.near(15.0, 22.0)
    stage.soft(ellipse(x, y, 14.0, 14.0), (0.75, 0.80, 0.95), 0.16)
    stage.fill(ellipse(x, y, 9.0, 9.0), (0.95, 0.94, 0.82))
    stage.soft(dots([(x - 3.0, y - 2.0, 2.0), (x + 3.0, y + 3.0, 1.6)]), (0.84, 0.83, 0.74))


def draw_stars(stage: Stage, count: int, depth: float) -> None:
    """`count` soft stars above height `depth`."""
    stars = [
        (stage.near(2.0, 126.0), stage.near(2.0, depth), stage.near(0.7, 1.3)) for _ in range(count)
    ]
    stage.soft(dots(stars), (0.93, 0.93, 0.86))


def _draw_cloud(stage: Stage, x: float, y: float, size: float) -> None:
    puffs = [
        (x - 0.9 * size, y + 0.1 * size, 0.45 * size),
        (x - 0.2 * size, y - 0.2 * size, 0.62 * size),
        (x + 0.55 * size, y, 0.5 * size),
    ]
    color = _CLOUDS[stage.weather]
    path = dots(puffs)
    path.addPath(boxes([(x - 1.3 * size, y, x + 1.05 * size, y + 0.5 * size)], 0.25 * size))
    stage.soft(path, mix(color, SKIES[stage.weather][0], 0.12))


def draw_falling(stage: Stage) -> None:
    """Rain streaks or snowflakes in front of everything."""
    rng = stage.rng
    if stage.weather == "rainy":
        drops = []
        for i in range(34):
            x, y = (i % 6) * 23.0 + rng.uniform(-9.0, 9.0), (i // 6) * 23.0 + rng.uniform(-9.0, 9.0)
            drops.append(((x, y), (x - 2.6, y + rng.uniform(8.0, 12.0))))
        stage.line(strokes(drops), (0.80, 0.88, 0.96), 1.1, 0.6)
    elif stage.weather == "snowy":
        flakes = []
        for i in range(42):
            x, y = (
                (i % 6) * 23.0 + rng.uniform(-11.0, 11.0),
                (i // 6) * 19.0 + rng.uniform(-9.0, 9.0),
            )
            flakes.append((x, y, rng.uniform(0.9, 1.9)))
        stage.soft(dots(flakes), (0.99, 0.99, 1.0), 0.92)


def draw_tint(painter: Brush, weather: str) -> None:
    """The faint colour of evening, night or rain over figures and all."""
    tints: dict[str, tuple[RGB, float]] = {
        "sunset": ((1.0, 0.52, 0.25), 0.10),
        "night": ((0.08, 0.10, 0.35), 0.17),
        "rainy": ((0.35, 0.42, 0.55), 0.08),
    }
    if weather in tints:
        painter.veil(*tints[weather])
