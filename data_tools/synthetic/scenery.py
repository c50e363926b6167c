"""What lines a road: houses, lamp posts, trees, and small things on pavements.

Scenery is in metres of the road frame and is never annotated.

``view`` is the stretch of the road that gets scenery. ``gap`` is a part of the stretch that stays
free, for example for a street that meets the road.
"""

from __future__ import annotations

import numpy as np

from data_tools.synthetic.ground import GRASS
from data_tools.synthetic.roadside import LARGE, SMALL, building, fence, hedge, lamp_post, tree
from data_tools.synthetic.shapes import CONCRETE, STEEL, Part, between, moved, span


def houses(
    rng: np.random.Generator,
    view: tuple[float, float],
    front: float,
    gap: tuple[float, float] | None = None,
) -> list[Part]:
    parts: list[Part] = []
    low, high = view
    for side in (-1, 1):
        x = low
        while x < high:
            length = float(rng.uniform(10, 24))
            if gap and x < gap[1] and x + length > gap[0]:
                x = gap[1]
                continue
            if rng.random() < 0.86:
                parts += building(
                    rng,
                    side,
                    x,
                    front,
                    length,
                    float(rng.uniform(6, 22)),
                    float(rng.uniform(8, 14)),
                )
            else:
                parts += moved(hedge(rng, length), x + length / 2, side * front)
            x += length + float(rng.uniform(0.5, 6))
    return parts


def furniture(
    rng: np.random.Generator,
    view: tuple[float, float],
    kerbs: tuple[float, float],
    walls: tuple[float, float],
    gap: tuple[float, float] = (0.0, 0.0),
) -> list[Part]:
    """Build lamp posts at the kerb, trees by the walls, and small things on the pavement."""
    parts: list[Part] = []
    low, high = view
    for kerb, wall in zip(kerbs, walls, strict=True):
        for x in np.arange(low, high, 15.0) + rng.uniform(-4, 4):
            if gap[0] < x < gap[1]:
                continue
            parts += moved(lamp_post(rng, -1.4 * np.sign(kerb)), x, kerb)
            if rng.random() < 0.7:
                parts += moved(tree(rng), x + rng.uniform(4, 9), wall)
    return parts + scatter(rng, view, walls, 13.0, gap)


def scatter(
    rng: np.random.Generator,
    view: tuple[float, float],
    lines: tuple[float, ...],
    every: float,
    gap: tuple[float, float] = (0.0, 0.0),
) -> list[Part]:
    """Place things that are no objects along lines beside the road.

    There is one thing to about ``every`` so many metres.
    """
    parts: list[Part] = []
    low, high = view
    for y in lines:
        for x in np.arange(low, high, every):
            place = x + rng.uniform(0, every / 2)
            kinds = LARGE if rng.random() < 0.15 else SMALL
            found = kinds[rng.integers(len(kinds))](rng)
            if not gap[0] < place < gap[1]:
                parts += moved(found, place, y + np.sign(y) * (0.9 if kinds is LARGE else 0.0))
        for x in np.arange(low, high, 40.0):
            if rng.random() < 0.4 and not gap[0] - 8 < x < gap[1] + 8:
                parts += moved((fence, hedge)[rng.integers(2)](rng, 8.0), x, y + 0.5 * np.sign(y))
    return parts


def motorway_side(rng: np.random.Generator, view: tuple[float, float]) -> list[Part]:
    """Build a wall between the directions, rails, gantries, and green or noise barriers beyond."""
    low, high = view
    parts = [
        span((low, high), (-0.3, 0.3), (0.0, 0.25), CONCRETE),
        span((low, high), (-0.14, 0.14), (0.25, 0.95), CONCRETE),
    ]
    for side in (-1, 1):
        parts += [span((low, high), between(side * 15.2, side * 15.3), (0.5, 0.85), STEEL)]
        parts += [
            Part("box", (x, side * 15.4, 0.4), (0.12, 0.12, 0.8), STEEL)
            for x in np.arange(low, high, 4.0)
        ]
        x = low
        while x < high:
            length = float(rng.uniform(20, 60))
            kind = rng.integers(3)
            if kind == 0:
                parts += [
                    span((x, x + length), between(side * 21.0, side * 21.3), (0.0, 3.6), GRASS)
                ]
            elif kind == 1:
                parts += [
                    part
                    for place in np.arange(x, x + length, 6.0)
                    for part in moved(tree(rng), place, side * (21 + rng.uniform(0, 6)))
                ]
            else:
                parts += building(rng, side, x, 30.0, length, float(rng.uniform(7, 25)), 12.0)
            x += length
        for x in np.arange(low, high, 35.0):
            parts += moved(lamp_post(rng, -side * 2.2), x, side * 15.9)
    for x in np.arange(low + 60, high, 140.0) + rng.uniform(-30, 30):
        parts += [Part("tube_z", (x, side * 16.0, 3.2), (0.3, 0.3, 6.4), STEEL) for side in (-1, 1)]
        parts += [span((x - 0.2, x + 0.2), (-16, 16), (6.0, 6.5), STEEL)]
        parts += [
            span((x - 0.26, x - 0.2), (y - 1.6, y + 1.6), (5.6, 7.6), (0.08, 0.22, 0.5))
            for y in (-9.8, -4.4)
        ]
    return parts
