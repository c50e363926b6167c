"""Seeded drives: who stands and moves where.

Drives are pure numbers. Everything moves along a straight line until the line ends.

Things live in bands: strips of the road frame that do not touch each other. All things in a lane
share one speed, so nothing ever runs into anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from data_tools.synthetic.catalogue import CATALOGUE, PLAIN_LOOKS, Make
from data_tools.synthetic.ground import Paint
from data_tools.synthetic.light import Light
from data_tools.synthetic.shapes import Part

KEYFRAME_SECONDS = 0.5  # nuScenes annotates at 2 Hz
GROUND_CLEARANCE = 0.01  # metres between the ground and every annotation box
TRIES = 60  # attempts to find a place for something


class Band(NamedTuple):
    """A strip of the road frame, and how things in the strip stand and move."""

    axis: str  # axis along which the band runs (x: along the road, y: across the road)
    at: float  # where the middle lies on the other axis, metres
    scatter: float  # how far things stand from the middle, metres
    headings: tuple[float, ...]  # degrees to the left of the road's x axis, one chosen at random
    # lane: all things at the lane's speed. walk: each at its own speed. parked: none moves.
    moves: str
    stretch: tuple[float, float]  # where along its axis, metres, at the first keyframe
    speed: float = 0.0  # speed of a lane
    # Stretches that stay empty. Walkers stop before a gap and at the end of the band.
    gaps: tuple[tuple[float, float], ...] = ()
    pitch: float = 0.0  # pitch of marked bays, where things stand in the middle of a bay


class Wanted(NamedTuple):
    """How many objects of a class to place, and in which bands."""

    name: str
    number: int
    bands: tuple[str, ...]
    row: int = 1  # objects in one row
    close: bool = False  # the first of them stands within 20 m of the ego's start


@dataclass(frozen=True)
class Layout:
    """A place to drive through."""

    name: str
    bands: dict[str, Band]
    wanted: tuple[Wanted, ...]  # long objects come first, so that they find room
    paints: tuple[Paint, ...] = field(repr=False)
    scenery: tuple[Part, ...] = field(repr=False)  # scenery is rendered and never annotated
    ego_y: float
    ego_speed: float


@dataclass(frozen=True)
class Thing:
    """One annotated object.

    The pose is in the road frame at time 0. The object keeps its heading and speed until the object
    stops.
    """

    name: str
    make: int  # index of the make in the catalogue
    size: tuple[float, float, float]  # width, length, height, metres
    position: tuple[float, float]  # x, y of the middle, metres (things stand on the ground)
    yaw: float  # radians
    speed: float  # metres per second along its heading
    attribute: str  # attribute while the object moves, if it does
    looks: int  # random seed of the shape
    stops: float = np.inf  # seconds after which the object stands still

    def at(self, seconds: float) -> tuple[float, float]:
        step = self.speed * min(seconds, self.stops)
        return self.position[0] + step * float(np.cos(self.yaw)), self.position[1] + step * float(
            np.sin(self.yaw)
        )

    def attribute_at(self, seconds: float) -> str:
        return (
            "pedestrian.standing"
            if self.attribute == "pedestrian.moving" and seconds >= self.stops
            else self.attribute
        )

    def phase(self, seconds: float) -> float:
        """Return the phase of the object's stride in radians.

        The phase is 0 for an object that never moves. A step is some 0.7 m.
        """
        return (
            2 * np.pi * self.speed * min(seconds, self.stops) / 1.4 + self.looks % 6
            if self.speed
            else 0.0
        )

    @property
    def category(self) -> str:
        return CATALOGUE[self.name][self.make].category


@dataclass(frozen=True)
class Drive:
    """One scene: a place, the things in that place, and the way of the ego.

    The ego drives at x = speed * t, y = ego_y, yaw 0.
    """

    name: str
    keyframes: int
    layout: Layout
    things: tuple[Thing, ...]
    light: Light
    origin: tuple[float, float, float]  # the road frame in the global frame: x, y, yaw
    seed: tuple[int, int]

    def times(self) -> list[float]:
        return [index * KEYFRAME_SECONDS for index in range(self.keyframes)]

    def ego(self, seconds: float) -> tuple[float, float]:
        return self.layout.ego_speed * seconds, self.layout.ego_y


def populate(rng: np.random.Generator, layout: Layout, plain: bool) -> tuple[Thing, ...]:
    """Give every wanted object a free place, as far as there is room.

    ``plain`` allows only the first make of each class, in one paint.
    """
    taken: dict[str, list[tuple[float, float]]] = {
        name: list(band.gaps) for name, band in layout.bands.items()
    }
    things: list[Thing] = []
    for wanted in layout.wanted:
        for number in range(0, wanted.number, wanted.row):
            makes = CATALOGUE[wanted.name]
            shares = np.array([make.share for make in makes])
            make = 0 if plain else int(rng.choice(len(makes), p=shares / shares.sum()))
            row = min(wanted.row, wanted.number - number)
            things += _place(
                rng, layout, wanted, make, row, taken, close=wanted.close and number == 0
            )
    if plain:
        things = [replace(thing, looks=PLAIN_LOOKS.get(thing.name, 0)) for thing in things]
    return tuple(things)


def _place(
    rng: np.random.Generator,
    layout: Layout,
    wanted: Wanted,
    number: int,
    row: int,
    taken: dict[str, list[tuple[float, float]]],
    close: bool,
) -> list[Thing]:
    """Place a row of things on a free stretch of a band, or nothing if the band is full."""
    for _ in range(TRIES):
        where = wanted.bands[rng.integers(len(wanted.bands))]
        band = layout.bands[where]
        # A cycle in a lane needs a rider, so that only the first make may go there.
        number = 0 if band.moves == "lane" and wanted.name in ("bicycle", "motorcycle") else number
        size = _size(rng, CATALOGUE[wanted.name][number])
        heading = float(rng.choice(band.headings))
        extent = _extent(wanted.name, size, band, heading)
        gap = {"walk": 0.6, "parked": 0.5}.get(band.moves, 2.0 + 0.5 * band.speed)
        pitch = (
            extent + 0.25
            if wanted.name == "barrier"
            else max(extent, 3.0 if band.moves == "parked" else extent + 1.0)
        )
        low, high = (
            (max(band.stretch[0], -20.0), min(band.stretch[1], 20.0)) if close else band.stretch
        )
        length = row * pitch if row > 1 else extent
        if high - low <= length:
            continue
        middle = float(rng.uniform(low + length / 2, high - length / 2))
        if band.pitch:
            middle = (np.floor(middle / band.pitch) + 0.5) * band.pitch
        stretch = (middle - length / 2 - gap / 2, middle + length / 2 + gap / 2)
        if any(stretch[0] < end and start < stretch[1] for start, end in taken[where]):
            continue
        taken[where].append(stretch)
        places = [middle + (index - (row - 1) / 2) * pitch for index in range(row)]
        return [_thing(rng, wanted.name, number, size, band, heading, place) for place in places]
    return []


def _size(rng: np.random.Generator, make: Make) -> tuple[float, float, float]:
    whole = rng.normal(0, make.scatter / 2)
    sides = rng.normal(0, make.scatter / 2, 3)
    width, length, height = (
        float(side * np.clip(1 + whole + own, 0.8, 1.25))
        for side, own in zip(make.size, sides, strict=True)
    )
    return width, length, height


def _extent(name: str, size: tuple[float, float, float], band: Band, heading: float) -> float:
    """Return how many metres of the band's axis the object takes.

    Barriers stand along their band, across their heading.
    """
    lengthwise = (abs(np.cos(np.radians(heading))) > 0.7) == (band.axis == "x")
    return size[0] if lengthwise == (name == "barrier") else size[1]


def _thing(
    rng: np.random.Generator,
    name: str,
    number: int,
    size: tuple[float, float, float],
    band: Band,
    heading: float,
    along: float,
) -> Thing:
    make = CATALOGUE[name][number]
    across = band.at + float(rng.uniform(-1, 1)) * band.scatter
    position = (along, across) if band.axis == "x" else (across, along)
    yaw, speed = _heading_and_speed(rng, name, make, band, heading)
    stops = np.inf
    if band.moves == "walk" and speed:
        axis = float(np.cos(yaw) if band.axis == "x" else np.sin(yaw))
        ends = [
            edge for gap in (*band.gaps, band.stretch) for edge in gap if (edge - along) * axis > 0
        ]
        stops = min(abs(edge - along) for edge in ends) / abs(axis) / speed
    return Thing(
        name,
        number,
        size,
        position,
        yaw,
        speed,
        _attribute(rng, name, make, band, speed),
        int(rng.integers(2**31)),
        float(stops),
    )


def _heading_and_speed(
    rng: np.random.Generator, name: str, make: Make, band: Band, heading: float
) -> tuple[float, float]:
    yaw = float(np.radians(heading))
    if name == "barrier":
        return yaw + float(np.pi / 2 + rng.normal(0, 0.04)), 0.0
    if name == "traffic_cone":
        return float(rng.uniform(-np.pi, np.pi)), 0.0
    if band.moves == "lane":
        return yaw, band.speed
    yaw += float(rng.normal(0, 0.03))
    if band.moves == "walk" and (name == "pedestrian" or make.ridden):
        walks = rng.random() < 0.65
        speed = float(rng.uniform(0.8, 1.7)) if walks else 0.0
        return (yaw if walks else yaw + float(rng.uniform(-np.pi, np.pi))), speed
    return yaw, 0.0


def _attribute(rng: np.random.Generator, name: str, make: Make, band: Band, speed: float) -> str:
    if name in ("barrier", "traffic_cone"):
        return ""
    if name == "pedestrian":
        return "pedestrian.moving" if speed else "pedestrian.standing"
    if name in ("motorcycle", "bicycle"):
        return "cycle.with_rider" if make.ridden else "cycle.without_rider"
    if speed:
        return "vehicle.moving"
    return "vehicle.stopped" if band.moves == "lane" else "vehicle.parked"
