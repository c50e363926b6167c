"""Paint on the ground, and the grain of surfaces that are unpainted or worn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_tools.synthetic.shapes import Colour

ASPHALT = (0.27, 0.27, 0.28)
PAVING = (0.47, 0.46, 0.44)
GRASS = (0.22, 0.29, 0.13)
EARTH = (0.36, 0.30, 0.22)
LINE_WHITE = (0.74, 0.74, 0.72)
LINE_YELLOW = (0.74, 0.57, 0.14)
KERB = (0.60, 0.60, 0.58)
FOREVER = (-1e6, 1e6)

Array = NDArray[np.float32]


class Paint(NamedTuple):
    """A rectangle of the road frame in one colour, over any earlier paint."""

    x: tuple[float, float]
    y: tuple[float, float]
    colour: Colour
    dash: tuple[str, float, float] | None = (
        None  # the axis, the period, and the painted part of each period, in metres
    )
    worn: float = 0.25  # how unevenly the paint has worn (0: evenly)


def colour_of(points: Array, paints: Sequence[Paint]) -> Array:
    """Return the colours of (N, 3) points on the ground."""
    x = points[:, 0]
    y = points[:, 1]
    fine = noise(x, y, 0.05)
    coarse = noise(x, y, 1.1)
    colour = np.empty((len(points), 3), np.float32)
    colour[:] = GRASS
    worn = np.full(len(points), 0.9, np.float32)
    for paint in paints:
        inside = (x > paint.x[0]) & (x < paint.x[1]) & (y > paint.y[0]) & (y < paint.y[1])
        if paint.dash:
            axis, period, on = paint.dash
            inside &= np.mod(x if axis == "x" else y, period) < on
        colour[inside] = paint.colour
        worn[inside] = paint.worn
    return np.clip(colour * (1 + worn * (0.35 * fine + 0.4 * coarse))[:, None], 0.01, 1)


def noise(across: Array, along: Array, scale: float) -> Array:
    """Return smooth noise, -1 .. 1, that varies over some ``scale`` metres.

    The same place always has the same noise.
    """
    field = _field()
    columns = np.floor(across / np.float32(scale)).astype(np.int32) & 511
    rows = np.floor(along / np.float32(scale)).astype(np.int32) & 511
    return field[rows, columns]


def smooth_noise(across: Array, along: Array, scale: float) -> Array:
    """Return :func:`noise` without steps.

    The values are interpolated on a lattice with cells ``scale`` metres wide.
    """
    column = across / np.float32(scale)
    row = along / np.float32(scale)
    left = np.floor(column)
    top = np.floor(row)
    right = column - left
    low = row - top
    columns = left.astype(np.int32) & 511
    rows = top.astype(np.int32) & 511
    field = _field()
    next_columns = (columns + 1) & 511
    next_rows = (rows + 1) & 511
    upper = field[rows, columns] * (1 - right) + field[rows, next_columns] * right
    lower = field[next_rows, columns] * (1 - right) + field[next_rows, next_columns] * right
    return upper * (1 - low) + lower * low


@lru_cache(1)
def _field() -> Array:
    """Return a 512 x 512 field of noise of several sizes that wraps around."""
    rng = np.random.default_rng(77)
    total = np.zeros((512, 512))
    for size in (512, 128, 32):
        patch = rng.uniform(-1, 1, (size, size))
        total += np.kron(patch, np.ones((512 // size, 512 // size))) * (0.6 if size == 512 else 0.3)
    return np.clip(total, -1, 1).astype(np.float32)
