"""Where results came from, and whose a work dir is.

Recorded is what ran, on which machine, and from which files.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from sparsevit3d.errors import InputError
from sparsevit3d.files import (
    differences,
    fingerprint,
    parse_object,
    read_json,
    read_or_drop,
    write_json,
    write_text,
)
from sparsevit3d.swin.plan import SparsityPlan

PACKAGES = ("torch", "mmengine", "mmcv", "mmdet", "mmdet3d", "nuscenes-devkit", "numpy")
REQUEST = "request.json"  # in a work dir: whose the work dir is
# Keys of a config that say where files lie. They are no part of what the experiment is.
PLACES = ("data_root", "ann_file", "work_dir")


def write_provenance(work_dir: Path, config: Config, **facts: Any) -> None:
    """Write ``config.py`` and ``provenance.json``: what ran, on which machine, from which files."""
    work_dir.mkdir(parents=True, exist_ok=True)
    write_text(work_dir / "config.py", config.pretty_text)
    run = {
        "command": sys.argv,
        "started": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
    }
    path = work_dir / "provenance.json"
    earlier = read_or_drop(path, "The runs that it listed are lost.", _runs) or []
    document = {
        "runs": [*earlier, run],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "data": config.data_root,
        "seed": config.randomness.seed,
        **{key: _described(value) for key, value in facts.items()},
    }
    write_json(path, document)


def claim(work_dir: Path, request: dict[str, Any]) -> None:
    """Make ``work_dir`` this request's.

    Raises InputError where the folder holds the results of another request, because going on would
    mix the two. The message names what differs.
    """
    request = json.loads(json.dumps(request))
    found = claimed_by(work_dir)
    if found is not None and (changed := differences(found, request)):
        raise InputError(
            f"{work_dir}: holds another experiment ({changed}). Use another --work-dir or remove "
            "the folder."
        )
    work_dir.mkdir(parents=True, exist_ok=True)
    write_json(work_dir / REQUEST, request)


def request_of(work_dir: Path) -> str | None:
    """Return the fingerprint of the request that ``work_dir`` belongs to. None: it is free."""
    marker = work_dir / REQUEST
    return fingerprint(marker) if marker.exists() else None


def claimed_by(work_dir: Path) -> dict[str, Any] | None:
    """Return the request that ``work_dir`` belongs to. None: it is free.

    Raises InputError where the file that says so is damaged.
    """
    marker = work_dir / REQUEST
    if not marker.exists():
        return None
    remedy = f"Use another --work-dir, or remove {work_dir} if you need nothing in it."
    found: dict[str, Any] = read_json(marker, remedy)
    return found


def unclaim(work_dir: Path) -> None:
    """Make ``work_dir`` free, as after an attempt that left nothing of use."""
    (work_dir / REQUEST).unlink(missing_ok=True)


def experiment_of(config: Config, besides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Describe an experiment in plain data: equal for equal experiments, wherever files lie.

    Keys named in ``besides`` are left out as well.
    """
    plain = json.loads(json.dumps(config.to_dict(), default=str))
    return dict(_without(plain, (*PLACES, *besides)))


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, names) for key, item in value.items() if key not in names}
    return [_without(item, names) for item in value] if isinstance(value, list) else value


def _runs(text: bytes) -> list[Any]:
    runs = parse_object(text)["runs"]
    if not isinstance(runs, list):
        raise ValueError("its runs are no list")
    return runs


def _described(value: Any) -> Any:
    if isinstance(value, Path):
        return {"path": str(value), "sha256": fingerprint(value)}
    return str(value) if isinstance(value, SparsityPlan) else value


def _commit() -> str | None:
    here = Path(__file__).parent
    answer = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None
