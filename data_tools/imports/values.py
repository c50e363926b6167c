"""Checks of single values that a user wrote: numbers, text, matrices, keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsevit3d.errors import InputError

LARGEST = 1e8  # metres and pixels beyond are mistakes
LATEST = 1e11  # seconds

Matrix = NDArray[np.float64]


def is_number(value: Any, most: float = LARGEST) -> bool:
    """Whether the value is a finite number no larger than ``most``."""
    return type(value) in (int, float) and -most <= value <= most


def are_numbers(value: Any, count: int) -> bool:
    """Whether the value is a list of ``count`` such numbers."""
    return isinstance(value, list) and len(value) == count and all(map(is_number, value))


def is_text(value: Any) -> bool:
    """Whether the value is text that can be encoded and can name a file."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def matrix_of(value: Any, shape: tuple[int, int]) -> Matrix | None:
    """Return a matrix of this shape. None: the value is no such matrix."""
    if not isinstance(value, list) or len(value) != shape[0]:
        return None
    if not all(are_numbers(line, shape[1]) for line in value):
        return None
    return np.array(value, np.float64)


def rigid(row: Mapping[str, Any], key: str, where: str) -> Matrix:
    """Return a 4 x 4 transform that turns and moves, and does nothing else."""
    matrix = matrix_of(row[key], (4, 4))
    if (
        matrix is None
        or tuple(matrix[3]) != (0, 0, 0, 1)
        or not np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-4)
        or np.linalg.det(matrix[:3, :3]) < 0
    ):
        raise InputError(f"{where}: {key} is {row[key]!r}. Give a 4 x 4 rotation with translation.")
    return matrix


def check_keys(row: Any, known: set[str], needed: set[str], where: str) -> None:
    """Raise InputError unless the value is an object with these keys."""
    if not isinstance(row, dict):
        keys = ", ".join(sorted(needed or known))
        raise InputError(f"{where} is {row!r}. Make it an object with {keys}.")
    if lost := sorted(needed - row.keys()):
        raise InputError(f"{where}: has no {', '.join(lost)}. Add what is missing.")
    if unknown := sorted(row.keys() - known):
        raise InputError(
            f"{where}: has {', '.join(unknown)}. Known are {', '.join(sorted(known))}."
        )
