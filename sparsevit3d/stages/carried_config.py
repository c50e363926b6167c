"""The config beside a checkpoint, read as data.

Weights travel with the ``config.py`` that training wrote. Whoever gets them from someone else has
not read this file, so it is never run. It may hold plain values alone, and build only what this
package's own detectors are made of.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmdet3d.utils import register_all_modules
from mmengine.config import Config

from data_tools.images import ImageError
from sparsevit3d.errors import InputError, first_line
from sparsevit3d.stages.config import dicts_in, fit_image_size, read_config

# A config that is part of this repository is run, as the rest of the repository is.
ZOO = Path(__file__).parents[2] / "zoo"
OWN = (ZOO / "config.py", ZOO / "first/config.py")
# Classes that a carried config may build.
KNOWN = frozenset(
    (
        "CrossEntropyLoss",
        "Det3DDataPreprocessor",
        "FCOS3DBBoxCoder",
        "FCOSMono3DHead",
        "FPN",
        "FitCamera",
        "FocalLoss",
        "KnownSmoothL1Loss",
        "LN2d",
        "LoadCalibratedImage",
        "PGDBBoxCoder",
        "PGDHead",
        "Pack3DDetInputs",
        "RayPreprocessor",
        "SmoothL1Loss",
        "SparseFCOS3D",
        "SparseSwin",
        "TowerNormHead",
    )
)
# What wrong values of a config make mmdet3d and torch raise.
BAD_VALUES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
SCOPES = ("mmdet.", "mmdet3d.")


def config_beside(checkpoint: Path) -> Config:
    """Read the config that training left beside ``checkpoint``, and run none of it.

    Raises InputError if there is none, or if it holds more than data.
    """
    path = checkpoint.with_name("config.py")
    if not path.is_file():
        raise InputError(
            f"{checkpoint}: has no config.py beside it. Name its experiment with --config."
        )
    if path.resolve() in OWN:
        return read_config(path)
    values = _literals(path)
    register_all_modules(init_default_scope=True)  # so that the names in configs mean something
    try:
        config = Config(values)
        for part in dicts_in([config.model, config.test_dataloader.dataset.pipeline]):
            part.pop("init_cfg", None)  # the weights are the checkpoint's
            if not _is_known(part):
                kind = part.get("type")
                raise _no_data(path, f"builds {kind!r}, which no detector of ours has")
        fit_image_size(config, path)
    except InputError:
        raise
    except BAD_VALUES as error:
        raise _no_data(path, f"lacks values of a detector ({error})") from error
    return config


@contextmanager
def blame_config(checkpoint: Path) -> Iterator[None]:
    """Turn errors of the block into an InputError that names the config beside ``checkpoint``.

    Its values can be wrong in more ways than can be listed. They show when a detector is built, or
    runs for the first time.
    """
    try:
        yield
    except (ImageError, torch.OutOfMemoryError):
        raise
    except BAD_VALUES as error:
        path = checkpoint.with_name("config.py")
        raise InputError(
            f"{path}: describes no detector that runs ({first_line(error)}). Name the experiment "
            "with --config."
        ) from error


def _is_known(part: dict[str, Any]) -> bool:
    """Whether ``part`` builds nothing, or one of our classes as mmengine finds it by name."""
    if "type" not in part:
        return True
    names = {f"{scope}{name}" for scope in ("", *SCOPES) for name in KNOWN}
    return "_scope_" not in part and part["type"] in names


def _literals(path: Path) -> dict[str, Any]:
    """Read the values that a file assigns to names."""
    values: dict[str, Any] = {}
    try:
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    values[name] = _literal(value)
                case ast.Expr(value=ast.Constant()):  # a docstring
                    pass
                case _:
                    raise _no_data(path, f"line {statement.lineno} does more than set a value")
    except _NotLiteral as error:
        raise _no_data(path, f"line {error} computes a value") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise _no_data(path, f"is not Python ({error})") from error
    return values


class _NotLiteral(Exception):
    """An expression that is no plain value. Its text is the line."""


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items):
            return [_literal(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_literal(item) for item in items)
        case ast.Dict(keys=keys, values=items):
            return {_key(key): _literal(item) for key, item in zip(keys, items, strict=True)}
        case ast.Call(func=ast.Name(id="dict"), args=args, keywords=keywords):
            merged: dict[Any, Any] = {}
            for arg in args:
                merged.update(_literal(arg) if isinstance(arg, ast.Dict) else _refuse(arg))
            merged.update({_name(keyword): _literal(keyword.value) for keyword in keywords})
            return merged
    return _refuse(node)


def _key(node: ast.expr | None) -> Any:
    if not isinstance(node, ast.Constant):
        raise _NotLiteral(getattr(node, "lineno", "?"))
    return node.value


def _name(keyword: ast.keyword) -> str:
    if keyword.arg is None:  # **more
        raise _NotLiteral(keyword.lineno)
    return keyword.arg


def _refuse(node: ast.expr) -> Any:
    raise _NotLiteral(node.lineno)


def _no_data(path: Path, what: str) -> InputError:
    return InputError(
        f"{path}: {what}, so it is not the config that training writes and it is not run. "
        f"If you trust it, say --config {path}."
    )
