"""Which scenes belong to a split.

A root's own ``splits.json`` takes precedence over nuScenes' official splits. nuScenes has no split
``search``, on which plans are judged. Here ``search`` is every 14th scene of nuScenes' ``train``:
50 of 700.
"""

from __future__ import annotations

import json
from pathlib import Path

from nuscenes.utils.splits import create_splits_scenes

from data_tools.database import rows_of
from sparsevit3d.errors import InputError

USUAL = {
    "v1.0-trainval": ("train", "search", "val"),
    "v1.0-mini": ("mini_train", "mini_val"),
    "v1.0-test": ("test",),
}


def find_version(root: Path, version: str | None) -> str:
    """Return the name of the folder of tables in ``root``: ``version``, or the only one there.

    Raises InputError if there is no such folder, or if ``version`` is None and there is not exactly
    one.
    """
    found = sorted(
        path.name
        for path in root.glob("v1.0-*")
        if path.is_dir() and not path.name.endswith(".partial")
    )
    if not root.is_dir():
        raise InputError(
            f"{root}: no such folder. Name the nuScenes root, the folder that holds samples/ and "
            "v1.0-..."
        )
    if version is None and len(found) == 1:
        return found[0]
    if version is None:
        raise InputError(
            f"{root}: has {', '.join(found) or 'no tables at all'}. Name one v1.0-... with "
            "--version."
        )
    if version not in found:
        raise InputError(
            f"{root}: no tables of version {version}. Found {', '.join(found) or 'none at all'}"
        )
    return version


def read_splits(folder: Path) -> dict[str, list[str]]:
    """Return the scene names of every split that a folder of tables can have.

    Raises InputError if ``splits.json`` is not valid.
    """
    official = {name: list(scenes) for name, scenes in create_splits_scenes().items()}
    return official | {"search": sorted(official["train"])[::14]} | own_splits(folder)


def own_splits(folder: Path) -> dict[str, list[str]]:
    """Return the splits of the folder's own ``splits.json``, or {} if there is no such file.

    Raises InputError if ``splits.json`` is not valid.
    """
    path = folder / "splits.json"
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: is no JSON ({error}). It has to be {{'SPLIT': ['SCENE', ...], ...}}."
        ) from error
    lists = found.values() if isinstance(found, dict) else [None]
    if not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists
    ):
        raise InputError(f"{path}: has to be {{'SPLIT': ['SCENE', ...], ...}}.")
    return dict(found)


def usual_splits(root: Path, version: str) -> list[str]:
    """Return the splits to use when the user names none.

    The choice is train, search and val if the root has its own. Otherwise the choice is all of the
    root's own splits. If there are none, the choice is the official splits of the version.
    """
    own = [name for name, scenes in own_splits(root / version).items() if scenes]
    return (
        [name for name in ("train", "search", "val") if name in own]
        or own
        or list(USUAL.get(version, ()))
    )


def scene_names(folder: Path) -> list[str]:
    """Return the names of all scenes in the tables.

    Raises InputError if a row has no name.
    """
    try:
        return [row["name"] for row in rows_of(folder / "scene.json")]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{folder / 'scene.json'}: a row has no name. 'sparsevit3d data check' lists what is "
            "wrong."
        ) from error


def scenes_of_split(root: Path, version: str, split: str) -> set[str]:
    """Return the scene names of a split that are in the tables.

    Raises InputError if there is no such split or if none of its scenes is in the tables.
    """
    splits = read_splits(root / version)
    if split not in splits:
        raise InputError(f"{root}: no split {split!r}. There are {', '.join(sorted(splits))}")
    present = set(scene_names(root / version)) & set(splits[split])
    if not present:
        raise InputError(f"{root}: split {split!r} has no scene in {version}")
    return present


def missing_scenes(root: Path, version: str, split: str) -> int:
    """Count the scenes of a split that are not in the tables."""
    return len(set(read_splits(root / version)[split]) - set(scene_names(root / version)))


def training_scenes(root: Path, version: str, split: str) -> set[str]:
    """Return the scenes of a split for training: ``train`` without the scenes of ``search``.

    Other splits are the same as in :func:`scenes_of_split`. nuScenes' ``search`` is taken from
    ``train``, so the two share no scene here.
    """
    scenes = scenes_of_split(root, version, split)
    return scenes - set(read_splits(root / version)["search"]) if split == "train" else scenes
