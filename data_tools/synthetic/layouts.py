"""Places to drive through: a street, a crossing, a car park, a motorway, and a plain street.

The plain street belongs to the preset ``easy``. Each layout says where its bands lie, how much
traffic they have, what is painted on the ground and what stands beside the road.

Traffic is given per 100 m of band. Bands reach as far as the ego or their own traffic will get. A
drive of any length therefore stays as busy as at its start.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_tools.synthetic.bands import (
    KERBS,
    LANES,
    PAVEMENTS,
    REACH,
    STREET_PAINTS,
    Density,
    Trip,
    carriageway,
    crossing_paints,
    sides,
    stretch_of,
    view_of,
    wanted_in,
)
from data_tools.synthetic.drives import Band, Layout, Wanted
from data_tools.synthetic.ground import (
    ASPHALT,
    EARTH,
    FOREVER,
    LINE_WHITE,
    PAVING,
    Paint,
)
from data_tools.synthetic.roadside import building, lamp_post, traffic_light, tree
from data_tools.synthetic.scenery import furniture, houses, motorway_side, scatter
from data_tools.synthetic.shapes import between, moved, turned

BAYS = (-26.2, -19.8, -8.0, 4.6, 16.0, 22.4)  # middles of a car park's rows


def street(trip: Trip) -> Layout:
    """A street: two lanes each way, parking at the kerbs, pavements, shops, sometimes works."""
    rng = trip.rng
    ego_speed = float(rng.uniform(2, 11))
    bands = carriageway(trip, ego_speed, standing=0.3) | sides(trip, ego_speed)
    works = "left works" if rng.random() < 0.5 else "right works"
    densities: list[Density] = [
        ("bus", 0.086, ("right lane", "far lane", "oncoming lane"), 1),
        ("trailer", 0.12, ("right lane", "far lane", "right kerb"), 1),
        ("truck", 0.31, (*LANES, *KERBS), 1),
        ("construction_vehicle", 0.32, (works,), 1),
        (
            "barrier",
            10.0 if rng.random() < 0.55 else 0.0,
            (works, "right line"),
            int(rng.integers(4, 12)),
        ),
        ("car", 1.6, (*LANES, *KERBS, *KERBS), 1),
        ("motorcycle", 0.06, (*LANES, *KERBS), 1),
        ("bicycle", 0.16, ("left edge", *PAVEMENTS), 1),
        (
            "traffic_cone",
            6.7 if rng.random() < 0.6 else 0.0,
            (works, "right line"),
            int(rng.integers(2, 7)),
        ),
        ("pedestrian", 3.7, PAVEMENTS, 1),
    ]
    scenery = houses(rng, view_of(trip, ego_speed), front=17.0) + furniture(
        rng, view_of(trip, ego_speed), (-11.1, 11.1), (-15.4, 15.4)
    )
    return Layout(
        "street",
        bands,
        wanted_in(trip, bands, densities),
        STREET_PAINTS,
        tuple(scenery),
        -1.75,
        ego_speed,
    )


def crossing(trip: Trip) -> Layout:
    """Make a crossing of two streets, where one street has to wait and people cross it."""
    rng = trip.rng
    waits = bool(rng.random() < 0.5)  # whether the ego's street waits
    middle = float(rng.uniform(15.5, 26)) if waits else float(rng.uniform(15, 45))
    ego_speed = 0.0 if waits else float(rng.uniform(2, 6))
    box = (middle - 13.5, middle + 13.5)
    bands = {
        name: band._replace(gaps=(*band.gaps, box), speed=0.0 if waits else band.speed)
        for name, band in (
            carriageway(trip, ego_speed, standing=0.0) | sides(trip, ego_speed)
        ).items()
        if "works" not in name
    }
    if not waits:  # moving traffic may be anywhere, also on the crossing
        bands |= {name: bands[name]._replace(gaps=bands[name].gaps[:-1]) for name in LANES}
    # The other street runs to both sides. While the other street waits, its traffic keeps off the
    # crossing.
    for name, at, heading in (("cross up", 1.75, 90.0), ("cross down", -1.75, -90.0)):
        gaps = ((-16.0, 16.0),) if not waits else ()
        speed = float(rng.uniform(4, 9)) if waits else 0.0
        start = (
            (-70.0 - speed * trip.seconds, 70.0)
            if heading > 0
            else (-70.0, 70.0 + speed * trip.seconds)
        )
        bands[name] = Band("y", middle + at, 0.15, (heading,), "lane", start, speed, gaps)
    for name, at in (("near zebra", middle - 9.0), ("far zebra", middle + 9.0)):
        if waits:
            bands[name] = Band("y", at, 1.0, (90.0, -90.0), "walk", (-11.5, 11.5))
        else:  # zebras across the mouth of the other street, beside the ego's street
            y = 12.2 if name == "near zebra" else -12.2
            bands[name] = Band("x", y, 0.9, (0.0, 180.0), "walk", (middle - 6.5, middle + 6.5))
    zebras = ("near zebra", "far zebra")
    densities: list[Density] = [
        ("bus", 0.086, (*LANES[1:], "cross up", "cross down"), 1),
        ("trailer", 0.11, ("right lane", "far lane", "cross up"), 1),
        ("truck", 0.33, (*LANES, "cross up", "cross down"), 1),
        ("construction_vehicle", 0.16, KERBS, 1),
        ("barrier", 15.0 if rng.random() < 0.4 else 0.0, ("right line",), int(rng.integers(4, 9))),
        ("car", 1.8, (*LANES, *KERBS, "cross up", "cross down"), 1),
        ("motorcycle", 0.086, (*LANES, "cross up", "cross down"), 1),
        ("bicycle", 0.19, ("left edge", *PAVEMENTS), 1),
        (
            "traffic_cone",
            14.0 if rng.random() < 0.4 else 0.0,
            ("right line",),
            int(rng.integers(2, 6)),
        ),
        ("pedestrian", 17.0, zebras, 1),
        ("pedestrian", 3.1, PAVEMENTS, 1),
    ]
    paints = (*STREET_PAINTS, *crossing_paints(middle))
    scenery = houses(rng, view_of(trip, ego_speed), front=17.0, gap=(middle - 14, middle + 14))
    scenery += furniture(
        rng, view_of(trip, ego_speed), (-11.1, 11.1), (-15.4, 15.4), gap=(middle - 15, middle + 15)
    )
    for side in (-1, 1):
        scenery += moved(traffic_light(rng), middle - 11.5, side * 11.2)
        scenery += moved(turned(traffic_light(rng)), middle + side * 11.3, side * 15.0)
        for y in (42.0, 64.0):
            length = float(rng.uniform(14, 20))
            height = float(rng.uniform(7, 20))
            for way in (-1, 1):
                scenery += moved(
                    turned(building(rng, -way, -length / 2, 0.0, length, height, 9.0)),
                    middle + way * 12,
                    side * y,
                )
    return Layout(
        "crossing",
        bands,
        wanted_in(trip, bands, densities),
        paints,
        tuple(scenery),
        -1.75,
        ego_speed,
    )


def parking(trip: Trip) -> Layout:
    """Make a car park: an aisle between rows of bays, more rows behind, people on their way."""
    rng = trip.rng
    ego_speed = float(rng.uniform(0.5, 3.5))
    reach = (-REACH, REACH + ego_speed * trip.seconds)
    bays = {
        f"bays {y:+.1f}": Band("x", y, 0.25, (90.0, -90.0), "parked", reach, pitch=2.7)
        for y in BAYS
    }
    bands = bays | {
        "aisle": Band("x", -1.7, 0.2, (0.0,), "lane", reach, ego_speed, gaps=((-6.0, 9.0),)),
        "oncoming aisle": Band("x", -13.8, 0.3, (0.0, 180.0), "parked", reach),
        "walk": Band("x", 0.5, 0.3, (0.0, 180.0), "walk", reach),
        "far walk": Band("x", 10.4, 1.2, (0.0, 180.0), "walk", reach),
        "verge": Band("x", -31.2, 0.4, (0.0, 180.0), "walk", reach),
    }
    near = ("bays -8.0", "bays +4.6")
    densities: list[Density] = [
        ("truck", 0.71, ("oncoming aisle", "bays -8.0"), 1),
        ("trailer", 0.17, ("oncoming aisle",), 1),
        ("construction_vehicle", 0.04, ("oncoming aisle",), 1),
        ("car", float(rng.uniform(2, 6)), (*near, *bays), 1),
        ("car", 0.21, ("aisle", "oncoming aisle"), 1),
        (
            "barrier",
            4.3 if rng.random() < 0.4 else 0.0,
            ("far walk", "verge"),
            int(rng.integers(4, 10)),
        ),
        ("motorcycle", 0.17, near, 1),
        ("bicycle", 0.37, ("far walk", "verge"), 1),
        ("traffic_cone", 2.7, ("far walk", "oncoming aisle"), int(rng.integers(1, 5))),
        ("pedestrian", 2.4, ("walk", "far walk", "verge"), 1),
    ]
    paints = [
        Paint(FOREVER, (-29.8, 25.8), ASPHALT, worn=0.5),
        Paint(FOREVER, (9.0, 11.8), PAVING),
        Paint(FOREVER, (-33, -29.8), PAVING),
    ]
    for y in BAYS:
        paints.append(Paint(FOREVER, (y - 2.5, y + 2.5), LINE_WHITE, ("x", 1.5, 0.1)))
    scenery = houses(rng, view_of(trip, ego_speed), front=37.0)
    for x in np.arange(reach[0], reach[1], 27.0):
        scenery += moved(tree(rng), x, 10.4 + rng.choice((-2.3, 2.3)))
        scenery += moved(lamp_post(rng, 1.6), x + 9, -23.0)
    scenery += scatter(rng, view_of(trip, ego_speed), (-33.4,), 12.0)
    return Layout(
        "parking",
        bands,
        wanted_in(trip, bands, densities),
        tuple(paints),
        tuple(scenery),
        -1.7,
        ego_speed,
    )


def motorway(trip: Trip) -> Layout:
    """Make a motorway: three lanes each way and a hard shoulder.

    Traffic is fast with many lorries. People on foot are only at works.
    """
    rng = trip.rng
    ego_speed = float(rng.uniform(14, 27))
    works = bool(rng.random() < 0.45)
    lanes = {"fast lane": (-2.6, 1.1), "own lane": (-6.2, 1.0), "slow lane": (-9.8, 0.85)}
    bands = {}
    for name, (y, factor) in lanes.items():
        speed = ego_speed * factor
        gaps = ((-8.0, 16.0),) if name == "own lane" else ()
        bands[name] = Band(
            "x", y, 0.2, (0.0,), "lane", stretch_of(trip, ego_speed, speed), speed, gaps
        )
        bands[f"oncoming {name}"] = Band(
            "x", -y, 0.2, (180.0,), "lane", stretch_of(trip, ego_speed, -speed), speed
        )
    still = stretch_of(trip, ego_speed, 0.0)
    bands["shoulder"] = Band("x", -13.2, 0.2, (0.0,), "parked", still)
    bands["verge"] = Band("x", -17.9, 0.3, (0.0, 180.0), "parked", still)
    own = tuple(lanes)
    other = tuple(f"oncoming {name}" for name in lanes)
    densities: list[Density] = [
        ("trailer", 0.32, ("slow lane", "oncoming slow lane", "oncoming own lane"), 1),
        ("bus", 0.086, ("slow lane", "own lane", *other), 1),
        ("truck", 0.45, ("slow lane", "own lane", *other[1:]), 1),
        ("construction_vehicle", 1.3 if works else 0.0, ("verge", "shoulder"), 1),
        ("barrier", 23.0 if works else 0.0, ("shoulder",), int(rng.integers(6, 14))),
        ("car", 1.4, (*own, *other), 1),
        ("car", 0.44, ("shoulder",), 1),
        ("motorcycle", 0.095, own, 1),
        ("traffic_cone", 32.0 if works else 0.5, ("shoulder",), int(rng.integers(3, 8))),
        ("pedestrian", 3.4 if works else 0.0, ("verge",), 1),
    ]
    paints = [Paint(FOREVER, (-15.0, 15.0), ASPHALT), Paint(FOREVER, (-19.0, -15.6), EARTH)]
    for side in (-1, 1):
        paints += [
            Paint(FOREVER, between(side * 0.7, side * 0.85), LINE_WHITE),
            Paint(FOREVER, between(side * 11.6, side * 11.8), LINE_WHITE),
        ]
        paints += [
            Paint(FOREVER, between(side * y, side * (y + 0.15)), LINE_WHITE, ("x", 8.8, 4.0))
            for y in (4.33, 7.93)
        ]
    scenery = motorway_side(rng, view_of(trip, ego_speed))
    return Layout(
        "motorway",
        bands,
        wanted_in(trip, bands, densities),
        tuple(paints),
        tuple(scenery),
        -6.2,
        ego_speed,
    )


def plain_street(trip: Trip) -> Layout:
    """Make a street on which at least one object of each class is close.

    There is little to learn from this street, and it is learnt soonest.
    """
    rng = trip.rng
    ego_speed = float(rng.uniform(2, 8))
    bands = {
        name: band._replace(stretch=(-30.0, 30.0))
        for name, band in (
            carriageway(trip, ego_speed, standing=0.3) | sides(trip, ego_speed)
        ).items()
    }
    quotas = (
        ("bus", 1, 2, LANES[1:] + KERBS),
        ("trailer", 1, 2, KERBS + LANES[1:]),
        ("truck", 2, 3, LANES + KERBS),
        ("construction_vehicle", 1, 2, KERBS),
        ("car", 5, 7, LANES + KERBS),
        ("motorcycle", 2, 3, ("left edge", *LANES)),
        ("bicycle", 2, 3, ("left edge", *PAVEMENTS)),
        ("barrier", 3, 4, KERBS),
        ("traffic_cone", 4, 5, ("right line", *KERBS)),
        ("pedestrian", 5, 6, PAVEMENTS),
    )
    wanted = tuple(
        Wanted(name, int(rng.integers(least, most + 1)), where, close=True)
        for name, least, most, where in quotas
    )
    scenery = houses(rng, view_of(trip, ego_speed), front=17.0)
    for side in (-1, 1):
        for x in np.arange(-80.0, 120.0, 14.0) + rng.uniform(-3, 3):
            scenery += moved(tree(rng), x, side * 15.2) + moved(
                lamp_post(rng, -side * 0.8), x + 7, side * 11.3
            )
    return Layout("street", bands, wanted, STREET_PAINTS, tuple(scenery), -1.75, ego_speed)


LAYOUTS: dict[str, Callable[[Trip], Layout]] = {
    layout.__name__: layout for layout in (street, crossing, parking, motorway, plain_street)
}
