"""Rows of nuScenes' tables, as everything here that makes a root writes them."""

from __future__ import annotations

import hashlib
from typing import Any

from data_tools.schema import ATTRIBUTES, CATEGORIES

VISIBILITIES = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}

Row = dict[str, Any]
Rows = dict[str, list[Row]]


def token(*names: object) -> str:
    """Return a token of 32 hexadecimal digits, as nuScenes has them, made from ``names``."""
    return hashlib.md5("/".join(map(str, names)).encode(), usedforsecurity=False).hexdigest()


def vocabulary() -> Rows:
    """Return the rows of attributes, categories and levels of visibility, which all roots share."""
    return {
        "attribute": [_described("attribute", name) for name in ATTRIBUTES[:-1]],
        "category": [_described("category", name) for name in CATEGORIES],
        "visibility": [
            {"token": key, "level": level, "description": f"visibility {level[1:]} %"}
            for key, level in VISIBILITIES.items()
        ],
    }


def _described(table: str, name: str) -> dict[str, str]:
    return {
        "token": token(table, name),
        "name": name,
        "description": name.replace(".", ", ").replace("_", " "),
    }


def link(rows: Rows) -> None:
    """Chain rows in time and add the instances.

    The chains are those of samples, of each sensor's data and of each instance's annotations.
    """
    for table, owner in (
        ("sample", "scene_token"),
        ("sample_data", "calibrated_sensor_token"),
        ("sample_annotation", "instance_token"),
    ):
        chains: dict[str, list[Row]] = {}
        for row in rows[table]:
            chains.setdefault(row[owner], []).append(row)
        for chain in chains.values():
            for before, row, after in zip([None, *chain], chain, [*chain[1:], None], strict=False):
                row["prev"] = before["token"] if before else ""
                row["next"] = after["token"] if after else ""
        if table == "sample_annotation":
            rows["instance"] = [_instance(name, chain) for name, chain in chains.items()]


def _instance(name: str, track: list[Row]) -> Row:
    category = next(annotation.pop("category_token") for annotation in track)
    ends = {
        "first_annotation_token": track[0]["token"],
        "last_annotation_token": track[-1]["token"],
    }
    return {"token": name, "category_token": category, "nbr_annotations": len(track), **ends}
