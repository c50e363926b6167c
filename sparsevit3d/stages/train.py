"""Train, adapt, finetune: the same loop, told apart by the plan that an iteration runs under."""

from __future__ import annotations

import copy
from pathlib import Path

from mmengine.config import Config

from sparsevit3d.plan import SparsityPlan
from sparsevit3d.stages.checkpoints import list_checkpoints, read_checkpoint
from sparsevit3d.stages.experiment import build_runner, claim, write_provenance
from sparsevit3d.stages.files import fingerprint


def train(config: Config, work_dir: Path) -> Path:
    """Train the dense detector from scratch; returns the checkpoint."""
    return _run(config, work_dir, "train")


def adapt(config: Config, work_dir: Path, weights: Path) -> Path:
    """Sparsity-aware adaptation (section 3.3) of ``weights``: a random plan each iteration; returns the checkpoint, which is dense."""
    return _run(config, work_dir, "adapt", weights)


def finetune(config: Config, work_dir: Path, weights: Path, plan: SparsityPlan) -> Path:
    """Train ``weights`` on under one plan; returns the checkpoint, which carries the plan."""
    plan.check(config.model.backbone.depths)
    return _run(config, work_dir, "finetune", weights, plan)


def _run(config: Config, work_dir: Path, stage: str, weights: Path | None = None, plan: SparsityPlan | None = None) -> Path:
    """Run a stage to its end, from where it stopped if it has run before. A finished stage returns at once."""
    config = copy.deepcopy(config)
    if weights is not None:
        read_checkpoint(weights)
        config.custom_hooks.append({"type": "StartHook", "weights": str(weights), "plan": plan and str(plan)})
    if stage == "adapt":
        config.custom_hooks.append({"type": "RandomPlanHook", "seed": config.randomness.seed})
    request = {"stage": stage, "config": config.pretty_text, "data": fingerprint(Path(config.train_dataloader.dataset.ann_file))}
    if weights is not None:
        request["weights"] = fingerprint(weights)
    done = list_checkpoints(work_dir)
    if not done:
        (work_dir / "request.json").unlink(missing_ok=True)  # claimed, but nothing came of it
    claim(work_dir, request)
    if not done or _epoch(done[-1]) < config.train_cfg.max_epochs:
        write_provenance(work_dir, config, stage=stage, weights=weights, plan=plan)
        build_runner(config, work_dir, resume_from=done[-1] if done else None).train()
        done = list_checkpoints(work_dir)
    return done[-1]


def _epoch(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("epoch_"))
