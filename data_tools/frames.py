"""Random frames of a root, in memory that does not grow with the root."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from data_tools.database import rows_of
from data_tools.schema import IMAGE_FORMATS
from sparsevit3d.errors import InputError


def random_frames(root: Path, version: str, count: int, seed: int) -> list[tuple[Path, str]]:
    """Draw ``count`` camera keyframes evenly, by reservoir sampling.

    Returns (image path, caption) pairs in file order. A caption holds the scene's description and
    the channel.

    Raises InputError if the root has no camera keyframe or if the tables are not valid.
    """
    try:
        return _random_frames(root, version, count, seed)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{root / version}: a row lacks {error}. 'sparsevit3d data check' lists what is wrong."
        ) from error


def _random_frames(root: Path, version: str, count: int, seed: int) -> list[tuple[Path, str]]:
    rng = random.Random(seed)
    seen = 0
    chosen: list[Any] = []
    for row in rows_of(root / version / "sample_data.json"):
        if row["is_key_frame"] and row["fileformat"] in IMAGE_FORMATS:
            seen += 1
            if len(chosen) < count:
                chosen.append(row)
            elif (place := rng.randrange(seen)) < count:
                chosen[place] = row
    if not chosen:
        raise InputError(f"{root / version}: has no camera keyframe.")
    samples = {row["sample_token"]: "" for row in chosen}
    for row in rows_of(root / version / "sample.json"):
        if row["token"] in samples:
            samples[row["token"]] = row["scene_token"]
    scenes = {
        row["token"]: f"{row['name']}: {row['description']}"[:60]
        for row in rows_of(root / version / "scene.json")
    }
    channels = _channels(root / version)
    frames = []
    for row in sorted(chosen, key=lambda row: str(row["filename"])):
        scene = scenes[samples[row["sample_token"]]]
        caption = f"{scene}\n{channels[row['calibrated_sensor_token']]}"
        frames.append((root / row["filename"], caption))
    return frames


def _channels(folder: Path) -> dict[str, str]:
    """Return the channel of each row of calibrated_sensor, by token."""
    names = {row["token"]: row["channel"] for row in rows_of(folder / "sensor.json")}
    rows = rows_of(folder / "calibrated_sensor.json")
    return {row["token"]: names[row["sensor_token"]] for row in rows}
