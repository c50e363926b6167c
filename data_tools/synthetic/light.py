"""Weather and time of day, as light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """The light on a drive. Colours are linear, where 1 is a white card at noon."""

    name: str
    # Unit vector towards the sun, road frame. Under clouds the vector points to the zenith.
    sun: NDArray[np.float32]
    sunlight: Triple
    ambient: Triple
    sky_low: Triple
    sky_high: Triple
    haze: float  # metres after which a third of the contrast is left
    clouds: float = 0.0
    wet: float = 0.0  # strength of the reflection on the ground
    lamps: float = 0.0  # brightness of lit lamps


def make_light(rng: np.random.Generator, name: str) -> Light:
    """Make a light: ``plain`` (the preset easy's), ``day``, ``overcast``, ``dusk`` or ``rain``."""
    if name == "plain":
        return Light(
            name,
            _sun(rng, 35, 65),
            (0.68,) * 3,
            (0.45,) * 3,
            (0.80, 0.86, 0.92),
            (0.38, 0.58, 0.86),
            260.0,
        )
    if name == "day":
        strength = rng.uniform(0.75, 1.1)
        blue = rng.uniform(0.7, 1.1)
        return Light(
            name,
            _sun(rng, 22, 75),
            (strength, strength * 0.96, strength * 0.88),
            (0.34, 0.37, 0.42),
            (0.82, 0.88, 0.94),
            (0.36 * blue, 0.55 * blue, 0.85 * blue),
            rng.uniform(220, 500),
            clouds=rng.uniform(0.0, 0.9),
        )
    if name == "dusk":
        glow = rng.uniform(0.6, 1.0)
        return Light(
            name,
            _sun(rng, 3, 12),
            (0.42 * glow, 0.25 * glow, 0.13 * glow),
            (0.15, 0.155, 0.19),
            (0.55 * glow, 0.36 * glow, 0.24 * glow),
            (0.10, 0.14, 0.26),
            rng.uniform(180, 350),
            clouds=rng.uniform(0.2, 0.9),
            lamps=1.0,
        )
    grey = rng.uniform(0.6, 0.85) if name == "overcast" else rng.uniform(0.42, 0.62)
    low = (grey * 1.05, grey * 1.06, grey * 1.08)
    high = (grey * 0.88, grey * 0.9, grey * 0.95)
    overcast = Light(
        name,
        _sun(rng, 78, 88),
        (0.22 * grey,) * 3,
        (0.62 * grey, 0.64 * grey, 0.67 * grey),
        low,
        high,
        rng.uniform(150, 320),
        0.5,
    )
    if name == "overcast":
        return overcast
    if name == "rain":
        fields = {
            "haze": rng.uniform(70, 150),
            "wet": rng.uniform(0.5, 0.9),
            "lamps": 0.55,
            "clouds": 0.3,
        }
        return Light(**{**vars(overcast), **fields})
    raise ValueError(f"no light called {name!r}")


def _sun(rng: np.random.Generator, least: float, most: float) -> NDArray[np.float32]:
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = np.radians(rng.uniform(least, most))
    return np.array(
        [
            np.cos(azimuth) * np.cos(elevation),
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
        ],
        np.float32,
    )
