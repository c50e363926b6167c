"""Which scenes belong to a split: a root's own ``splits.json`` goes before nuScenes' official
splits.

``search``, on which plans are judged and which nuScenes does not have, is every 14th scene of its
``train``: 50 of 700.
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
    """The folder of tables in ``root``: ``version``, or the only one there.

    Raises InputError where that is not clear.
    """
    found = sorted(
        path.name
        for path in root.glob("v1.0-*")
        if path.is_dir() and not path.name.endswith(".partial")
    )
    if not root.is_dir():
        raise InputError(
            f"{root}: no such folder; name the nuScenes root, the folder that holds samples/ and "
            f"v1.0-..."
        )
    if version is None and len(found) == 1:
        return found[0]
    if version is None:
        raise InputError(
            f"{root}: has {', '.join(found) or 'no tables at all'}; name one v1.0-... with "
            f"--version"
        )
    if version not in found:
        raise InputError(
            f"{root}: no tables of version {version}; found {', '.join(found) or 'none at all'}"
        )
    return version


def read_splits(folder: Path) -> dict[str, list[str]]:
    """Scene names of every split that a folder of tables can have.

    Raises InputError for a ``splits.json`` that is no such thing.
    """
    official = {name: list(scenes) for name, scenes in create_splits_scenes().items()}
    return official | {"search": sorted(official["train"])[::14]} | own_splits(folder)


def own_splits(folder: Path) -> dict[str, list[str]]:
    """Of the folder's own ``splits.json``, if it has one."""
    path = folder / "splits.json"
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: is no JSON ({error}); it has to be {{'SPLIT': ['SCENE', ...], ...}}"
        ) from error
    lists = found.values() if isinstance(found, dict) else [None]
    if not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists
    ):
        raise InputError(f"{path}: has to be {{'SPLIT': ['SCENE', ...], ...}}")
    return dict(found)


def usual_splits(root: Path, version: str) -> list[str]:
    """The splits that people mean who name none: train, search and val where the root has its own,
    else all its own, else official ones.
    """
    own = [name for name, scenes in own_splits(root / version).items() if scenes]
    return (
        [name for name in ("train", "search", "val") if name in own]
        or own
        or list(USUAL.get(version, ()))
    )


def scene_names(folder: Path) -> list[str]:
    """Of all scenes in the tables."""
    try:
        return [row["name"] for row in rows_of(folder / "scene.json")]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{folder / 'scene.json'}: a row has no name; 'sparsevit3d data check' lists what is "
            f"wrong"
        ) from error


def scenes_of_split(root: Path, version: str, split: str) -> set[str]:
    """Scene names of a split that are in the tables.

    Raises InputError where there is no such split, or none of its scenes.
    """
    splits = read_splits(root / version)
    if split not in splits:
        raise InputError(f"{root}: no split {split!r}; there are {', '.join(sorted(splits))}")
    present = set(scene_names(root / version)) & set(splits[split])
    if not present:
        raise InputError(f"{root}: split {split!r} has no scene in {version}")
    return present


def missing_scenes(root: Path, version: str, split: str) -> int:
    """How many scenes of a split are not in the tables."""
    return len(set(read_splits(root / version)[split]) - set(scene_names(root / version)))


def training_scenes(root: Path, version: str, split: str) -> set[str]:
    """The same as :func:`scenes_of_split`; but ``train`` leaves out those that ``search`` borrows,
    so that the two share none.
    """
    scenes = scenes_of_split(root, version, split)
    return scenes - set(read_splits(root / version)["search"]) if split == "train" else scenes
