"""Train the small detector on real roads, Astyx HiRes2019, and score the cars that it finds.

    python -m benchmarks.astyx FRAMES --work-dir work_dirs/astyx

FRAMES is the list of frames of a smaller copy of Astyx, with its own split: 406 frames to learn
from and 140 for val, 896 x 270 pixels. `sparsevit3d data import astyx` reads the original instead,
with another split. Of the 406 frames, 50 are the split `search`, so 356 are trained on.

Each arm is one training, from nothing or from the detector of made streets in zoo/first/. The file
of results has the AP of cars at each of the devkit's distances, and the AP on val over the epochs.
Killed, the same command goes on. One core takes some 55 s for an epoch at 640 x 192.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.detection.data_classes import DetectionBox

from data_tools.convert import write_infos
from data_tools.imports.astyx import CLASSES
from data_tools.imports.frames import parse_frames
from data_tools.imports.root import VERSION, write_root
from sparsevit3d.devices import device_name
from sparsevit3d.files import write_json
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.evaluate import evaluate
from sparsevit3d.stages.scoring import Truth, open_root
from sparsevit3d.stages.train import train
from visualize.astyx import save_curves

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs/fcos3d_small_astyx.py"
STREETS = ROOT / "zoo/first/dense.safetensors"
SPLITS = ("train", "search", "val")


@dataclass(frozen=True)
class Arm:
    """One training.

    Args:
        name (str): How tables call it.
        from_streets (bool): Whether it starts from the detector of made streets.
        epochs (int): Its length.
        options (tuple of str): What else differs from the config, as for --set.
        without (tuple of str): Steps left out of the training pipeline, by type.
    """

    name: str
    from_streets: bool
    epochs: int
    options: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


ARMS = {
    "scratch": Arm("from nothing, 60 epochs", False, 60),
    "from_streets": Arm("from made streets, 40 epochs", True, 40),
    "short": Arm("from made streets, 8 epochs", True, 8),
    "small": Arm("the same at 512 x 160", True, 8, ("image_size=[512,160]",)),
    "no_colours": Arm("the same, colours unchanged", True, 8, (), ("mmdet.PhotoMetricDistortion",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frames", type=Path, help="frames.json of the smaller copy")
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--arms", default=",".join(ARMS), help=f"Of {', '.join(ARMS)}")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/astyx.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    root = make_root(arguments.frames, arguments.work_dir / "data")
    found = json.loads(arguments.out.read_text())["arms"] if arguments.out.is_file() else {}
    for name in arguments.arms.split(","):
        found[name] = run(ARMS[name], root, arguments.work_dir / name)
        document = {
            "command": "python -m benchmarks.astyx FRAMES --work-dir DIR",
            "machine": device_name("cpu"),
            "torch": torch.__version__,
            "keyframes": {split: len(_samples(root, split)) for split in SPLITS},
            "arms": found,
        }
        write_json(arguments.out, document)
    save_curves(found, ROOT / "docs/astyx.png")


def make_root(frames: Path, root: Path) -> Path:
    """Make a nuScenes root of the smaller copy, unless an earlier call did."""
    if not (root / VERSION).is_dir():
        rows = [_frame(row) for row in json.loads(frames.read_text())]
        document = {"cameras": {"front": {}}, "frames": rows}
        write_root(parse_frames(document, frames.parent, str(frames)), root)
        write_infos(root, VERSION, SPLITS)
    return root


def _frame(row: dict[str, Any]) -> dict[str, Any]:
    """Translate one entry of the smaller copy's list."""
    shown = [each for each in row["objects"] if each["classname"] in CLASSES and each["bbox2d"]]
    return {
        "images": {"front": {"file": row["file"], "intrinsic": row["K"]}},
        "scene": f"astyx-{row['id']}",
        "split": row["split"],
        "objects": [
            {
                "class": CLASSES[each["classname"]],
                "center": each["center_cam"],
                "size": each["dims_lwh"],
                "yaw": each["yaw_cam"],
            }
            for each in shown
        ],
    }


def run(arm: Arm, root: Path, work_dir: Path) -> dict[str, Any]:
    """Train an arm, as far as an earlier call left it, and score it on val."""
    options = (f"train_cfg.max_epochs={arm.epochs}", *arm.options)
    config = load_config(CONFIG, root, None, options, "depth" if arm.from_streets else None)
    steps = config.train_dataloader.dataset.pipeline
    config.train_dataloader.dataset.pipeline = [s for s in steps if s.type not in arm.without]
    checkpoint = train(config, work_dir, STREETS if arm.from_streets else None)
    folder = work_dir / "eval_val"
    score = evaluate(config, checkpoint, "val", folder, None)
    return {
        **asdict(arm),
        "image_size": list(config.image_size),
        "AP_of_cars": score["AP/car"],
        "AP_at_metres": by_distance(folder / "results_nusc.json", root, config),
        "errors": {name: score[name] for name in ("mATE", "mASE", "mAOE")},
        "curve": curve(work_dir),
    }


def by_distance(results: Path, root: Path, config: Config) -> dict[str, float]:
    """Return the AP of cars at each of the devkit's distances, in metres."""
    truth = Truth(open_root(str(root), VERSION), _samples(root, "val"), config.classes)
    boxes = json.loads(results.read_text())["results"]
    metrics = truth.metrics(EvalBoxes.deserialize(boxes, DetectionBox))
    return {str(far): metrics.get_label_ap("car", far) for far in truth.config.dist_ths}


def _samples(root: Path, split: str) -> Sequence[str]:
    infos = json.loads((root / f"nuscenes_infos_{split}.json").read_text())
    return [row["token"] for row in infos["data_list"]]


def curve(work_dir: Path) -> list[tuple[int, float]]:
    """Return the epochs after which the detector was scored, and the AP of cars then."""
    logs = sorted(work_dir.glob("*/vis_data/scalars.json"))
    rows = [json.loads(line) for path in logs for line in path.read_text().splitlines()]
    scored = {row["step"]: row["AP/car"] for row in rows if "AP/car" in row}
    return sorted(scored.items())


if __name__ == "__main__":
    main()
