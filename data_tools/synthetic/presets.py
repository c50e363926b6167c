"""How hard a dataset is: its places, weather, traffic and cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_tools.synthetic.bands import Trip
from data_tools.synthetic.camera import NUSCENES_QUALITY, Look
from data_tools.synthetic.drives import KEYFRAME_SECONDS, Drive, populate
from data_tools.synthetic.layouts import LAYOUTS
from data_tools.synthetic.light import make_light


@dataclass(frozen=True)
class Preset:
    """The settings of one difficulty. Shares of layouts add up to 1, and so do shares of lights."""

    layouts: dict[str, float]
    lights: dict[str, float]
    busy: tuple[float, float]  # least and most traffic, where 1 is as busy as nuScenes
    look: Look
    plain: bool = False  # only the plainest make of each class


PRESETS = {
    # One sunny street, everything close, perfect cameras. This preset is learnt soonest.
    "easy": Preset(
        {"plain_street": 1.0},
        {"plain": 1.0},
        (1.0, 1.0),
        Look(),
        plain=True,
    ),
    # As close to nuScenes as made streets can be.
    "standard": Preset(
        {"street": 0.45, "crossing": 0.27, "parking": 0.12, "motorway": 0.16},
        {"day": 0.5, "overcast": 0.2, "rain": 0.18, "dusk": 0.12},
        (0.5, 1.5),
        Look(NUSCENES_QUALITY, 0.28, 0.15, 0.006, 0.012, 0.55, 0.35, 0.5),
    ),
    # Crowded, mostly dusk and rain. Cameras blur, drip and misjudge the light.
    "hard": Preset(
        {"street": 0.4, "crossing": 0.4, "parking": 0.1, "motorway": 0.1},
        {"day": 0.2, "overcast": 0.15, "rain": 0.35, "dusk": 0.3},
        (1.2, 2.4),
        Look(NUSCENES_QUALITY - 15, 0.26, 0.4, 0.012, 0.03, 0.9, 0.6, 1.5),
    ),
}


def make_drive(name: str, preset: str, seed: int, number: int, keyframes: int) -> Drive:
    """Make the drive ``number`` of a dataset of this ``preset`` and ``seed``.

    A drive is the same for any number of other drives in the dataset.
    """
    rng = np.random.default_rng([seed, number])
    how = PRESETS[preset]
    layout_name, light_name = (
        str(rng.choice(list(shares), p=list(shares.values())))
        for shares in (how.layouts, how.lights)
    )
    seconds = (keyframes - 1) * KEYFRAME_SECONDS
    layout = LAYOUTS[layout_name](Trip(rng, seconds, float(rng.uniform(*how.busy))))
    things = populate(rng, layout, how.plain)
    origin = (
        float(rng.uniform(300, 900)),
        float(rng.uniform(600, 1600)),
        float(rng.uniform(-np.pi, np.pi)),
    )
    return Drive(
        name, keyframes, layout, things, make_light(rng, light_name), origin, (seed, number)
    )
