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
from sparsevit3d.files import fingerprint, write_json, write_text
from sparsevit3d.swin.plan import SparsityPlan

PACKAGES = ("torch", "mmengine", "mmcv", "mmdet", "mmdet3d", "nuscenes-devkit", "numpy")


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
    earlier = json.loads(path.read_text())["runs"] if path.exists() else []
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
    mix the two.
    """
    marker = work_dir / "request.json"
    request = json.loads(json.dumps(request))
    if marker.exists() and (found := json.loads(marker.read_text())) != request:
        changed = sorted(
            key for key in found.keys() | request.keys() if found.get(key) != request.get(key)
        )
        raise InputError(
            f"{work_dir}: holds another experiment (its {' and '.join(changed)} differ); use "
            "another --work-dir or remove it"
        )
    work_dir.mkdir(parents=True, exist_ok=True)
    write_json(marker, request)


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
