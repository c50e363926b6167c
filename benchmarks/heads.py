"""Train the demo's detector with other heads: what a norm over one place does to mAP.

    sparsevit3d data synth ROOT --scenes 60 5 20 --size 640 360
    sparsevit3d data infos ROOT
    python -m benchmarks.heads ROOT --work-dir work_dirs/heads

Every arm is configs/fcos3d_small_synthetic.py, six epochs from nothing, with the same seeds and the
same order of images. Scores are of val. Intervals are over scenes and seeds, as in the accuracy
study. Killed, the same command goes on. One core takes some eight minutes for a run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.scenes import examine, interval
from data_tools.info_file import read_infos
from sparsevit3d.devices import device_name
from sparsevit3d.files import write_json
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.evaluate import evaluate
from sparsevit3d.stages.scoring import Truth, open_root
from sparsevit3d.stages.train import train

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs/fcos3d_small_synthetic.py"
LAYER_NORM = {"norm_cfg": {"type": "LN2d"}}
ARMS: dict[str, dict[str, Any]] = {
    "group_norm": {},
    "layer_norm": LAYER_NORM,
    "layer_norm_centerness_by_class": LAYER_NORM | {"centerness_on_reg": False},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/heads.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for seed in options.seeds:
        for name in ARMS:
            folder = options.work_dir / f"{name}_{seed}"
            found[name].append(run(name, seed, options.root, folder))
            document = {
                "command": "python -m benchmarks.heads ROOT --work-dir DIR",
                "machine": device_name("cpu"),
                "torch": torch.__version__,
                "seeds": options.seeds,
                "mAP": {arm: [one["mAP"] for one in rows] for arm, rows in found.items()},
                "points_over_group_norm": {
                    arm: over(rows, found["group_norm"])
                    for arm, rows in found.items()
                    if rows and arm != "group_norm"
                },
            }
            write_json(options.out, document)


def run(name: str, seed: int, root: Path, folder: Path) -> dict[str, Any]:
    """Train one arm with one seed, as far as an earlier call left it, and score it on val."""
    config = load_config(CONFIG, root, None, (f"randomness.seed={seed}",))
    config.model.bbox_head.update(ARMS[name])
    checkpoint = train(config, folder, None)
    score = evaluate(config, checkpoint, "val", folder / "eval_val", None)
    infos = read_infos(root / "nuscenes_infos_val.json")
    tokens = [keyframe["token"] for keyframe in infos.keyframes]
    truth = Truth(open_root(str(root), infos.version), tokens, config.classes)
    examined = examine(truth, folder / "eval_val/results_nusc.json")
    return {"mAP": score["mAP"], "draws": examined["draws"]["mAP"]}


def over(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Mean and 95% interval of the difference, in points of mAP, seed by seed."""
    pairs = list(zip(rows, others, strict=False))
    values = [one["mAP"] - other["mAP"] for one, other in pairs]
    draws = [np.array(one["draws"]) - np.array(other["draws"]) for one, other in pairs]
    return interval(values, draws)


if __name__ == "__main__":
    main()
