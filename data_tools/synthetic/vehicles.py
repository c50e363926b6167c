"""Vehicles on four wheels and more, in the unit box, with an outline that tells front from back."""

from __future__ import annotations

import numpy as np

from data_tools.synthetic.shapes import (
    BLACK,
    GLASS,
    HEADLIGHT,
    ORANGE,
    RED,
    STEEL,
    TAIL_LIGHT,
    WHITE,
    YELLOW,
    Colour,
    Part,
    choose,
    span,
)

# Paint colours as streets have them: mostly no colour at all.
PAINTS: tuple[Colour, ...] = (
    (0.80, 0.80, 0.78),
    (0.78, 0.79, 0.80),
    (0.55, 0.56, 0.58),
    (0.30, 0.31, 0.33),
    (0.20, 0.20, 0.22),
    (0.07, 0.07, 0.08),
    (0.10, 0.10, 0.11),
    (0.12, 0.20, 0.45),
    (0.55, 0.09, 0.08),
    (0.33, 0.24, 0.18),
    (0.13, 0.26, 0.20),
    (0.75, 0.63, 0.12),
)
LOADS: tuple[Colour, ...] = (
    (0.82, 0.82, 0.80),
    (0.70, 0.71, 0.72),
    (0.10, 0.32, 0.55),
    (0.55, 0.30, 0.15),
    (0.16, 0.42, 0.30),
    (0.60, 0.12, 0.10),
)

Shape = list[Part]


def _wheels(xs: tuple[float, ...], diameter: float, length: float) -> Shape:
    """Build pairs of wheels at ``xs``.

    ``diameter`` is a share of the height, and ``length`` a share of the length.
    """
    wheels = [
        Part("tube_y", (x, side * 0.42, diameter / 2), (length, 0.16, diameter), BLACK)
        for x in xs
        for side in (-1, 1)
    ]
    hubs = [
        Part("tube_y", (x, side * 0.43, diameter / 2), (length / 2, 0.15, diameter / 2), STEEL)
        for x in xs
        for side in (-1, 1)
    ]
    return [*wheels, *hubs]


def _lights(height: float) -> Shape:
    """Build head lights in front, tail lights behind, and a number plate.

    The lights tell the heading.
    """
    lights = [
        Part(
            "box",
            (end * 0.49, side * 0.34, height),
            (0.02, 0.26, 0.12),
            HEADLIGHT if end > 0 else TAIL_LIGHT,
            1.6 if end > 0 else 0.8,
        )
        for end in (-1, 1)
        for side in (-1, 1)
    ]
    return [
        *lights,
        *(
            span(
                (end * 0.495 - 0.005, end * 0.495 + 0.005),
                (-0.12, 0.12),
                (height - 0.16, height - 0.07),
                WHITE,
            )
            for end in (-1, 1)
        ),
    ]


def _mirrors(x: float, height: float, colour: Colour) -> Shape:
    return [Part("box", (x, side * 0.47, height), (0.03, 0.06, 0.09), colour) for side in (-1, 1)]


def sedan(rng: np.random.Generator, phase: float) -> Shape:
    paint = choose(rng, PAINTS)
    return [
        span((-0.49, 0.49), (-0.46, 0.46), (0.14, 0.56), paint),
        span((-0.33, 0.18), (-0.40, 0.40), (0.56, 0.94), GLASS),
        span((0.14, 0.20), (-0.38, 0.38), (0.52, 0.90), GLASS, tilt=-0.5),
        span((-0.38, -0.32), (-0.38, 0.38), (0.52, 0.90), GLASS, tilt=0.5),
        span((-0.30, 0.12), (-0.40, 0.40), (0.92, 1.0), paint),
        *_mirrors(0.16, 0.62, paint),
        *_wheels((-0.3, 0.3), 0.4, 0.14),
        *_lights(0.42),
    ]


def hatchback(rng: np.random.Generator, phase: float) -> Shape:
    paint = choose(rng, PAINTS)
    return [
        span((-0.49, 0.49), (-0.46, 0.46), (0.13, 0.54), paint),
        span((-0.46, 0.16), (-0.41, 0.41), (0.54, 0.93), GLASS),
        span((0.13, 0.20), (-0.38, 0.38), (0.50, 0.88), GLASS, tilt=-0.5),
        span((-0.48, 0.10), (-0.41, 0.41), (0.91, 1.0), paint),
        span((-0.22, -0.18), (-0.42, 0.42), (0.54, 0.93), paint),
        *_mirrors(0.17, 0.60, paint),
        *_wheels((-0.31, 0.31), 0.4, 0.16),
        *_lights(0.42),
    ]


def off_roader(rng: np.random.Generator, phase: float) -> Shape:
    paint = choose(rng, PAINTS)
    return [
        span((-0.49, 0.49), (-0.47, 0.47), (0.20, 0.58), paint),
        span((-0.48, 0.17), (-0.43, 0.43), (0.58, 0.90), GLASS),
        span((-0.48, 0.14), (-0.43, 0.43), (0.88, 0.97), paint),
        *(
            span((-0.4, 0.1), (side * 0.36 - 0.02, side * 0.36 + 0.02), (0.97, 1.0), BLACK)
            for side in (-1, 1)
        ),
        *(span((x, x + 0.03), (-0.44, 0.44), (0.58, 0.9), paint) for x in (-0.47, -0.2, 0.13)),
        *_mirrors(0.17, 0.64, paint),
        *_wheels((-0.3, 0.3), 0.44, 0.17),
        *_lights(0.45),
    ]


def van(rng: np.random.Generator, phase: float) -> Shape:
    paint = choose(rng, PAINTS[:6])
    windows = (
        [span((-0.44, 0.1), (-0.485, 0.485), (0.54, 0.82), GLASS)] if rng.random() < 0.5 else []
    )
    return [
        span((-0.49, 0.40), (-0.48, 0.48), (0.13, 1.0), paint),
        span((0.38, 0.49), (-0.46, 0.46), (0.13, 0.50), paint),
        span((0.34, 0.43), (-0.44, 0.44), (0.50, 0.92), GLASS, tilt=-0.25),
        span((0.18, 0.36), (-0.485, 0.485), (0.54, 0.82), GLASS),
        *windows,
        *_mirrors(0.36, 0.58, BLACK),
        *_wheels((-0.3, 0.31), 0.33, 0.14),
        *_lights(0.36),
    ]


def taxi(rng: np.random.Generator, phase: float) -> Shape:
    paint = ((0.85, 0.62, 0.05), (0.12, 0.25, 0.55), (0.75, 0.1, 0.1))[rng.integers(3)]
    body = [
        part._replace(colour=paint) if part.size[2] == 0.56 - 0.14 else part
        for part in sedan(rng, phase)
    ]
    return [
        *(
            part._replace(middle=(part.middle[0], part.middle[1], part.middle[2] * 0.93))
            for part in body
        ),
        span((-0.1, 0.0), (-0.12, 0.12), (0.92, 1.0), WHITE, 1.0),
    ]


def lorry(rng: np.random.Generator, phase: float) -> Shape:
    cab = choose(rng, PAINTS)
    load = choose(rng, LOADS)
    return [
        span((-0.49, 0.2), (-0.48, 0.48), (0.22, 1.0), load),
        span((0.23, 0.49), (-0.46, 0.46), (0.12, 0.82), cab),
        span((0.36, 0.492), (-0.42, 0.42), (0.46, 0.74), GLASS),
        span((-0.49, 0.4), (-0.3, 0.3), (0.1, 0.22), STEEL),
        span((-0.493, -0.49), (-0.01, 0.01), (0.24, 0.98), STEEL),
        *_mirrors(0.4, 0.6, BLACK),
        *_wheels((-0.36, -0.2, 0.34), 0.3, 0.13),
        *_lights(0.3),
    ]


def flatbed(rng: np.random.Generator, phase: float) -> Shape:
    cab = choose(rng, PAINTS)
    load = choose(rng, LOADS)
    height = rng.uniform(0.5, 0.8)
    return [
        span((-0.49, 0.2), (-0.48, 0.48), (0.34, 0.40), STEEL),
        span((-0.49, 0.2), (-0.5, -0.47), (0.38, 0.56), STEEL),
        span((-0.49, 0.2), (0.47, 0.5), (0.38, 0.56), STEEL),
        span((-0.42, rng.uniform(-0.2, 0.15)), (-0.4, 0.4), (0.4, height), load),
        span((0.23, 0.49), (-0.46, 0.46), (0.14, 1.0), cab),
        span((0.36, 0.492), (-0.42, 0.42), (0.56, 0.9), GLASS),
        span((-0.49, 0.4), (-0.3, 0.3), (0.14, 0.34), BLACK),
        *_mirrors(0.4, 0.7, BLACK),
        *_wheels((-0.36, -0.2, 0.34), 0.36, 0.13),
        *_lights(0.32),
    ]


def tipper(rng: np.random.Generator, phase: float) -> Shape:
    paint = choose(rng, ((0.8, 0.45, 0.1), (0.6, 0.6, 0.58), (0.2, 0.35, 0.5)))
    return [
        span((-0.47, 0.16), (-0.46, 0.46), (0.36, 0.86), paint, tilt=0.03),
        *(
            span((x - 0.012, x + 0.012), (-0.5, 0.5), (0.36, 0.88), paint)
            for x in (-0.44, -0.28, -0.12, 0.04, 0.14)
        ),
        span((0.2, 0.49), (-0.46, 0.46), (0.16, 0.94), paint),
        span((0.36, 0.493), (-0.42, 0.42), (0.54, 0.84), GLASS),
        span((-0.49, 0.42), (-0.32, 0.32), (0.18, 0.34), BLACK),
        span((0.0, 0.3), (-0.4, 0.4), (0.9, 1.0), paint),
        *_wheels((-0.38, -0.22, 0.33), 0.34, 0.14),
        *_lights(0.34),
    ]


def pickup(rng: np.random.Generator, phase: float) -> Shape:
    paint = choose(rng, PAINTS)
    return [
        span((-0.49, 0.49), (-0.47, 0.47), (0.2, 0.46), paint),
        span((0.18, 0.49), (-0.46, 0.46), (0.4, 0.60), paint),
        span((-0.49, -0.08), (-0.48, -0.42), (0.44, 0.6), paint),
        span((-0.49, -0.08), (0.42, 0.48), (0.44, 0.6), paint),
        span((-0.49, -0.46), (-0.48, 0.48), (0.44, 0.6), paint),
        span((-0.1, 0.22), (-0.42, 0.42), (0.56, 0.94), GLASS),
        span((-0.09, 0.18), (-0.42, 0.42), (0.91, 1.0), paint),
        *_mirrors(0.2, 0.66, BLACK),
        *_wheels((-0.31, 0.31), 0.42, 0.15),
        *_lights(0.46),
    ]


def bus(rng: np.random.Generator, phase: float) -> Shape:
    paint = choose(
        rng, ((0.35, 0.6, 0.18), (0.62, 0.12, 0.12), (0.75, 0.75, 0.73), (0.15, 0.3, 0.55))
    )
    posts = [
        span((x - 0.008, x + 0.008), (-0.49, 0.49), (0.48, 0.8), paint)
        for x in np.linspace(-0.46, 0.42, 8)
    ]
    return [
        span((-0.49, 0.49), (-0.48, 0.48), (0.1, 0.48), paint),
        span((-0.48, 0.485), (-0.485, 0.485), (0.48, 0.8), GLASS, 0.0),
        span((-0.49, 0.49), (-0.48, 0.48), (0.8, 1.0), paint),
        span((0.45, 0.493), (-0.3, 0.3), (0.84, 0.95), YELLOW, 1.2),
        *posts,
        *_mirrors(0.47, 0.7, BLACK),
        *_wheels((-0.3, 0.33), 0.28, 0.09),
        *_lights(0.25),
    ]


def double_decker(rng: np.random.Generator, phase: float) -> Shape:
    paint = choose(rng, ((0.62, 0.12, 0.12), (0.3, 0.55, 0.2)))
    return [
        span((-0.49, 0.49), (-0.48, 0.48), (0.07, 0.3), paint),
        span((-0.48, 0.488), (-0.485, 0.485), (0.3, 0.48), GLASS),
        span((-0.49, 0.49), (-0.48, 0.48), (0.48, 0.64), paint),
        span((-0.48, 0.488), (-0.485, 0.485), (0.64, 0.84), GLASS),
        span((-0.49, 0.49), (-0.48, 0.48), (0.84, 1.0), paint),
        span((0.45, 0.493), (-0.3, 0.3), (0.5, 0.58), YELLOW, 1.2),
        *_wheels((-0.3, 0.33), 0.22, 0.09),
        *_lights(0.18),
    ]


def bendy_bus(rng: np.random.Generator, phase: float) -> Shape:
    parts = [part for part in bus(rng, phase) if part.colour != BLACK or part.kind != "tube_y"]
    return [
        *parts,
        span((-0.12, -0.06), (-0.5, 0.5), (0.12, 0.98), BLACK),
        *_wheels((-0.38, 0.05, 0.36), 0.28, 0.06),
    ]


def trailer(rng: np.random.Generator, phase: float) -> Shape:
    load = choose(rng, LOADS)
    ribs = [
        span((x - 0.01, x + 0.01), (-0.5, 0.5), (0.32, 1.0), STEEL)
        for x in np.linspace(-0.47, 0.38, 7)
    ]
    return [
        span((-0.49, 0.4), (-0.48, 0.48), (0.32, 0.98), load),
        span((-0.5, 0.42), (-0.4, 0.4), (0.24, 0.32), BLACK),
        span((0.38, 0.5), (-0.06, 0.06), (0.24, 0.3), STEEL),
        *ribs,
        *_wheels((-0.42, -0.32, -0.22), 0.26, 0.08),
        *_tail(0.27),
    ]


def _tail(height: float) -> Shape:
    return [
        Part("box", (-0.495, side * 0.38, height), (0.01, 0.16, 0.05), TAIL_LIGHT, 0.8)
        for side in (-1, 1)
    ]


def tank_trailer(rng: np.random.Generator, phase: float) -> Shape:
    return [
        Part(
            "tube_x",
            (-0.03, 0.0, 0.64),
            (0.9, 0.96, 0.7),
            choose(rng, ((0.72, 0.73, 0.74), (0.8, 0.8, 0.78))),
        ),
        span((-0.5, 0.46), (-0.36, 0.36), (0.22, 0.32), BLACK),
        span((-0.4, 0.36), (-0.05, 0.05), (0.98, 1.0), STEEL),
        span((0.42, 0.5), (-0.06, 0.06), (0.22, 0.3), STEEL),
        span((-0.5, -0.48), (-0.5, 0.5), (0.22, 0.36), RED),
        *_wheels((-0.42, -0.32, -0.22), 0.26, 0.08),
        *_tail(0.28),
    ]


def excavator(rng: np.random.Generator, phase: float) -> Shape:
    reach = 0.75 + 0.2 * rng.random()
    paint = choose(rng, (YELLOW, YELLOW, ORANGE))
    return [
        *(
            Part("tube_y", (-0.22, side * 0.42, 0.14), (0.56, 0.16, 0.28), BLACK)
            for side in (-1, 1)
        ),
        span((-0.46, 0.06), (-0.46, 0.46), (0.28, 0.6), paint),
        span((-0.16, 0.08), (0.0, 0.46), (0.6, 0.98), GLASS),
        span((-0.17, 0.09), (0.0, 0.46), (0.94, 1.0), paint),
        span(
            (0.02, 0.38), (-0.2, -0.06), (reach - 0.1, reach), paint, tilt=rng.uniform(-0.25, 0.25)
        ),
        span((0.32, 0.4), (-0.2, -0.06), (0.16, reach), paint, tilt=rng.uniform(-0.2, 0.2)),
        span((0.3, 0.5), (-0.4, 0.14), (0.0, 0.24), STEEL),
    ]


def wheel_loader(rng: np.random.Generator, phase: float) -> Shape:
    lift = rng.uniform(0.0, 0.45)
    paint = choose(rng, (YELLOW, ORANGE, (0.85, 0.6, 0.1)))
    return [
        span((-0.48, -0.02), (-0.36, 0.36), (0.3, 0.62), paint),
        span((-0.18, 0.08), (-0.34, 0.34), (0.56, 0.95), GLASS),
        span((-0.19, 0.09), (-0.36, 0.36), (0.93, 1.0), paint),
        span((0.0, 0.38), (-0.24, 0.24), (0.28 + lift / 2, 0.38 + lift / 2), paint, tilt=-lift),
        span((0.3, 0.5), (-0.5, 0.5), (0.02 + lift, 0.26 + lift), STEEL),
        *_wheels((-0.3, 0.16), 0.48, 0.22),
    ]


def mobile_crane(rng: np.random.Generator, phase: float) -> Shape:
    paint = choose(rng, (YELLOW, (0.75, 0.75, 0.73)))
    return [
        span((-0.46, 0.42), (-0.46, 0.46), (0.2, 0.44), paint),
        span((0.24, 0.46), (-0.46, 0.0), (0.44, 0.74), paint),
        span((0.36, 0.465), (-0.42, -0.04), (0.5, 0.7), GLASS),
        span((-0.3, 0.0), (-0.4, 0.4), (0.44, 0.78), paint),
        Part("tube_x", (0.05, 0.1, 0.84), (0.94, 0.16, 0.14), paint, 0.0, rng.uniform(-0.12, 0.02)),
        *_wheels((-0.36, -0.24, 0.16, 0.3), 0.3, 0.11),
        *_lights(0.32),
    ]
