"""The ten classes in all their makes: frequency, size, nuScenes category and shape.

Sizes are about nuScenes' means. The first make of each class is the plainest. The preset ``easy``
has only the first makes, and its colours also tell the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data_tools.synthetic import people, roadside, vehicles
from data_tools.synthetic.shapes import Part


class Make(NamedTuple):
    """One make of a class."""

    # Builds the parts from the random looks and from the phase of the stride.
    shape: Callable[[np.random.Generator, float], list[Part]]
    size: tuple[float, float, float]  # mean width, length, height, metres
    scatter: float  # relative deviation of each side
    share: float  # share of its class
    category: str  # nuScenes' name
    ridden: bool = False


CATALOGUE: dict[str, tuple[Make, ...]] = {
    "car": (
        Make(vehicles.sedan, (1.85, 4.7, 1.5), 0.04, 0.42, "vehicle.car"),
        Make(vehicles.hatchback, (1.8, 4.1, 1.52), 0.04, 0.2, "vehicle.car"),
        Make(vehicles.off_roader, (2.0, 4.75, 1.78), 0.04, 0.22, "vehicle.car"),
        Make(vehicles.van, (2.05, 5.3, 2.2), 0.06, 0.1, "vehicle.car"),
        Make(vehicles.taxi, (1.85, 4.7, 1.6), 0.03, 0.06, "vehicle.car"),
    ),
    "truck": (
        Make(vehicles.lorry, (2.5, 7.4, 3.1), 0.1, 0.4, "vehicle.truck"),
        Make(vehicles.flatbed, (2.3, 6.8, 2.5), 0.1, 0.15, "vehicle.truck"),
        Make(vehicles.tipper, (2.6, 7.8, 3.2), 0.07, 0.15, "vehicle.truck"),
        Make(vehicles.pickup, (2.05, 5.6, 1.9), 0.05, 0.3, "vehicle.truck"),
    ),
    "bus": (
        Make(vehicles.bus, (2.9, 11.0, 3.3), 0.05, 0.7, "vehicle.bus.rigid"),
        Make(vehicles.double_decker, (2.8, 10.6, 4.3), 0.03, 0.2, "vehicle.bus.rigid"),
        Make(vehicles.bendy_bus, (2.9, 16.0, 3.3), 0.03, 0.1, "vehicle.bus.bendy"),
    ),
    "trailer": (
        Make(vehicles.trailer, (2.8, 12.5, 3.8), 0.08, 0.75, "vehicle.trailer"),
        Make(vehicles.tank_trailer, (2.6, 11.4, 3.5), 0.08, 0.25, "vehicle.trailer"),
    ),
    "construction_vehicle": (
        Make(vehicles.excavator, (2.7, 6.4, 3.2), 0.12, 0.5, "vehicle.construction"),
        Make(vehicles.wheel_loader, (2.6, 6.2, 3.1), 0.12, 0.35, "vehicle.construction"),
        Make(vehicles.mobile_crane, (2.7, 9.5, 3.4), 0.08, 0.15, "vehicle.construction"),
    ),
    "pedestrian": (
        Make(people.adult, (0.67, 0.72, 1.75), 0.06, 0.5, "human.pedestrian.adult"),
        Make(people.with_bag, (0.68, 0.8, 1.74), 0.06, 0.16, "human.pedestrian.adult"),
        Make(people.in_dress, (0.66, 0.7, 1.66), 0.05, 0.12, "human.pedestrian.adult"),
        Make(people.with_umbrella, (0.9, 0.85, 1.95), 0.04, 0.04, "human.pedestrian.adult"),
        Make(people.worker, (0.72, 0.75, 1.78), 0.04, 0.08, "human.pedestrian.construction_worker"),
        Make(
            people.police_officer, (0.7, 0.72, 1.8), 0.03, 0.02, "human.pedestrian.police_officer"
        ),
        Make(people.adult, (0.5, 0.5, 1.25), 0.12, 0.08, "human.pedestrian.child"),
    ),
    "motorcycle": (
        Make(people.ridden_motorcycle, (0.8, 2.1, 1.62), 0.05, 0.45, "vehicle.motorcycle", True),
        Make(people.parked_motorcycle, (0.76, 2.05, 1.2), 0.06, 0.55, "vehicle.motorcycle"),
    ),
    "bicycle": (
        Make(people.ridden_bicycle, (0.65, 1.75, 1.65), 0.05, 0.4, "vehicle.bicycle", True),
        Make(people.parked_bicycle, (0.58, 1.7, 1.1), 0.05, 0.6, "vehicle.bicycle"),
    ),
    "traffic_cone": (
        Make(roadside.cone, (0.42, 0.42, 1.0), 0.15, 0.75, "movable_object.trafficcone"),
        Make(roadside.delineator, (0.36, 0.36, 1.1), 0.08, 0.25, "movable_object.trafficcone"),
    ),
    "barrier": (
        Make(roadside.striped_barrier, (2.5, 0.5, 1.0), 0.06, 0.35, "movable_object.barrier"),
        Make(roadside.filled_barrier, (2.0, 0.55, 1.0), 0.05, 0.35, "movable_object.barrier"),
        Make(roadside.concrete_barrier, (2.9, 0.6, 0.95), 0.06, 0.3, "movable_object.barrier"),
    ),
}

# Random seeds of the looks that the preset ``easy`` gives to a class's first make: silver cars, red
# trucks, green buses, brown trailers ...
PLAIN_LOOKS = {
    "car": 2,
    "truck": 1,
    "bus": 2,
    "trailer": 0,
    "construction_vehicle": 1,
    "pedestrian": 0,
    "motorcycle": 0,
}
