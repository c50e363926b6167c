"""People and the cycles they ride, in the unit box.

``phase`` is the phase of a body's stride, or of its turn of the pedals. A body with phase 0 stands.
"""

from __future__ import annotations

import numpy as np

from data_tools.synthetic.shapes import (
    BLACK,
    ORANGE,
    SKINS,
    STEEL,
    TAIL_LIGHT,
    WHITE,
    YELLOW,
    Colour,
    Part,
    choose,
    span,
)
from data_tools.synthetic.vehicles import Shape

CLOTHES: tuple[Colour, ...] = (
    (0.55, 0.15, 0.25),
    (0.15, 0.28, 0.52),
    (0.68, 0.60, 0.25),
    (0.22, 0.38, 0.22),
    (0.40, 0.26, 0.45),
    (0.78, 0.78, 0.76),
    (0.12, 0.12, 0.14),
    (0.35, 0.34, 0.33),
)
TROUSERS: tuple[Colour, ...] = (
    (0.12, 0.14, 0.25),
    (0.10, 0.10, 0.11),
    (0.35, 0.30, 0.22),
    (0.28, 0.28, 0.30),
)
HAIR: tuple[Colour, ...] = ((0.07, 0.05, 0.04), (0.25, 0.16, 0.09), (0.5, 0.48, 0.46))
HIGH_VISIBILITY = (0.75, 0.85, 0.10)


def _body(rng: np.random.Generator, phase: float, shirt: Colour) -> Shape:
    """Build a body whose legs and arms swing against each other.

    A standing body has one foot a little before the other.
    """
    trousers = choose(rng, TROUSERS)
    skin = choose(rng, SKINS)
    wave = float(np.sin(phase))
    swing = float(np.copysign(0.35 + 0.55 * abs(wave), wave))
    leg = 0.24 * float(np.sin(swing))
    arm = 0.18 * float(np.sin(swing))  # of the middle of a limb, which turns about its upper end
    return [
        Part("tube_z", (leg, 0.16, 0.24), (0.17, 0.28, 0.48), trousers, 0.0, -swing),
        Part("tube_z", (-leg, -0.16, 0.24), (0.17, 0.28, 0.48), trousers, 0.0, swing),
        Part("tube_z", (0.0, 0.0, 0.65), (0.27, 0.62, 0.38), shirt),
        Part("tube_z", (-arm, 0.42, 0.64), (0.12, 0.16, 0.36), shirt, 0.0, 0.8 * swing),
        Part("tube_z", (arm, -0.42, 0.64), (0.12, 0.16, 0.36), shirt, 0.0, -0.8 * swing),
        Part("ball", (0.01, 0.0, 0.91), (0.21, 0.30, 0.16), skin),
        Part("ball", (-0.02, 0.0, 0.94), (0.21, 0.32, 0.12), choose(rng, HAIR)),
    ]


def adult(rng: np.random.Generator, phase: float) -> Shape:
    return _body(rng, phase, choose(rng, CLOTHES))


def with_bag(rng: np.random.Generator, phase: float) -> Shape:
    return [
        *adult(rng, phase),
        span((-0.28, -0.12), (-0.22, 0.22), (0.54, 0.82), choose(rng, CLOTHES)),
    ]


def in_dress(rng: np.random.Generator, phase: float) -> Shape:
    dress = choose(rng, CLOTHES)
    return [
        *_body(rng, 0.6 * phase, dress),
        Part("cone", (0.0, 0.0, 0.4), (0.44, 0.74, 0.5), dress),
    ]


def with_umbrella(rng: np.random.Generator, phase: float) -> Shape:
    low = [
        part._replace(
            middle=(*part.middle[:2], part.middle[2] * 0.84),
            size=(*part.size[:2], part.size[2] * 0.84),
        )
        for part in adult(rng, phase)
    ]
    return [
        *low,
        Part("tube_z", (0.1, 0.1, 0.76), (0.04, 0.04, 0.4), STEEL),
        Part("cone", (0.0, 0.0, 0.93), (0.9, 1.1, 0.16), choose(rng, CLOTHES)),
    ]


def worker(rng: np.random.Generator, phase: float) -> Shape:
    vest = (HIGH_VISIBILITY, ORANGE)[rng.integers(2)]
    return [
        *_body(rng, phase, vest),
        span((-0.14, 0.14), (-0.32, 0.32), (0.6, 0.64), WHITE),
        Part("ball", (0.0, 0.0, 0.95), (0.24, 0.36, 0.12), (YELLOW, WHITE)[rng.integers(2)]),
    ]


def police_officer(rng: np.random.Generator, phase: float) -> Shape:
    return [
        *_body(rng, phase, (0.10, 0.13, 0.25)),
        span((-0.14, 0.14), (-0.32, 0.32), (0.66, 0.72), HIGH_VISIBILITY),
        Part("tube_z", (0.0, 0.0, 0.97), (0.24, 0.36, 0.06), BLACK),
    ]


def _rider(rng: np.random.Generator, shirt: Colour, phase: float) -> Shape:
    knee = 0.05 * float(np.sin(phase))
    trousers = choose(rng, TROUSERS)
    return [
        Part("tube_z", (-0.06, 0.0, 0.70), (0.18, 0.6, 0.34), shirt, 0.0, 0.35),
        span((-0.02, 0.24), (-0.5, 0.5), (0.66, 0.73), shirt, tilt=-0.1),
        *(
            Part(
                "tube_z",
                (0.02 + side * knee, side * 0.3, 0.44),
                (0.14, 0.2, 0.3),
                trousers,
                0.0,
                -0.6 - side * knee,
            )
            for side in (-1, 1)
        ),
        Part("ball", (0.02, 0.0, 0.93), (0.14, 0.36, 0.14), choose(rng, (*SKINS, WHITE, BLACK))),
    ]


def _motorcycle(rng: np.random.Generator, top: float) -> Shape:
    """Build a motorcycle, where ``top`` is the height of the handlebar as a share of the box."""
    paint = choose(rng, ((0.55, 0.1, 0.1), (0.1, 0.1, 0.12), (0.1, 0.25, 0.5), (0.6, 0.6, 0.58)))
    wheel = 0.64 * top
    return [
        *(Part("tube_y", (x, 0.0, wheel / 2), (0.31, 0.22, wheel), BLACK) for x in (-0.34, 0.34)),
        span((-0.42, 0.3), (-0.24, 0.24), (0.42 * top, 0.84 * top), paint),
        span((-0.36, 0.0), (-0.2, 0.2), (0.84 * top, 0.92 * top), BLACK),
        span((0.2, 0.28), (-0.5, 0.5), (0.91 * top, top), STEEL),
        span((0.36, 0.42), (-0.14, 0.14), (0.7 * top, 0.86 * top), (1.0, 0.97, 0.75), 1.4),
        span((-0.44, -0.42), (-0.12, 0.12), (0.66 * top, 0.76 * top), TAIL_LIGHT, 0.8),
    ]


def ridden_motorcycle(rng: np.random.Generator, phase: float) -> Shape:
    return [*_motorcycle(rng, 0.66), *_rider(rng, choose(rng, ((0.15, 0.15, 0.18), *CLOTHES)), 0.0)]


def parked_motorcycle(rng: np.random.Generator, phase: float) -> Shape:
    return _motorcycle(rng, 1.0)


def _bicycle(rng: np.random.Generator, top: float) -> Shape:
    paint = choose(
        rng,
        ((0.1, 0.45, 0.5), (0.7, 0.28, 0.1), (0.35, 0.5, 0.15), (0.1, 0.1, 0.11), (0.7, 0.7, 0.7)),
    )
    wheel = 0.78 * top
    return [
        *(Part("tube_y", (x, 0.0, wheel / 2), (0.4, 0.1, wheel), BLACK) for x in (-0.3, 0.3)),
        *(
            Part("tube_y", (x, 0.0, wheel / 2), (0.34, 0.12, 0.85 * wheel), STEEL)
            for x in (-0.3, 0.3)
        ),
        span((-0.28, 0.28), (-0.06, 0.06), (0.64 * top, 0.74 * top), paint),
        span((-0.2, 0.0), (-0.06, 0.06), (0.4 * top, 0.84 * top), paint, tilt=0.3),
        span((-0.2, -0.06), (-0.16, 0.16), (0.88 * top, 0.94 * top), BLACK),
        span((0.22, 0.27), (-0.5, 0.5), (0.93 * top, top), BLACK),
    ]


def ridden_bicycle(rng: np.random.Generator, phase: float) -> Shape:
    return [*_bicycle(rng, 0.67), *_rider(rng, choose(rng, CLOTHES), phase)]


def parked_bicycle(rng: np.random.Generator, phase: float) -> Shape:
    return _bicycle(rng, 1.0)
