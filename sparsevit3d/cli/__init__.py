"""The front door: one file for each group of verbs.

Other rooms are opened when a verb is called.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

# By the package that a verb missed: the extra that brings it.
EXTRAS = {
    "imageio": "visualize",
    "jinja2": "visualize",
    "matplotlib": "visualize",
    "shapely": "visualize",
    "skimage": "visualize",
    "pymoo": "search",
    "ray": "ray",
    "submitit": "slurm",
    "rerun": "rerun",
    "pyarrow": "rerun",
    "cv2": "detection",
    "mmcv": "detection",
    "mmdet": "detection",
    "mmdet3d": "detection",
    "mmengine": "detection",
    "nuscenes": "detection",
    "open3d": "detection",
    "PIL": "detection",
    "pyquaternion": "detection",
    "rich": "detection",
    "scipy": "detection",
    "typer": "detection",
}


def main() -> None:
    """Run the console script. Errors that a user can mend are a line, and no traceback."""
    if sys.argv[1:] == ["--version"]:
        print(f"sparsevit3d {version('sparsevit3d')}")
        return
    try:
        from sparsevit3d.cli.app import run

        run()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        print(
            f"error: this needs the package {package}, which is not installed. "
            f"Install it: pip install 'sparsevit3d[{EXTRAS[package]}]'",
            file=sys.stderr,
        )
        raise SystemExit(1) from None
