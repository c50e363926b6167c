"""Seeded drives: who stands and moves where along a street. Pure numbers; every function of time is a straight line.

Things live in bands, strips of the road frame that do not touch each other; whoever shares a lane shares its speed, so nothing ever
runs into anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_tools.synthetic.shapes import Colour, Part

KEYFRAME_SECONDS = 0.5  # nuScenes annotates at 2 Hz
GROUND_CLEARANCE = 0.01  # metres between the ground and every annotation box
REACH = 30.0  # metres before and behind the ego at the first keyframe in which things are placed
CLOSE = 20.0  # the same for the first of each class
EGO_LANE, ROAD_EDGE, PAVEMENT_EDGE = -1.75, 7.6, 14.0  # y of the ego's lane; half widths of road and pavement

# width, length, height in metres: about the means of nuScenes
SIZES = {
    "car": (1.95, 4.6, 1.7),
    "truck": (2.5, 6.9, 2.85),
    "bus": (2.9, 10.5, 3.4),
    "trailer": (2.7, 9.5, 3.7),
    "construction_vehicle": (2.6, 6.2, 3.1),
    "pedestrian": (0.7, 0.7, 1.75),
    "motorcycle": (0.8, 2.1, 1.6),
    "bicycle": (0.65, 1.75, 1.65),
    "traffic_cone": (0.42, 0.42, 1.05),
    "barrier": (2.5, 0.55, 1.0),
}

CATEGORIES = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "construction_vehicle": "vehicle.construction",
    "pedestrian": "human.pedestrian.adult",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "traffic_cone": "movable_object.trafficcone",
    "barrier": "movable_object.barrier",
}


class Band(NamedTuple):
    """A strip along the road: where its middle lies, how far things scatter across it, which way and how they go."""

    y: float
    scatter: float
    direction: int  # +1 with the ego, -1 against it, 0 any
    moves: str  # lane: all at the lane's speed; walk: each at its own; parked: not at all


BANDS = {
    "own lane": Band(EGO_LANE, 0.15, 1, "lane"),
    "right lane": Band(-5.25, 0.15, 1, "lane"),
    "oncoming lane": Band(1.75, 0.15, -1, "lane"),
    "far lane": Band(5.25, 0.15, -1, "lane"),
    "right kerb": Band(-9.4, 0.1, 1, "parked"),
    "left kerb": Band(9.4, 0.1, -1, "parked"),
    "right pavement": Band(-12.4, 0.9, 0, "walk"),
    "left pavement": Band(12.4, 0.9, 0, "walk"),
    "right edge": Band(-7.3, 0.05, 1, "lane"),
    "left edge": Band(7.3, 0.05, -1, "lane"),
}

LANES, KERBS = ("own lane", "right lane", "oncoming lane", "far lane"), ("right kerb", "left kerb")
PAVEMENTS, EDGES = ("right pavement", "left pavement"), ("right edge", "left edge")

# How many of each class a street has (least, most) as far as there is room, and the bands where they are found. Long ones choose first.
POPULATION = {
    "bus": (1, 2, LANES + KERBS),
    "trailer": (1, 2, KERBS + LANES[1:]),
    "truck": (2, 3, LANES + KERBS),
    "construction_vehicle": (1, 2, KERBS),
    "car": (5, 7, LANES + KERBS),
    "motorcycle": (2, 3, EDGES + LANES),
    "bicycle": (2, 3, EDGES + PAVEMENTS),
    "barrier": (3, 4, KERBS),
    "traffic_cone": (4, 5, EDGES + KERBS),
    "pedestrian": (5, 6, PAVEMENTS),
}


@dataclass(frozen=True)
class Thing:
    """One annotated object. Its pose is of the road frame at time 0; it keeps its heading and speed."""

    name: str
    size: tuple[float, float, float]  # width, length, height, metres
    position: tuple[float, float]  # x, y of its middle, metres; it stands on the ground
    yaw: float  # radians
    speed: float  # metres per second along its heading
    attribute: str
    looks: int  # seed of its shape

    def at(self, seconds: float) -> tuple[float, float]:
        step = self.speed * seconds
        return self.position[0] + step * float(np.cos(self.yaw)), self.position[1] + step * float(np.sin(self.yaw))


@dataclass(frozen=True)
class Drive:
    """One scene: a street, what is in it, and how the ego drives along it (at x = speed * t, y = EGO_LANE, yaw 0)."""

    name: str
    keyframes: int
    speed: float
    things: tuple[Thing, ...]
    scenery: tuple[Part, ...] = field(repr=False)  # what is rendered and never annotated
    origin: tuple[float, float, float]  # the road frame in the global one: x, y, yaw
    sun: NDArray[np.float64]  # unit vector towards the sun, road frame

    def times(self) -> list[float]:
        return [index * KEYFRAME_SECONDS for index in range(self.keyframes)]


def make_drive(name: str, seed: int, number: int, keyframes: int) -> Drive:
    """The drive ``number`` of a dataset of this ``seed``; the same for any number of others around it."""
    rng = np.random.default_rng([seed, number])
    speed = float(rng.uniform(2, 8))
    origin = (float(rng.uniform(300, 900)), float(rng.uniform(600, 1600)), float(rng.uniform(-np.pi, np.pi)))
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(35, 65))
    sun = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    return Drive(name, keyframes, speed, _populate(rng, speed), _scenery(rng), origin, sun)


def _populate(rng: np.random.Generator, ego_speed: float) -> tuple[Thing, ...]:
    speeds = {name: float(rng.choice([0.0, rng.uniform(3, 9)], p=[0.3, 0.7])) for name in BANDS}
    speeds["own lane"] = ego_speed
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in BANDS}
    taken["own lane"].append((-3.5, 6.0))  # the ego itself, and room to brake
    things = []
    for name, (least, most, bands) in POPULATION.items():
        for number in range(int(rng.integers(least, most + 1))):
            thing = _place(rng, name, bands, taken, speeds, REACH if number else CLOSE)  # one of each class is close by
            if thing is not None:
                things.append(thing)
    return tuple(things)


def _place(
    rng: np.random.Generator,
    name: str,
    bands: tuple[str, ...],
    taken: dict[str, list[tuple[float, float]]],
    speeds: dict[str, float],
    reach: float,
) -> Thing | None:
    """Find a free stretch of a band; None where the street is full."""
    width, length, height = (float(side * rng.uniform(0.94, 1.06)) for side in SIZES[name])
    size = width, length, height
    extent = width if name == "barrier" else length  # barriers stand along the road
    for _ in range(60):
        where = bands[rng.integers(len(bands))]
        band = BANDS[where]
        x = float(rng.uniform(-reach, reach))
        gap = 1.0 if band.moves == "walk" else 1.5 if name in ("traffic_cone", "barrier") else 2.0
        stretch = (x - extent / 2 - gap, x + extent / 2 + gap)
        if any(stretch[0] < end and start < stretch[1] for start, end in taken[where]):
            continue
        taken[where].append(stretch)
        y = band.y + float(rng.uniform(-1, 1)) * band.scatter
        yaw, speed = _heading_and_speed(rng, name, band, speeds[where])
        return Thing(name, size, (x, y), yaw, speed, _attribute(rng, name, speed), int(rng.integers(2**31)))
    return None


def _heading_and_speed(rng: np.random.Generator, name: str, band: Band, lane_speed: float) -> tuple[float, float]:
    direction = band.direction or int(rng.choice([-1, 1]))
    yaw = (0.0 if direction > 0 else float(np.pi)) + float(rng.normal(0, 0.03))
    if name == "barrier":
        return float(np.pi / 2 + rng.normal(0, 0.05)), 0.0
    if name == "traffic_cone":
        return float(rng.uniform(-np.pi, np.pi)), 0.0
    if band.moves == "parked":
        return yaw, 0.0
    if band.moves == "walk":
        return yaw, float(rng.choice([0.0, rng.uniform(0.8, 1.6)]))
    return (0.0 if direction > 0 else float(np.pi)), lane_speed


def _attribute(rng: np.random.Generator, name: str, speed: float) -> str:
    if name in ("barrier", "traffic_cone"):
        return ""
    if name == "pedestrian":
        return "pedestrian.moving" if speed else "pedestrian.standing"
    if name in ("motorcycle", "bicycle"):
        return "cycle.with_rider"
    return "vehicle.moving" if speed else str(rng.choice(["vehicle.parked", "vehicle.stopped"]))


BRICKS: tuple[Colour, ...] = ((0.55, 0.36, 0.30), (0.66, 0.60, 0.52), (0.48, 0.50, 0.54), (0.72, 0.68, 0.60))


def _scenery(rng: np.random.Generator) -> tuple[Part, ...]:
    """Buildings with windows, trees and lamp posts on both sides."""
    parts: list[Part] = []
    for side in (-1, 1):
        x = -90.0
        while x < 130:
            length, height, depth = rng.uniform(10, 22), rng.uniform(6, 16), rng.uniform(8, 14)
            parts += _building(rng, side, x, length, height, depth)
            x += length + rng.uniform(1, 7)
        for x in np.arange(-80, 120, 14) + rng.uniform(-3, 3):
            y = side * 15.2
            crown, tall = rng.uniform(2.2, 3.4), rng.uniform(3.2, 4.4)
            parts.append(Part("tube_z", (x, y, tall / 2), (0.35, 0.35, tall), (0.32, 0.24, 0.17)))
            parts.append(Part("ball", (x, y, tall + crown * 0.3), (crown, crown, crown), (0.16, 0.36, 0.14)))
            parts.append(Part("tube_z", (x + 7, side * 10.9, 2.9), (0.14, 0.14, 5.8), (0.3, 0.32, 0.34)))
            parts.append(Part("box", (x + 7, side * 10.1, 5.8), (0.25, 1.6, 0.12), (0.3, 0.32, 0.34)))
    return tuple(parts)


def _building(rng: np.random.Generator, side: int, x: float, length: float, height: float, depth: float) -> list[Part]:
    wall = BRICKS[rng.integers(len(BRICKS))]
    front = side * (PAVEMENT_EDGE + 3.0)
    parts = [Part("box", (x + length / 2, front + side * depth / 2, height / 2), (length, depth, height), wall)]
    for floor in np.arange(1.6, height - 1.2, 2.8):
        for along in np.arange(x + 1.5, x + length - 1.0, 2.6):
            parts.append(Part("box", (along, front, floor), (1.2, 0.16, 1.4), (0.16, 0.20, 0.26)))
    return parts
