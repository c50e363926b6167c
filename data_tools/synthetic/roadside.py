"""What stands by the road: annotated cones and barriers, and scenery.

Cones and barriers are built in the unit box. Scenery is in metres and is no object of any class.

Some scenery looks like an object: statues, posters of cars and of people, orange bollards, striped
fences, containers.
"""

from __future__ import annotations

import numpy as np

from data_tools.synthetic.people import CLOTHES, adult
from data_tools.synthetic.shapes import (
    BLACK,
    CONCRETE,
    GLASS,
    LEAVES,
    ORANGE,
    RED,
    STEEL,
    WHITE,
    WOOD,
    YELLOW,
    Colour,
    Part,
    choose,
    moved,
    span,
)
from data_tools.synthetic.vehicles import LOADS, PAINTS, Shape, hatchback, sedan

WALLS: tuple[Colour, ...] = (
    (0.48, 0.34, 0.29),
    (0.60, 0.56, 0.50),
    (0.44, 0.46, 0.49),
    (0.66, 0.63, 0.58),
    (0.34, 0.35, 0.37),
    (0.55, 0.55, 0.52),
)
GREENS: tuple[Colour, ...] = (LEAVES, (0.13, 0.24, 0.10), (0.24, 0.33, 0.14), (0.20, 0.28, 0.17))


def cone(rng: np.random.Generator, phase: float) -> Shape:
    return [
        span((-0.5, 0.5), (-0.5, 0.5), (0.0, 0.07), ORANGE),
        Part("cone", (0.0, 0.0, 0.53), (0.8, 0.8, 0.94), ORANGE),
        Part("tube_z", (0.0, 0.0, 0.5), (0.5, 0.5, 0.16), WHITE),
    ]


def delineator(rng: np.random.Generator, phase: float) -> Shape:
    colour = choose(rng, (ORANGE, YELLOW))
    bands = [Part("tube_z", (0.0, 0.0, z), (0.52, 0.52, 0.1), WHITE) for z in (0.55, 0.78)]
    return [
        Part("tube_z", (0.0, 0.0, 0.05), (1.0, 1.0, 0.1), BLACK),
        Part("tube_z", (0.0, 0.0, 0.53), (0.5, 0.5, 0.94), colour),
        *bands,
    ]


def striped_barrier(rng: np.random.Generator, phase: float) -> Shape:
    stripes = [
        span((-0.3, 0.3), (y, y + 0.125), (0.45, 1.0), RED if number % 2 else WHITE)
        for number, y in enumerate(np.arange(-0.5, 0.5, 0.125))
    ]
    return [
        *stripes,
        *(span((-0.5, 0.5), (y - 0.05, y + 0.05), (0.0, 0.45), STEEL) for y in (-0.4, 0.4)),
    ]


def filled_barrier(rng: np.random.Generator, phase: float) -> Shape:
    """Build a hollow plastic barrier filled with water, in red and white by turns."""
    colour = choose(rng, ((0.68, 0.2, 0.12), (0.78, 0.78, 0.76)))
    return [
        span((-0.5, 0.5), (-0.49, 0.49), (0.0, 0.3), colour),
        span((-0.28, 0.28), (-0.5, 0.5), (0.3, 1.0), colour),
        *(span((-0.29, 0.29), (y - 0.04, y + 0.04), (0.4, 0.9), BLACK) for y in (-0.25, 0.25)),
    ]


def concrete_barrier(rng: np.random.Generator, phase: float) -> Shape:
    grey = choose(rng, (CONCRETE, (0.6, 0.6, 0.58)))
    return [
        span((-0.5, 0.5), (-0.5, 0.5), (0.0, 0.2), grey),
        span((-0.32, 0.32), (-0.5, 0.5), (0.2, 0.5), grey),
        span((-0.2, 0.2), (-0.5, 0.5), (0.5, 1.0), grey),
    ]


def in_metres(shape: Shape, length: float, width: float, height: float) -> Shape:
    return [
        part._replace(
            middle=(part.middle[0] * length, part.middle[1] * width, part.middle[2] * height),
            size=(part.size[0] * length, part.size[1] * width, part.size[2] * height),
        )
        for part in shape
    ]


def statue(rng: np.random.Generator) -> Shape:
    stone = choose(rng, (CONCRETE, (0.30, 0.36, 0.32)))
    body = [
        part._replace(colour=stone)
        for part in in_metres(adult(rng, rng.uniform(0, 6)), 0.6, 0.6, 1.8)
    ]
    return [span((-0.5, 0.5), (-0.5, 0.5), (0.0, 0.9), CONCRETE), *moved(body, 0.0, 0.0, 0.9)]


def poster(rng: np.random.Generator) -> Shape:
    """Build a board along x with a flat car or person on it, facing the street on both sides."""
    if rng.random() < 0.5:
        flat = [
            part
            for part in in_metres((sedan, hatchback)[rng.integers(2)](rng, 0.0), 2.6, 0.02, 1.1)
            if abs(part.middle[1]) < 0.009
        ]
        width = 3.2
    else:
        flat = in_metres(adult(rng, 1.0), 0.7, 0.02, 1.5)
        width = 1.3
    board = span(
        (-width / 2, width / 2), (-0.04, 0.04), (0.9, 2.7), choose(rng, (*LOADS, *CLOTHES))
    )
    legs = [
        Part("tube_z", (side * width * 0.4, 0.0, 0.5), (0.08, 0.08, 1.0), STEEL) for side in (-1, 1)
    ]
    faces = [
        part._replace(
            middle=(part.middle[0], side * 0.05, part.middle[2] + 1.1),
            size=(part.size[0], 0.02, part.size[2]),
        )
        for part in flat
        for side in (-1, 1)
    ]
    return [board, *legs, *faces]


def bollard(rng: np.random.Generator) -> Shape:
    colour = choose(rng, (ORANGE, STEEL, BLACK, WHITE, YELLOW))
    return [
        Part("tube_z", (0.0, 0.0, 0.45), (0.16, 0.16, 0.9), colour),
        Part("tube_z", (0.0, 0.0, 0.75), (0.17, 0.17, 0.08), WHITE),
    ]


def bin_(rng: np.random.Generator) -> Shape:
    return [
        span(
            (-0.3, 0.3),
            (-0.28, 0.28),
            (0.08, 0.95),
            choose(rng, ((0.1, 0.3, 0.15), (0.1, 0.1, 0.11), (0.2, 0.3, 0.5))),
        ),
        span((-0.32, 0.32), (-0.3, 0.3), (0.95, 1.05), BLACK),
    ]


def hydrant(rng: np.random.Generator) -> Shape:
    return [
        Part("tube_z", (0.0, 0.0, 0.32), (0.24, 0.24, 0.64), RED),
        Part("ball", (0.0, 0.0, 0.66), (0.26, 0.26, 0.2), RED),
        Part("tube_x", (0.0, 0.0, 0.42), (0.42, 0.12, 0.12), RED),
    ]


def bench(rng: np.random.Generator) -> Shape:
    return [
        span((-0.9, 0.9), (-0.22, 0.22), (0.4, 0.46), WOOD),
        span((-0.9, 0.9), (0.2, 0.26), (0.5, 0.85), WOOD),
        *(span((x - 0.05, x + 0.05), (-0.2, 0.2), (0.0, 0.4), STEEL) for x in (-0.7, 0.7)),
    ]


def planter(rng: np.random.Generator) -> Shape:
    return [
        span((-0.6, 0.6), (-0.4, 0.4), (0.0, 0.5), CONCRETE),
        Part("ball", (0.0, 0.0, 0.7), (1.2, 0.9, 0.8), choose(rng, GREENS)),
    ]


def container(rng: np.random.Generator) -> Shape:
    colour = choose(rng, LOADS)
    return [
        span((-3.0, 3.0), (-1.2, 1.2), (0.0, 2.55), colour),
        *(
            span((x - 0.06, x + 0.06), (-1.24, 1.24), (0.0, 2.6), colour)
            for x in np.linspace(-2.94, 2.94, 12)
        ),
    ]


def kiosk(rng: np.random.Generator) -> Shape:
    colour = choose(rng, PAINTS)
    return [
        span((-1.4, 1.4), (-1.0, 1.0), (0.0, 2.3), colour),
        span((-1.2, 1.2), (-1.04, 1.04), (1.0, 1.9), GLASS, 0.9),
        span((-1.6, 1.6), (-1.3, 1.3), (2.3, 2.45), choose(rng, (WHITE, RED, YELLOW))),
    ]


def bus_stop(rng: np.random.Generator) -> Shape:
    return [
        span((-1.9, 1.9), (0.55, 0.6), (0.1, 2.2), GLASS),
        span((-2.0, 2.0), (-0.7, 0.7), (2.3, 2.4), STEEL),
        *(Part("tube_z", (x, 0.55, 1.15), (0.08, 0.08, 2.3), STEEL) for x in (-1.9, 1.9)),
        span((1.85, 1.95), (-0.6, 0.55), (0.4, 2.1), choose(rng, CLOTHES), 0.6),
    ]


def sign(rng: np.random.Generator) -> Shape:
    """Build a traffic sign across the road."""
    face = [
        Part("tube_x", (0.0, 0.0, 2.5), (0.03, 0.7, 0.7), choose(rng, (RED, (0.1, 0.25, 0.6)))),
        span(
            (-0.02, 0.02),
            (-0.35, 0.35),
            (2.15, 2.85),
            choose(rng, (YELLOW, WHITE, (0.1, 0.25, 0.6))),
        ),
    ][rng.integers(2)]
    return [
        Part("tube_z", (0.03, 0.0, 1.3), (0.07, 0.07, 2.6), STEEL),
        face,
        span((-0.03, 0.03), (-0.14, 0.14), (2.44, 2.56), WHITE),
    ]


def traffic_light(rng: np.random.Generator) -> Shape:
    lit = int(rng.integers(3))
    colours = ((0.9, 0.08, 0.05), (0.95, 0.6, 0.05), (0.1, 0.85, 0.4))
    lamps = [
        Part(
            "tube_x",
            (-0.13, 0.0, 3.2 - 0.28 * place),
            (0.06, 0.2, 0.2),
            colours[place] if place == lit else BLACK,
            1.5 if place == lit else 0.0,
        )
        for place in range(3)
    ]
    return [
        Part("tube_z", (0.0, 0.0, 1.5), (0.12, 0.12, 3.0), STEEL),
        span((-0.12, 0.12), (-0.17, 0.17), (2.45, 3.4), BLACK),
        *lamps,
    ]


def lamp_post(rng: np.random.Generator, over: float) -> Shape:
    """Build a lamp post whose lamp hangs ``over`` metres to its left (negative: right)."""
    grey = (0.3, 0.32, 0.34)
    arm = span((-0.06, 0.06), tuple(sorted((0.0, over))), (7.0, 7.1), grey)  # type: ignore[arg-type]
    return [
        Part("tube_z", (0.0, 0.0, 3.5), (0.15, 0.15, 7.0), grey),
        arm,
        Part("box", (0.0, over, 6.97), (0.25, 0.7, 0.1), (1.0, 0.92, 0.7), 2.5),
    ]


def tree(rng: np.random.Generator) -> Shape:
    tall = rng.uniform(2.4, 4.2)
    crown = rng.uniform(2.4, 4.4)
    green = choose(rng, GREENS)
    tufts = [
        Part(
            "ball",
            (*rng.uniform(-0.35, 0.35, 2) * crown, tall + crown * rng.uniform(0.1, 0.55)),
            tuple(crown * rng.uniform(0.55, 0.95, 3)),
            choose(rng, (green,)),
        )
        for _ in range(5)
    ]
    return [Part("tube_z", (0.0, 0.0, tall / 2), (0.35, 0.35, tall), choose(rng, (WOOD,))), *tufts]


def hedge(rng: np.random.Generator, length: float) -> Shape:
    height = rng.uniform(0.7, 1.5)
    green = choose(rng, GREENS)
    return [
        Part(
            "ball",
            (x, rng.uniform(-0.15, 0.15), height * 0.42),
            (rng.uniform(1.1, 1.7), rng.uniform(1.0, 1.5), height * rng.uniform(0.9, 1.2)),
            choose(rng, (green,)),
        )
        for x in np.arange(-length / 2, length / 2, 0.8)
    ]


def fence(rng: np.random.Generator, length: float) -> Shape:
    colour = choose(rng, (STEEL, WHITE, RED))
    posts = [
        span((x - 0.03, x + 0.03), (-0.03, 0.03), (0.0, 1.1), STEEL)
        for x in np.arange(-length / 2, length / 2, 1.5)
    ]
    return [
        *posts,
        *(
            span((-length / 2, length / 2), (-0.02, 0.02), (z, z + 0.07), colour)
            for z in (0.5, 1.0)
        ),
    ]


# Shapes that may stand on any pavement.
SMALL = (statue, poster, bollard, bin_, hydrant, bench, planter, sign)
LARGE = (container, kiosk, bus_stop)


def building(
    rng: np.random.Generator,
    side: int,
    x: float,
    front: float,
    length: float,
    height: float,
    depth: float,
) -> Shape:
    """Build a building on the ``side`` of the road (+1: left).

    ``front`` is the distance of the building's face from the middle of the road.
    """
    wall = choose(rng, WALLS)
    glass = choose(rng, (GLASS, (0.16, 0.20, 0.26), (0.22, 0.26, 0.30)))
    face = side * front
    parts = [
        Part(
            "box",
            (x + length / 2, face + side * depth / 2, height / 2),
            (length, depth, height),
            wall,
        ),
        Part(
            "box",
            (x + length / 2, face + side * depth / 2, height),
            (length + 0.3, depth + 0.3, 0.35),
            choose(rng, (wall,)),
        ),
    ]
    step = rng.uniform(2.2, 3.4)
    across = rng.uniform(0.9, 1.7)
    tall = rng.uniform(1.1, 1.8)
    for floor in np.arange(4.2, height - 1.2, 2.9):
        for along in np.arange(x + 1.5, x + length - 1.0, step):
            parts.append(
                Part(
                    "box",
                    (along, face, floor),
                    (across, 0.16, tall),
                    glass,
                    float(rng.random() < 0.25),
                )
            )
    for along in np.arange(x + 1.2, x + length - 2.4, 3.6):  # shops on the ground floor
        parts.append(
            Part(
                "box", (along + 1.2, face, 1.5), (2.6, 0.12, 2.4), glass, float(rng.random() < 0.6)
            )
        )
        parts.append(
            Part(
                "box",
                (along + 1.2, face - side * 0.35, 2.95),
                (2.8, 0.8, 0.25),
                choose(rng, CLOTHES),
            )
        )
    return parts
