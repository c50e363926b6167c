"""Random frames of a root, in memory that does not grow with the root."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from data_tools.database import rows_of
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
            f"{root / version}: a row lacks {error}; 'sparsevit3d data check' lists what is wrong"
        ) from error


def _random_frames(root: Path, version: str, count: int, seed: int) -> list[tuple[Path, str]]:
    rng = random.Random(seed)
    seen = 0
    chosen: list[Any] = []
    for row in rows_of(root / version / "sample_data.json"):
        if row["is_key_frame"] and row["fileformat"] == "jpg":
            seen += 1
            if len(chosen) < count:
                chosen.append(row)
            elif (place := rng.randrange(seen)) < count:
                chosen[place] = row
    if not chosen:
        raise InputError(f"{root / version}: has no camera keyframe")
    samples = {row["sample_token"]: "" for row in chosen}
    for row in rows_of(root / version / "sample.json"):
        if row["token"] in samples:
            samples[row["token"]] = row["scene_token"]
    scenes = {
        row["token"]: f"{row['name']}: {row['description']}"[:60]
        for row in rows_of(root / version / "scene.json")
    }
    frames = []
    for row in sorted(chosen, key=lambda row: str(row["filename"])):
        caption = f"{scenes[samples[row['sample_token']]]}\n{Path(row['filename']).parent.name}"
        frames.append((root / row["filename"], caption))
    return frames
