"""Publish the study's models: weights in half precision, and the scores of these files.

    python -m benchmarks.accuracy.zoo --work-dir work_dirs/accuracy

Run the command once the arms are done that the study's [zoo] names. All models have one config:
`sparsevit3d eval zoo/config.py zoo/dense.safetensors --data ROOT`.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from os.path import relpath
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.results import SPLIT, finetuned_of
from benchmarks.accuracy.steps import checkpoint_of
from benchmarks.accuracy.study import ROOT, Study
from benchmarks.accuracy.workspace import Workspace, machine
from data_tools.convert import write_infos
from data_tools.synthetic.dataset import VERSION, make_dataset
from sparsevit3d.cli.demo import STREETS
from sparsevit3d.files import fingerprint, write_json, write_text
from sparsevit3d.processes import usual_workers
from sparsevit3d.stages.checkpoints import WEIGHTS, save_weights
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.evaluate import Evaluator
from sparsevit3d.terminal import console

CONFIG = '"""The zoo\'s detectors."""\n\n_base_ = "{}"\n'


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
        default=Path(__file__).parent / "study.toml",
        help="what was compared",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "zoo")
    arguments = parser.parse_args()
    workspace = Workspace(Study.load(arguments.study), arguments.work_dir)
    study = workspace.study
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "config.py").exists():
        write_text(out / "config.py", CONFIG.format(relpath(study.config, out)))
    make_dataset(workspace.folder / "streets", STREETS, usual_workers())
    write_infos(workspace.folder / "streets", VERSION, [SPLIT], workers=usual_workers())
    document = {
        "trained on": asdict(study.data),
        "epochs": study.epochs,
        "machine": machine(workspace.usual_size).name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "models": {
            name: give_away(workspace, arm, out / f"{name}{WEIGHTS}")
            for name, arm in study.zoo.items()
        },
    }
    write_json(out / "scores.json", document)


def give_away(workspace: Workspace, name: str, weights: Path) -> dict[str, Any]:
    """Write the weights of an arm's first seed, with their plan. Returns the facts to publish."""
    study = workspace.study
    arm = study.arm(name)
    seed = study.group_of(arm).seeds[0]
    save_weights(checkpoint_of(workspace, finetuned_of(workspace, arm, seed)), weights)
    scores = {}
    for place, data in (("study", workspace.data), ("demo", workspace.folder / "streets")):
        config = load_config(study.config, data, options=study.options)
        folder = workspace.folder / "zoo" / f"{weights.stem}_{place}"
        evaluator = Evaluator(config, weights, SPLIT, folder)
        scores[f"{SPLIT} of the {place}"] = evaluator()
    console.print(
        f"{weights}: "
        + ", ".join(f"{place} mAP {score['mAP']:.4f}" for place, score in scores.items())
    )
    return {
        "seed": seed,
        "sha256": fingerprint(weights),
        "plan": str(evaluator.own_plan or "dense"),
        "scores": scores,
    }


if __name__ == "__main__":
    main()
