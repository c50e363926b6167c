"""Train a dense detector for longer than the first study did, and a pruned one beside it.

    sparsevit3d data synth data/standard --preset standard --seed 20 \\
        --scenes 300 40 200 --size 640 360
    sparsevit3d data synth data/more --preset standard --seed 21 --scenes 600 1 1 --size 640 360
    sparsevit3d data infos data/standard
    sparsevit3d data infos data/more
    python -m benchmarks.base dense data/standard data/more --from zoo/dense.safetensors \\
        --work-dir work_dirs/base
    python -m benchmarks.base pruned data/standard data/more --work-dir work_dirs/base

The detector is that of configs/fcos3d_small_512x192_carry.py. It begins with the weights of the
first study. Its head loses the group norms that it no longer has. Then everything learns on: four
passes over the streets of the first root, four over those of the second one, where images of seldom
classes come twice. Images are mirrored at random, and depth counts twice as much.

"pruned" shares all passes with "dense" but the last two, which it learns under a plan. So it can
run as soon as the second pass over the second root is done. Scores are of the first root's val.
Killed, the same command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks.heads import TOWERS, converted
from sparsevit3d.files import write_json
from sparsevit3d.stages.checkpoints import checkpoint_name
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.evaluate import evaluate
from sparsevit3d.stages.train import finetune, train
from sparsevit3d.swin.plan import SparsityPlan

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs/fcos3d_small_512x192_carry.py"
PLAN = "0.8|0.8|0.6|0.4"
FLIP = {"type": "mmdet3d.RandomFlip3D", "flip_ratio_bev_horizontal": 0.5}
WARM_UP = {"type": "LinearLR", "start_factor": 0.02, "by_epoch": False, "end": 200}
COSINE = {
    "type": "CosineAnnealingLR",
    "by_epoch": True,
    "convert_to_iter_based": True,
    "eta_min_ratio": 0.01,
}
PASSES = (4, 4)  # over the first root, over the second one
UNDER_PLAN = 2  # passes of "pruned", at the end
RATE = 3e-4  # of its steps under the plan, at first
SELDOM = 0.2  # of the images show a class
DEPTH = 2  # the place of depth among the code weights
DEPTH_WEIGHT = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("dense", "pruned"))
    parser.add_argument("root", type=Path)
    parser.add_argument("more", type=Path)
    parser.add_argument("--from", dest="weights", type=Path, help="for dense: where it begins")
    parser.add_argument("--plan", default=PLAN, help="for pruned")
    parser.add_argument("--work-dir", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights = train_dense(options) if options.what == "dense" else train_pruned(options)
    config = load_config(CONFIG, options.root)
    score = evaluate(config, weights, "val", options.work_dir / f"eval_{options.what}", None)
    write_json(options.work_dir / f"{options.what}.json", score)
    print(f"{weights}: mAP {score['mAP']:.4f}, NDS {score['NDS']:.4f}")


def train_dense(options: Any) -> Path:
    old = load_config(ROOT / "configs/fcos3d_small_512x192.py", options.root)
    weights = converted(old, options.weights, TOWERS, options.work_dir)
    first, second = PASSES
    began = longer(options.root, first, [WARM_UP])
    weights = train(began, options.work_dir / "first", weights)
    return train(balanced(options.more, second, [COSINE]), options.work_dir / "second", weights)


def train_pruned(options: Any) -> Path:
    config = balanced(options.more, UNDER_PLAN, [COSINE])
    config.optim_wrapper.optimizer.lr = RATE
    shared = options.work_dir / "second" / checkpoint_name(PASSES[1] - UNDER_PLAN)
    folder = options.work_dir / "pruned"
    return finetune(config, folder, shared, SparsityPlan.parse(options.plan))


def longer(root: Path, passes: int, schedule: list[dict[str, Any]]) -> Any:
    config = load_config(CONFIG, root)
    config.train_cfg.max_epochs = passes
    config.param_scheduler = schedule
    config.model.train_cfg.code_weight[DEPTH] = DEPTH_WEIGHT
    config.train_dataloader.dataset.pipeline.insert(-1, FLIP)
    return config


def balanced(root: Path, passes: int, schedule: list[dict[str, Any]]) -> Any:
    config = longer(root, passes, schedule)
    config.train_dataloader.dataset.update(type="BalancedKeyframes", oversample_thr=SELDOM)
    return config


if __name__ == "__main__":
    main()
