"""Evaluate: the official score of a checkpoint, as its backbone prunes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from sparsevit3d.backbone import backbone_of
from sparsevit3d.files import write_json
from sparsevit3d.stages.checkpoints import load_weights, read_state
from sparsevit3d.stages.config import use_split
from sparsevit3d.stages.provenance import claim, write_provenance
from sparsevit3d.stages.runner import build_runner, join_processes
from sparsevit3d.stages.scoring import all_scores
from sparsevit3d.swin.plan import SparsityPlan


class Evaluator:
    """A loaded detector and a split. Call it with a plan, as often as needed.

    Without a plan, the plan that the checkpoint carries is used.

    Args:
        config (Config): The experiment, with its data.
        checkpoint (Path): The detector's weights and plan.
        split (str): The split to score on.
        work_dir (Path): Where the log goes.
        results (Path or None): Where to keep the submission. None: nowhere. Default: None.
    """

    def __init__(
        self,
        config: Config,
        checkpoint: Path,
        split: str,
        work_dir: Path,
        results: Path | None = None,
    ) -> None:
        config = copy.deepcopy(config)
        use_split(config, split)
        config.custom_hooks = []  # testing is quick, and the caller shows a bar
        config.test_evaluator.results = str(results) if results else None
        for training in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
            config.pop(training)
        self.runner: Runner = build_runner(config, work_dir)
        load_weights(self.runner.model, checkpoint)
        self.net = backbone_of(self.runner.model)
        self.own_plan = self.net.plan

    def __call__(self, plan: SparsityPlan | None = None) -> dict[str, Any]:
        """Score mAP, NDS, the five errors and AP by class. None: the truth does not define it."""
        self.net.plan = plan or self.own_plan
        return all_scores(self.runner.cfg.classes, self.runner.test())


def evaluate(
    config: Config, checkpoint: Path, split: str, work_dir: Path, plan: SparsityPlan | None
) -> dict[str, Any]:
    """Score a checkpoint on ``split``, under ``plan`` or the checkpoint's own.

    Writes ``score.json`` and ``results_nusc.json`` to ``work_dir``. Under torchrun each process
    looks at its share of the images.
    """
    join_processes()
    read_state(checkpoint)  # a mistake is told before a folder is made
    if is_main_process():
        claim(work_dir, {"stage": "eval"})
    evaluator = Evaluator(config, checkpoint, split, work_dir, work_dir / "results_nusc.json")
    if is_main_process():
        write_provenance(
            work_dir, config, stage="eval", checkpoint=checkpoint, split=split, plan=plan
        )
    metrics = evaluator(plan)
    what = {
        "split": split,
        "checkpoint": str(checkpoint),
        "plan": str(evaluator.net.plan or "dense"),
    }
    how = {"flip": bool(config.model.test_cfg.get("flip")), "image_size": list(config.image_size)}
    score = what | how | metrics
    if is_main_process():
        write_json(work_dir / "score.json", score)
    return score
