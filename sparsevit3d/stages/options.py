"""``--set``: change one value of a config, and refuse what cannot run before anything begins."""

from __future__ import annotations

import difflib
import json
import math
from typing import Any, NamedTuple

from sparsevit3d.errors import InputError

MAY_BE_NONE = ("clip_grad", "init_cfg")  # groups of values that can be switched off


class Range(NamedTuple):
    """What a value can be.

    Args:
        least (float): The least value.
        most (float): The greatest value. Default: unbounded.
        open (bool): Whether ``least`` itself is too small. Default: False.
    """

    least: float
    most: float = math.inf
    open: bool = False

    def holds(self, value: float) -> bool:
        above = value > self.least if self.open else value >= self.least
        return above and value <= self.most

    def __str__(self) -> str:
        if self.most < math.inf:
            return f"between {self.least:g} and {self.most:g}"
        return f"greater than {self.least:g}" if self.open else f"at least {self.least:g}"


# By the last part of a value's name.
RANGES = {
    "batch_size": Range(1),
    "drop_path_rate": Range(0, 0.99),
    "interval": Range(1),
    "lr": Range(0, open=True),
    "max_epochs": Range(1),
    "max_norm": Range(0, open=True),
    "max_per_img": Range(1),
    "nms_pre": Range(1),
    "nms_thr": Range(0, 1),
    "num_workers": Range(0),
    "score_thr": Range(0, 1),
    "seed": Range(0, 2**32 - 1),
    "val_interval": Range(1),
    "weight_decay": Range(0),
    "window_size": Range(1),
}


def set_option(tree: dict[str, Any], option: str) -> None:
    """Set ``a.b.c=value`` in the nested dictionaries of a config.

    Only what the config already has can be set, and only to a value of its kind: a number to a
    number in its range, a list to a list. A group of values at the top, such as ``model``, is set
    value by value. Raises InputError otherwise.
    """
    key, separator, text = option.partition("=")
    if not separator:
        raise InputError(f"--set {option}: has no value. Say {option}=VALUE.")
    *parents, last = key.split(".")
    place: Any = tree
    for name in parents:
        place = place.get(name) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place:
        near = difflib.get_close_matches(key, _keys(tree), n=1)
        remedy = f"Did you mean {near[0]}?" if near else "The config file shows what there is."
        raise InputError(f"--set {option}: the config has no {key!r}. {remedy}")
    old = place[last]
    value = _read(text, old)
    if not parents and isinstance(old, dict):
        some = f", such as {key}.{next(iter(old))}" if old else ""
        raise InputError(f"--set {option}: {key} is a group of values. Set one of them{some}.")
    _check(f"--set {option}", key, old, value)
    place[last] = value


def _check(where: str, key: str, old: Any, value: Any) -> None:
    """Raise InputError unless ``value``, and all in it, can take the place of ``old``."""
    name = key.rpartition(".")[2]
    if kind := _other_kind(name, old, value):
        raise InputError(
            f"{where}: {json.dumps(value)} is not {kind}. {key} is {kind}, so far {_short(old)}."
        )
    if name in RANGES and isinstance(value, int | float) and not RANGES[name].holds(value):
        raise InputError(f"{where}: {key} cannot be {value!r}. Give a value {RANGES[name]}.")
    if isinstance(value, dict):
        for each, inner in value.items():
            known = old.get(each) if isinstance(old, dict) else None
            _check(where, f"{key}.{each}", known, inner)


def _read(text: str, old: Any) -> Any:
    """Read a value as JSON, or as it stands where that is text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(old, str) and isinstance(value, int | float) else value


def _other_kind(name: str, old: Any, value: Any) -> str | None:
    """Name the kind of ``old``, if ``value`` is of another."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(old, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(old, int):
        return None if number and isinstance(value, int) else "a whole number"
    if isinstance(old, float):
        return None if number and math.isfinite(value) else "a number"
    if isinstance(old, str):
        return None if isinstance(value, str) else "text"
    if isinstance(old, list | tuple):
        return None if isinstance(value, list) else "a list"
    if isinstance(old, dict):
        optional = name in MAY_BE_NONE and value is None
        return None if optional or isinstance(value, dict) else "a group of values"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return []
    return [
        key
        for name, item in value.items()
        for key in (f"{prefix}{name}", *_keys(item, f"{prefix}{name}."))
    ]
