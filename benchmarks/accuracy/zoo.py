"""Publish the study's models: weights in half precision, plans, and the scores of these files.

    python -m benchmarks.accuracy.zoo --work-dir work_dirs/accuracy

Run the command once the arms that it names are done. All models have one config: `sparsevit3d eval
zoo/config.py zoo/dense.safetensors --data ROOT`.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from os.path import relpath
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.results import SPLIT, finetuned_of
from benchmarks.accuracy.steps import Searched, checkpoint_of
from benchmarks.accuracy.study import ROOT, Study
from benchmarks.accuracy.workspace import Step, Workspace, machine
from data_tools.convert import write_infos
from data_tools.synthetic.dataset import VERSION, make_dataset
from sparsevit3d.cli.demo import STREETS
from sparsevit3d.files import fingerprint, read_json, write_json, write_text
from sparsevit3d.processes import usual_workers
from sparsevit3d.stages.checkpoints import WEIGHTS, save_weights
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.evaluate import Evaluator
from sparsevit3d.terminal import console

CONFIG = '"""The zoo\'s detectors."""\n\n_base_ = "{}"\n'
ARMS = {"dense": "dense", "pruned_56": "SparseViT", "pruned_42": "SparseViT, 42%"}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.zoo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work-dir", type=Path, required=True, help="the study's")
    parser.add_argument(
        "--study",
        type=Path,
        default=Path(__file__).parent / "first_study.toml",
        help="what was compared",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "zoo")
    arguments = parser.parse_args()
    workspace = Workspace(Study.load(arguments.study), arguments.work_dir)
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "config.py", CONFIG.format(relpath(workspace.study.config, out)))
    make_dataset(workspace.folder / "streets", STREETS, usual_workers())
    write_infos(workspace.folder / "streets", VERSION, [SPLIT], workers=usual_workers())
    document = {
        "trained on": asdict(workspace.study.data),
        "epochs": workspace.study.epochs,
        "seed": seed_of(workspace),
        "machine": machine(workspace.usual_size).name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "models": {
            name: give_away(workspace, steps, out / f"{name}{WEIGHTS}")
            for name, steps in models(workspace).items()
        },
    }
    write_json(out / "scores.json", document)


def seed_of(workspace: Workspace) -> int:
    """Return the first seed with which all these arms are run."""
    return workspace.study.group_of(workspace.study.arm(ARMS["pruned_42"])).seeds[0]


def models(workspace: Workspace) -> dict[str, tuple[Step, Searched | None]]:
    """Return by name the step that made the weights and the step that found the plan."""
    found: dict[str, tuple[Step, Searched | None]] = {}
    for name, arm in ARMS.items():
        step = finetuned_of(workspace, workspace.study.arm(arm), seed_of(workspace))
        search = step.plan if isinstance(step.plan, Searched) else None
        found[name] = (step, search)
        if search is not None:
            found["adapted"] = (step.adapted, None)  # shared by every plan
    return found


def give_away(
    workspace: Workspace, of: tuple[Step, Searched | None], weights: Path
) -> dict[str, Any]:
    """Write weights with their plan beside them, and return the facts to publish."""
    step, search = of
    save_weights(checkpoint_of(workspace, step), weights)
    if search is not None:
        plan = read_json(workspace.folder / search.product, "Remove it, and search again.")
        plan["weights"]["path"] = Path(plan["weights"]["path"]).name
        plan["data"]["root"] = "data"
        write_json(weights.with_suffix(".plan.json"), plan)
    scores = {}
    for name, data in (("study", workspace.data), ("demo", workspace.folder / "streets")):
        config = load_config(workspace.study.config, data, options=workspace.study.options)
        evaluator = Evaluator(
            config, weights, SPLIT, workspace.folder / "zoo" / f"{weights.stem}_{name}"
        )
        scores[f"{SPLIT} of the {name}"] = evaluator()
    console.print(
        f"{weights}: "
        + ", ".join(f"{name} mAP {score['mAP']:.4f}" for name, score in scores.items())
    )
    return {
        "sha256": fingerprint(weights),
        "plan": str(evaluator.own_plan or "dense"),
        "scores": scores,
    }


if __name__ == "__main__":
    main()
