"""The study's models, to be given away: weights in half precision, config, plan and the score of just these files on ``val``.

    python -m benchmarks.accuracy.zoo --work-dir work_dirs/accuracy --out zoo

Once the arms that it names are done. `sparsevit3d eval zoo/dense/config.py zoo/dense/model.safetensors --data work_dirs/accuracy/data` gives the same
score on the same machine with as many threads.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.accuracy.results import SPLIT, finetuned_of
from benchmarks.accuracy.room import Room
from benchmarks.accuracy.steps import Adapted, Finetuned, checkpoint_of, plan_of
from benchmarks.accuracy.study import Study
from sparsevit3d.plan import SparsityPlan
from sparsevit3d.stages.checkpoints import save_weights
from sparsevit3d.stages.evaluate import Evaluator
from sparsevit3d.stages.experiment import read_config
from sparsevit3d.stages.files import fingerprint, write_json
from sparsevit3d.terminal import console

ARMS = {"dense": "dense", "pruned_56": "SparseViT", "pruned_42": "SparseViT, 42%"}
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.zoo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work-dir", type=Path, required=True, help="the study's")
    parser.add_argument("--study", type=Path, default=Path(__file__).parent / "study.toml")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "zoo")
    arguments = parser.parse_args()
    room = Room(Study.load(arguments.study), arguments.work_dir)
    steps: dict[str, Finetuned | Adapted] = {name: finetuned_of(room, room.study.arm(arm), SEED) for name, arm in ARMS.items()}
    pruned = steps["pruned_56"]
    assert isinstance(pruned, Finetuned)
    plan = plan_of(room, pruned)
    steps["adapted"] = pruned.adapted
    for name, step in steps.items():
        give_away(room, step, plan if name == "adapted" else None, arguments.out / name)


def give_away(room: Room, step: Finetuned | Adapted, plan: SparsityPlan | None, folder: Path) -> None:
    """``plan``: also scored under; None: only under its own."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model.safetensors"
    save_weights(checkpoint_of(room, step), weights)
    own = step if isinstance(step, Adapted) else step.adapted
    read_config(room.study.config, (*room.study.options, f"image_size={list(own.size)}")).dump(str(folder / "config.py"))
    evaluator = Evaluator(own.config(room), weights, SPLIT, room.folder / "zoo" / folder.name)
    scores = {str(plan or evaluator.own_plan or "dense"): evaluator(plan) for plan in ([None, plan] if plan else [None])}
    if isinstance(step, Finetuned) and step.plan is not None:
        found = json.loads((room.folder / step.plan.product).read_text())
        found["weights"]["path"] = "zoo/adapted/model.safetensors"
        found["data"]["root"] = "data/standard"
        write_json(folder / "plan.json", found)
    document = {
        "split": SPLIT,
        "data": asdict(room.study.data),
        "epochs": room.study.epochs,
        "seed": SEED,
        "sha256": fingerprint(weights),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "scores": scores,
    }
    write_json(folder / "score.json", document)
    console.print(f"{weights}: " + ", ".join(f"mAP {score['mAP']:.4f} under {plan}" for plan, score in scores.items()))


if __name__ == "__main__":
    main()
