"""What a box of a submission must be, so that its score means something."""

from __future__ import annotations

import math
from typing import Any

from nuscenes.eval.detection.constants import ATTRIBUTE_NAMES

from data_tools.schema import CLASSES

NUMBERS = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}


def box_fault(box: Any) -> str:
    """Return what is wrong with a box and what to do, or '' if nothing is."""
    if not isinstance(box, dict):
        return f"it is {box!r}. Make it an object with translation, size and so on."
    for field, count in NUMBERS.items():
        value = box.get(field)
        if not _are_numbers(value, count):
            return f"{field} is {value!r}. Give {count} numbers."
        if field != "velocity" and not all(math.isfinite(number) for number in value or ()):
            return f"{field} is {value!r}. Give finite numbers."
    # The devkit takes NaN for a velocity that is not known.
    if any(math.isinf(number) for number in box["velocity"]):
        return f"velocity is {box['velocity']!r}. Give finite numbers, or NaN where unknown."
    if min(box["size"]) <= 0:
        return f"size is {box['size']!r}. Give width, length and height above 0."
    if not math.hypot(*box["rotation"]) > 0:
        return f"rotation is {box['rotation']!r}. Give a quaternion w, x, y, z."
    return _naming_fault(box)


def _naming_fault(box: dict[str, Any]) -> str:
    score: Any = box.get("detection_score")
    if not _are_numbers([score], 1) or not 0 <= score < math.inf:
        return f"detection_score is {score!r}. Give a finite number of at least 0."
    if box.get("detection_name") not in CLASSES:
        return f"detection_name is {box.get('detection_name')!r}. Give one of {', '.join(CLASSES)}."
    if box.get("attribute_name") not in (*ATTRIBUTE_NAMES, ""):
        names = ", ".join(ATTRIBUTE_NAMES)
        return f"attribute_name is {box.get('attribute_name')!r}. Give '' or one of {names}."
    return ""


def _are_numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(type(number) in (int, float) for number in value)
    )
