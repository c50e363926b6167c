"""How fast is an exported file beside the detector itself, dense and pruned?

    python -m benchmarks.export zoo/pruned.safetensors --work-dir work_dirs/export \\
        [--out benchmarks/results/export.json]

The checkpoint is exported to every format that is installed, dense and under its own plan. Files
that are there already are kept. Then all of them and the detector itself take turns on one keyframe
of a made street, from images to boxes, on as many cores as torch has threads. Times are medians of
ROUNDS passes. Both are timed from images in memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import torch

from sparsevit3d.backbone import backbone_of
from sparsevit3d.cost.latency import time_calls
from sparsevit3d.devices import device_name
from sparsevit3d.files import fingerprint, read_json, write_json
from sparsevit3d.stages.export import NEEDS, Format, export
from sparsevit3d.stages.export_check import frames_of, made_frames
from sparsevit3d.stages.exported import ABOUT, Exported
from sparsevit3d.stages.predict import Detector
from sparsevit3d.swin.plan import SparsityPlan

ROUNDS = 15
IMAGES = 6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/export.json"))
    options = parser.parse_args()
    detector = Detector(options.checkpoint)
    detector.model.cpu()
    net = backbone_of(detector.model)
    plans = {"dense": SparsityPlan.uniform(0, net.depths), "pruned": detector.plan}
    contenders: dict[str, Callable[[], Any]] = {}
    rows: dict[str, dict[str, Any]] = {}
    with made_frames(IMAGES) as images:
        frames = frames_of(detector, images)
        for name, plan in plans.items():
            for kind in get_args(Format):
                if not all(map(find_spec, NEEDS[kind])):
                    continue
                folder = options.work_dir / f"{kind}_{name}"
                about = folder / ABOUT
                known = read_json(about, "Remove it.") if about.exists() else {}
                if known.get("weights") != fingerprint(options.checkpoint):
                    detector.plan = plan
                    export(detector, folder, kind, frames)
                file = Exported(folder)
                key = f"{kind}, {name}"
                rows[key] = {"differences": file.about["differences"]}
                contenders[key] = partial(file, frames.images, frames.cameras)
        net.budget = detector.config.model.backbone.get("budget", "image")
        for name, plan in plans.items():
            rows[f"detector, {name}"] = {}
            contenders[f"detector, {name}"] = partial(_pass, detector, plan, frames.batch)
        for name, one in time_calls(contenders, frames.cameras, ROUNDS, 2).items():
            rows[name]["p50_ms"] = round(one.p50_ms, 1)
            print(f"{name}: {one.p50_ms:.1f} ms")
    document = {
        "machine": device_name(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "plan": str(plans["pruned"]),
        "shape": [*frames.images.shape],
        "contenders": rows,
    }
    write_json(options.out, document)


def _pass(detector: Detector, plan: SparsityPlan | None, batch: dict[str, Any]) -> None:
    detector.plan = plan
    detector.model.test_step(batch)


if __name__ == "__main__":
    main()
