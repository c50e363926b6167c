"""How shapes are made: coloured primitives in a unit box, and their triangles.

Annotated shapes live in the unit box: x forward (-0.5 .. 0.5), y left (-0.5 .. 0.5), z up (0 .. 1).
They fill the unit box. Scaled to (length, width, height), a shape therefore fits its annotation box
exactly. Scenery is given in metres and is not scaled.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import open3d as o3d
from numpy.typing import NDArray

Colour = tuple[float, float, float]

BLACK = (0.05, 0.05, 0.06)
GLASS = (0.10, 0.14, 0.20)
WHITE = (0.85, 0.85, 0.83)
HEADLIGHT = (1.0, 0.97, 0.75)
TAIL_LIGHT = (0.85, 0.05, 0.05)
STEEL = (0.45, 0.46, 0.48)
SKINS: tuple[Colour, ...] = ((0.80, 0.60, 0.48), (0.62, 0.44, 0.33), (0.38, 0.26, 0.19))
ORANGE = (0.95, 0.38, 0.06)
YELLOW = (0.90, 0.68, 0.06)
RED = (0.72, 0.09, 0.08)
WOOD = (0.32, 0.24, 0.17)
CONCRETE = (0.52, 0.51, 0.49)
LEAVES = (0.17, 0.30, 0.12)


class Part(NamedTuple):
    """One primitive: its middle and its full size along x, y and z."""

    kind: str  # box, cone, ball, or tube_x, tube_y, tube_z for a cylinder along that axis
    middle: tuple[float, float, float]
    size: tuple[float, float, float]
    colour: Colour
    glow: float = 0.0  # brightness of the part by itself where lamps are lit
    tilt: float = 0.0  # radians about y, through the middle (the top leans forward)


class Mesh(NamedTuple):
    vertices: NDArray[np.float32]  # (V, 3)
    triangles: NDArray[np.uint32]  # (T, 3)
    colours: NDArray[np.float32]  # (T, 3), 0 .. 1
    glow: NDArray[np.float32]  # (T,)


def span(
    x: tuple[float, float],
    y: tuple[float, float],
    z: tuple[float, float],
    colour: Colour,
    glow: float = 0.0,
    tilt: float = 0.0,
) -> Part:
    """Return a box by its extents."""
    middle = (sum(x) / 2, sum(y) / 2, sum(z) / 2)
    return Part("box", middle, (x[1] - x[0], y[1] - y[0], z[1] - z[0]), colour, glow, tilt)


def between(one: float, other: float) -> tuple[float, float]:
    return min(one, other), max(one, other)


def moved(parts: Iterable[Part], x: float, y: float, z: float = 0.0) -> list[Part]:
    return [
        part._replace(middle=(part.middle[0] + x, part.middle[1] + y, part.middle[2] + z))
        for part in parts
    ]


def turned(parts: Iterable[Part]) -> list[Part]:
    """Turn upright parts by a quarter turn to the left about the origin."""
    kinds = {"tube_x": "tube_y", "tube_y": "tube_x"}
    return [
        part._replace(
            kind=kinds.get(part.kind, part.kind),
            middle=(-part.middle[1], part.middle[0], part.middle[2]),
            size=(part.size[1], part.size[0], part.size[2]),
        )
        for part in parts
    ]


def choose(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    """Choose one of the colours, and make it a little lighter or darker."""
    shade = rng.uniform(0.85, 1.12)
    red, green, blue = colours[rng.integers(len(colours))]
    return (min(red * shade, 1.0), min(green * shade, 1.0), min(blue * shade, 1.0))


def mesh_of(parts: list[Part]) -> Mesh:
    """Return all parts as one mesh, in the frame of the parts."""
    vertices = []
    triangles = []
    count = 0
    for part in parts:
        points, faces = _unit_primitive(part.kind)
        points = points * np.array(part.size, np.float32)
        if part.tilt:
            cosine = np.cos(part.tilt)
            sine = np.sin(part.tilt)
            points = points @ np.array(
                [[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]], np.float32
            )
        vertices.append(points + np.array(part.middle, np.float32))
        triangles.append(faces + np.uint32(count))
        count += len(points)
    faces_of = [len(faces) for faces in triangles]
    colours = np.repeat(np.array([part.colour for part in parts], np.float32), faces_of, axis=0)
    glow = np.repeat(np.array([part.glow for part in parts], np.float32), faces_of)
    return Mesh(np.concatenate(vertices), np.concatenate(triangles), colours, glow)


def filling(mesh: Mesh) -> Mesh:
    """Stretch the mesh until it fills the unit box.

    Swung limbs and drawn-in arms change the extent of a shape, but not its box.
    """
    low = mesh.vertices.min(0)
    high = mesh.vertices.max(0)
    return mesh._replace(
        vertices=(
            (mesh.vertices - low) / (high - low) - np.array((0.5, 0.5, 0), np.float32)
        ).astype(np.float32)
    )


@lru_cache
def _unit_primitive(kind: str) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Return vertices and triangles of a primitive that fills the cube -0.5 .. 0.5."""
    make = o3d.geometry.TriangleMesh
    if kind == "box":
        mesh = make.create_box()
    elif kind == "ball":
        mesh = make.create_sphere(0.5, resolution=6)
    elif kind == "cone":
        mesh = make.create_cone(0.5, 1.0, resolution=12, split=1)
    else:
        mesh = make.create_cylinder(0.5, 1.0, resolution=12, split=1)
    points = np.asarray(mesh.vertices)
    # The axes are rotated, because swapping two axes would turn the triangles inside out.
    points = points[:, {"tube_x": [2, 0, 1], "tube_y": [1, 2, 0]}.get(kind, [0, 1, 2])]
    low = points.min(0)
    high = points.max(0)
    return ((points - low) / (high - low) - 0.5).astype(np.float32), np.asarray(
        mesh.triangles
    ).astype(np.uint32)
