"""What the ten classes look like: a few coloured primitives each, telling in outline, front from back.

A shape lives in the unit box, x forward (-0.5 .. 0.5), y left (-0.5 .. 0.5), z up (0 .. 1), and fills it, so that scaled to
(length, width, height) it fits its annotation box exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import open3d as o3d
from numpy.typing import NDArray

Colour = tuple[float, float, float]

BLACK, GLASS, WHITE = (0.05, 0.05, 0.06), (0.10, 0.14, 0.20), (0.92, 0.92, 0.90)
HEADLIGHT, TAIL_LIGHT, STEEL = (1.0, 0.97, 0.75), (0.85, 0.05, 0.05), (0.45, 0.46, 0.48)
SKIN, ORANGE, YELLOW, RED = (0.80, 0.60, 0.48), (0.98, 0.42, 0.05), (0.95, 0.75, 0.05), (0.80, 0.08, 0.08)
PAINTS: tuple[Colour, ...] = ((0.7, 0.1, 0.1), (0.12, 0.2, 0.55), (0.8, 0.81, 0.83), (0.25, 0.25, 0.28))
CLOTHES: tuple[Colour, ...] = ((0.75, 0.15, 0.35), (0.15, 0.35, 0.75), (0.85, 0.75, 0.2), (0.25, 0.5, 0.25), (0.5, 0.3, 0.6))


class Part(NamedTuple):
    """One primitive: its middle and its full size along x, y and z, in the unit box."""

    kind: str  # box, cone, ball, or tube_x, tube_y, tube_z for a cylinder along that axis
    middle: tuple[float, float, float]
    size: tuple[float, float, float]
    colour: Colour


class Mesh(NamedTuple):
    vertices: NDArray[np.float32]  # (V, 3)
    triangles: NDArray[np.uint32]  # (T, 3)
    colours: NDArray[np.float32]  # (T, 3), 0 .. 1


def _box(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], colour: Colour) -> Part:
    """A box by its extents."""
    middle = (sum(x) / 2, sum(y) / 2, sum(z) / 2)
    return Part("box", middle, (x[1] - x[0], y[1] - y[0], z[1] - z[0]), colour)


def _wheels(xs: tuple[float, ...], diameter: float, length: float) -> list[Part]:
    """Pairs of wheels at ``xs``; ``diameter`` as a share of height, ``length`` as a share of length."""
    return [Part("tube_y", (x, side * 0.42, diameter / 2), (length, 0.16, diameter), BLACK) for x in xs for side in (-1, 1)]


def _lights(height: float) -> list[Part]:
    """Head lights in front and tail lights behind, by which heading is told."""
    return [
        Part("box", (end * 0.49, side * 0.34, height), (0.02, 0.26, 0.14), HEADLIGHT if end > 0 else TAIL_LIGHT)
        for end in (-1, 1)
        for side in (-1, 1)
    ]


def car(rng: np.random.Generator) -> list[Part]:
    paint = PAINTS[rng.integers(len(PAINTS))]
    return [
        _box((-0.49, 0.49), (-0.48, 0.48), (0.14, 0.58), paint),
        _box((-0.36, 0.2), (-0.44, 0.44), (0.58, 0.94), GLASS),
        _box((-0.33, 0.14), (-0.44, 0.44), (0.92, 1.0), paint),
        *_wheels((-0.3, 0.3), 0.38, 0.15),
        *_lights(0.45),
    ]


def truck(rng: np.random.Generator) -> list[Part]:
    paint = ((0.1, 0.45, 0.6), (0.15, 0.55, 0.45))[rng.integers(2)]
    return [
        _box((-0.49, 0.2), (-0.48, 0.48), (0.22, 1.0), WHITE),
        _box((0.23, 0.49), (-0.46, 0.46), (0.12, 0.82), paint),
        _box((0.36, 0.492), (-0.42, 0.42), (0.46, 0.74), GLASS),
        _box((-0.49, 0.4), (-0.3, 0.3), (0.1, 0.22), STEEL),
        *_wheels((-0.36, -0.2, 0.34), 0.3, 0.13),
        *_lights(0.3),
    ]


def bus(rng: np.random.Generator) -> list[Part]:
    paint = ((0.35, 0.7, 0.15), (0.2, 0.6, 0.2))[rng.integers(2)]
    return [
        _box((-0.49, 0.49), (-0.48, 0.48), (0.1, 0.48), paint),
        _box((-0.48, 0.485), (-0.485, 0.485), (0.48, 0.8), GLASS),
        _box((-0.49, 0.49), (-0.48, 0.48), (0.8, 1.0), paint),
        _box((0.45, 0.493), (-0.3, 0.3), (0.84, 0.95), YELLOW),
        *_wheels((-0.3, 0.33), 0.28, 0.09),
        *_lights(0.25),
    ]


def trailer(rng: np.random.Generator) -> list[Part]:
    load = ((0.55, 0.3, 0.15), (0.45, 0.25, 0.2))[rng.integers(2)]
    ribs = [_box((x - 0.01, x + 0.01), (-0.5, 0.5), (0.32, 1.0), STEEL) for x in np.linspace(-0.48, 0.38, 7)]
    return [
        _box((-0.49, 0.4), (-0.48, 0.48), (0.32, 0.98), load),
        _box((-0.5, 0.42), (-0.4, 0.4), (0.24, 0.32), BLACK),
        _box((0.38, 0.5), (-0.06, 0.06), (0.24, 0.3), STEEL),
        *ribs,
        *_wheels((-0.42, -0.32, -0.22), 0.26, 0.08),
    ]


def construction_vehicle(rng: np.random.Generator) -> list[Part]:
    reach = 0.75 + 0.2 * rng.random()
    return [
        Part("tube_y", (-0.22, 0.42, 0.14), (0.56, 0.16, 0.28), BLACK),
        Part("tube_y", (-0.22, -0.42, 0.14), (0.56, 0.16, 0.28), BLACK),
        _box((-0.46, 0.06), (-0.46, 0.46), (0.28, 0.6), YELLOW),
        _box((-0.16, 0.08), (0.0, 0.46), (0.6, 0.98), GLASS),
        _box((-0.17, 0.09), (0.0, 0.46), (0.94, 1.0), YELLOW),
        _box((0.04, 0.36), (-0.2, -0.06), (reach - 0.1, reach), YELLOW),
        _box((0.32, 0.4), (-0.2, -0.06), (0.2, reach), YELLOW),
        _box((0.3, 0.5), (-0.4, 0.14), (0.0, 0.24), STEEL),
    ]


def pedestrian(rng: np.random.Generator) -> list[Part]:
    shirt, trousers = CLOTHES[rng.integers(len(CLOTHES))], (0.12, 0.14, 0.25)
    return [
        Part("tube_z", (0.12, 0.18, 0.24), (0.34, 0.3, 0.48), trousers),
        Part("tube_z", (-0.12, -0.18, 0.24), (0.34, 0.3, 0.48), trousers),
        Part("tube_z", (0.0, 0.0, 0.65), (0.5, 0.7, 0.38), shirt),
        Part("tube_z", (0.3, 0.42, 0.6), (0.4, 0.16, 0.36), shirt),
        Part("tube_z", (-0.3, -0.42, 0.6), (0.4, 0.16, 0.36), shirt),
        Part("ball", (0.0, 0.0, 0.92), (0.36, 0.34, 0.16), SKIN),
    ]


def _rider(shirt: Colour) -> list[Part]:
    return [
        Part("tube_z", (-0.1, 0.0, 0.7), (0.2, 0.6, 0.34), shirt),
        _box((-0.06, 0.22), (-0.5, 0.5), (0.66, 0.74), shirt),
        Part("ball", (-0.04, 0.0, 0.93), (0.14, 0.36, 0.14), WHITE),
    ]


def motorcycle(rng: np.random.Generator) -> list[Part]:
    paint = ((0.7, 0.1, 0.1), (0.1, 0.1, 0.12), (0.1, 0.3, 0.6))[rng.integers(3)]
    return [
        Part("tube_y", (-0.34, 0.0, 0.21), (0.31, 0.22, 0.42), BLACK),
        Part("tube_y", (0.34, 0.0, 0.21), (0.31, 0.22, 0.42), BLACK),
        _box((-0.42, 0.3), (-0.24, 0.24), (0.28, 0.56), paint),
        _box((0.2, 0.28), (-0.5, 0.5), (0.6, 0.66), STEEL),
        *_rider((0.15, 0.15, 0.18)),
    ]


def bicycle(rng: np.random.Generator) -> list[Part]:
    paint = ((0.1, 0.6, 0.65), (0.85, 0.3, 0.1), (0.4, 0.6, 0.15))[rng.integers(3)]
    return [
        Part("tube_y", (-0.3, 0.0, 0.26), (0.4, 0.1, 0.52), STEEL),
        Part("tube_y", (0.3, 0.0, 0.26), (0.4, 0.1, 0.52), STEEL),
        _box((-0.28, 0.28), (-0.06, 0.06), (0.42, 0.52), paint),
        _box((0.22, 0.27), (-0.5, 0.5), (0.62, 0.67), BLACK),
        *_rider(CLOTHES[rng.integers(len(CLOTHES))]),
    ]


def traffic_cone(rng: np.random.Generator) -> list[Part]:
    del rng  # all cones are alike
    return [
        _box((-0.5, 0.5), (-0.5, 0.5), (0.0, 0.07), ORANGE),
        Part("cone", (0.0, 0.0, 0.53), (0.8, 0.8, 0.94), ORANGE),
        Part("tube_z", (0.0, 0.0, 0.5), (0.5, 0.5, 0.16), WHITE),
    ]


def barrier(rng: np.random.Generator) -> list[Part]:
    del rng
    stripes = [
        _box((-0.3, 0.3), (y, y + 0.125), (0.45, 1.0), RED if number % 2 else WHITE)
        for number, y in enumerate(np.arange(-0.5, 0.5, 0.125))
    ]
    return [*stripes, *(_box((-0.5, 0.5), (y - 0.05, y + 0.05), (0.0, 0.45), STEEL) for y in (-0.4, 0.4))]


SHAPES: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    shape.__name__: shape
    for shape in (
        car,
        truck,
        bus,
        trailer,
        construction_vehicle,
        pedestrian,
        motorcycle,
        bicycle,
        traffic_cone,
        barrier,
    )
}


def mesh_of(parts: list[Part]) -> Mesh:
    """All parts as one mesh, in the frame the parts are given in."""
    vertices, triangles, colours, count = [], [], [], 0
    for part in parts:
        points, faces = _unit_primitive(part.kind)
        vertices.append(points * np.array(part.size, np.float32) + np.array(part.middle, np.float32))
        triangles.append(faces + np.uint32(count))
        colours.append(np.broadcast_to(np.array(part.colour, np.float32), (len(faces), 3)))
        count += len(points)
    return Mesh(np.concatenate(vertices), np.concatenate(triangles), np.concatenate(colours))


@lru_cache
def _unit_primitive(kind: str) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Vertices and triangles of a primitive that fills the cube -0.5 .. 0.5."""
    make = o3d.geometry.TriangleMesh
    if kind == "box":
        mesh = make.create_box()
    elif kind == "ball":
        mesh = make.create_sphere(0.5, resolution=8)
    elif kind == "cone":
        mesh = make.create_cone(0.5, 1.0, resolution=14, split=1)
    else:
        mesh = make.create_cylinder(0.5, 1.0, resolution=14, split=1)
    points = np.asarray(mesh.vertices)
    points = points[:, {"tube_x": [2, 0, 1], "tube_y": [0, 2, 1]}.get(kind, [0, 1, 2])]
    low, high = points.min(0), points.max(0)
    return ((points - low) / (high - low) - 0.5).astype(np.float32), np.asarray(mesh.triangles).astype(np.uint32)
