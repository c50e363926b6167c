"""The bands of a street: lanes, kerbs and pavements, with their traffic and their paint."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data_tools.synthetic.drives import Band, Wanted
from data_tools.synthetic.ground import (
    ASPHALT,
    FOREVER,
    KERB,
    LINE_WHITE,
    LINE_YELLOW,
    PAVING,
    Paint,
)
from data_tools.synthetic.shapes import between

REACH = 75.0  # metres before and behind the ego within which there is traffic
VIEW = 120.0  # metres before and behind the ego within which there is scenery


class Trip(NamedTuple):
    """The input of a layout function."""

    rng: np.random.Generator
    seconds: float  # length of the drive
    busy: float  # traffic in relation to the usual amount


# Class, objects per 100 m of these bands, the bands, length of a row.
Density = tuple[str, float, tuple[str, ...], int]

LANES = ("own lane", "right lane", "oncoming lane", "far lane")
KERBS = ("right kerb", "left kerb")
PAVEMENTS = ("right pavement", "left pavement")


STREET_PAINTS = (
    Paint(FOREVER, (-14.2, 14.2), PAVING, worn=0.35),
    Paint(FOREVER, (-14.2, 14.2), (0.38, 0.37, 0.36), ("x", 1.5, 0.06)),
    Paint(FOREVER, (-10.82, 10.82), KERB),
    Paint(FOREVER, (-10.6, 10.6), ASPHALT),
    *(Paint(FOREVER, between(side * 7.0, side * 7.12), LINE_WHITE) for side in (-1, 1)),
    *(
        Paint(FOREVER, between(side * 3.44, side * 3.58), LINE_WHITE, ("x", 6.0, 3.0))
        for side in (-1, 1)
    ),
    Paint(FOREVER, (-0.1, 0.1), LINE_YELLOW),
)


def crossing_paints(middle: float) -> tuple[Paint, ...]:
    across = (middle - 7.3, middle + 7.3)
    zebras = [
        Paint((x - 1.5, x + 1.5), (-10.4, 10.4), LINE_WHITE, ("y", 1.2, 0.6))
        for x in (middle - 9, middle + 9)
    ]
    zebras += [
        Paint(across, between(side * 10.8, side * 13.6), LINE_WHITE, ("x", 1.2, 0.6))
        for side in (-1, 1)
    ]
    return (
        Paint((middle - 10.6, middle + 10.6), FOREVER, PAVING),
        Paint(across, FOREVER, ASPHALT),
        Paint((middle - 10.6, middle + 10.6), (-10.6, 10.6), ASPHALT),
        Paint((middle - 0.1, middle + 0.1), (14.5, 1e6), LINE_YELLOW),
        Paint((middle - 0.1, middle + 0.1), (-1e6, -14.5), LINE_YELLOW),
        *zebras,
        Paint((middle - 11.4, middle - 11.0), (-7.0, 0.0), LINE_WHITE),
    )


def stretch_of(trip: Trip, ego_speed: float, speed: float) -> tuple[float, float]:
    """Return the stretch of the road on which an object going at ``speed`` may start.

    From any place on the stretch the object is within reach of the ego at some time.
    """
    drift = (ego_speed - speed) * trip.seconds
    return min(0.0, drift) - REACH, max(0.0, drift) + REACH


def carriageway(trip: Trip, ego_speed: float, standing: float) -> dict[str, Band]:
    """Make two lanes each way.

    Each lane but the ego's stands still with the probability ``standing``.
    """
    bands = {}
    for name, y, heading in (
        ("own lane", -1.75, 0.0),
        ("right lane", -5.25, 0.0),
        ("oncoming lane", 1.75, 180.0),
        ("far lane", 5.25, 180.0),
    ):
        speed = 0.0 if trip.rng.random() < standing else float(trip.rng.uniform(3, 11))
        speed = ego_speed if name == "own lane" else speed
        # The ego's own lane has a gap for the ego itself and for room to brake.
        gaps = ((-4.5, 7.0),) if name == "own lane" else ()
        stretch = stretch_of(trip, ego_speed, speed if heading == 0 else -speed)
        bands[name] = Band("x", y, 0.15, (heading,), "lane", stretch, speed, gaps)
    return bands


def sides(trip: Trip, ego_speed: float) -> dict[str, Band]:
    """Make the bands beside the carriageway.

    The bands are kerbs to park at, strips for works on top of the kerbs, pavements, a line of the
    carriageway for cones, and a line to cycle on.
    """
    still = stretch_of(trip, ego_speed, 0.0)
    half = (still[0], 0.4 * still[0] + 0.6 * still[1])
    bands = {}
    for side, name in ((-1, "right"), (1, "left")):
        along = 0.0 if side < 0 else 180.0
        bands[f"{name} kerb"] = Band(
            "x", side * 9.3, 0.1, (along,), "parked", half if side > 0 else still
        )
        bands[f"{name} works"] = Band("x", side * 9.3, 0.3, (along,), "parked", (half[1], still[1]))
        bands[f"{name} pavement"] = Band("x", side * 12.9, 0.8, (0.0, 180.0), "walk", still)
    bands["right kerb"] = bands["right kerb"]._replace(stretch=half)
    bands["right line"] = Band("x", -7.4, 0.05, (0.0,), "parked", still)
    bands["left edge"] = Band(
        "x", 7.3, 0.05, (180.0,), "lane", stretch_of(trip, ego_speed, -3.5), 3.5
    )
    return bands


def wanted_in(trip: Trip, bands: dict[str, Band], densities: list[Density]) -> tuple[Wanted, ...]:
    wanted = []
    for name, density, where, row in densities:
        length = sum(bands[band].stretch[1] - bands[band].stretch[0] for band in set(where))
        wanted.append(
            Wanted(name, int(trip.rng.poisson(density * trip.busy * length / 100)), where, row)
        )
    return tuple(wanted)


def view_of(trip: Trip, ego_speed: float) -> tuple[float, float]:
    """Return the stretch of the road that has scenery."""
    return -VIEW, VIEW + ego_speed * trip.seconds
