"""Evaluate: the official score of a checkpoint, as its backbone prunes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from sparsevit3d.backbone import backbone_of
from sparsevit3d.files import fingerprint, write_json
from sparsevit3d.stages.checkpoints import load_weights, read_state
from sparsevit3d.stages.config import info_file, use_split
from sparsevit3d.stages.provenance import (
    claim,
    claimed_by,
    experiment_of,
    unclaim,
    write_provenance,
)
from sparsevit3d.stages.runner import build_runner, join_processes
from sparsevit3d.stages.scoring import all_scores
from sparsevit3d.swin.plan import SparsityPlan, plan_of_state

SCORE = "score.json"
DENSE = "dense"


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
    config: Config,
    checkpoint: Path,
    split: str,
    work_dir: Path | None,
    plan: SparsityPlan | None,
) -> dict[str, Any]:
    """Score a checkpoint on ``split``, under ``plan`` or the checkpoint's own.

    Writes ``score.json`` and ``results_nusc.json`` to ``work_dir``. None: to the folder that
    ``score_folder`` names. Under torchrun each process looks at its share of the images.

    Raises InputError where the folder holds the score of something else.
    """
    join_processes()
    own = _own_plan(checkpoint)  # a mistake is told before a folder is made
    chosen = _in_words(plan) or own or _in_words(config.model.backbone.get("plan")) or DENSE
    flip = bool(config.model.test_cfg.get("flip"))
    if work_dir is None:
        other = None if chosen == (own or DENSE) else chosen
        work_dir = score_folder(checkpoint, split, flip, other)
    if is_main_process():
        question = {"plan": chosen, "split": split, "flip": flip}
        _claim(work_dir, _request(config, checkpoint, question))
    evaluator = Evaluator(config, checkpoint, split, work_dir, work_dir / "results_nusc.json")
    if is_main_process():
        write_provenance(
            work_dir, config, stage="eval", checkpoint=checkpoint, split=split, plan=plan
        )
    metrics = evaluator(plan)
    what = {
        "split": split,
        "checkpoint": str(checkpoint),
        "plan": str(evaluator.net.plan or DENSE),
    }
    how = {"flip": flip, "image_size": list(config.image_size)}
    score = what | how | metrics
    if is_main_process():
        write_json(work_dir / SCORE, score)
    return score


def score_folder(checkpoint: Path, split: str, flip: bool, plan: str | None) -> Path:
    """Name a folder of its own for each score of a checkpoint, beside the checkpoint.

    ``plan`` is the text of a plan other than the checkpoint's own. None: the checkpoint's own.
    """
    folder = checkpoint.with_name(f"eval_{split}{'_flip' if flip else ''}")
    suffix = "" if plan is None else f"_plan_{plan.translate(str.maketrans('|,:', '_--'))}"
    return folder / f"{checkpoint.stem}{suffix}"


def _own_plan(checkpoint: Path) -> str | None:
    """The text of the plan that a checkpoint carries. None: dense."""
    state = read_state(checkpoint).get("backbone._extra_state")
    return None if state is None else _in_words(plan_of_state(state))


def _in_words(plan: SparsityPlan | str | None) -> str | None:
    """One text for each plan, however it is given. None: no plan is given."""
    if plan is None:
        return None
    plan = SparsityPlan.parse(plan) if isinstance(plan, str) else plan
    return DENSE if plan.is_dense else str(plan)


def _request(config: Config, checkpoint: Path, question: dict[str, Any]) -> dict[str, Any]:
    """All that a score follows from, in plain data."""
    config = copy.deepcopy(config)
    use_split(config, question["split"])
    config.model.test_cfg.pop("flip", None)  # the question has it
    experiment = experiment_of(config)
    return {
        "stage": "eval",
        "checkpoint": fingerprint(checkpoint),
        **question,
        "data": fingerprint(info_file(config.test_evaluator)),
        "model": experiment["model"],
        "images": experiment["test_dataloader"]["dataset"],
    }


def _claim(work_dir: Path, request: dict[str, Any]) -> None:
    """Make ``work_dir`` this request's, as also where an earlier attempt left no score."""
    found = claimed_by(work_dir)
    if found is not None and found.get("stage") == "eval" and not (work_dir / SCORE).exists():
        unclaim(work_dir)
    claim(work_dir, request)
