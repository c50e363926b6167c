"""Train, adapt, finetune: the same loop, told apart by the plan that an iteration runs under."""

from __future__ import annotations

import json
from pathlib import Path

from mmengine.config import Config

from sparsevit3d.plan import SparsityPlan
from sparsevit3d.stages.experiment import ExperimentError, build_runner, read_checkpoint, write_provenance
from sparsevit3d.stages.files import write_json
from sparsevit3d.stages.hooks import list_checkpoints


def train(config: Config, work_dir: Path) -> Path:
    """Train the dense detector from scratch; returns the checkpoint."""
    return _run(config, work_dir, "train", None)


def adapt(config: Config, work_dir: Path, weights: Path) -> Path:
    """Sparsity-aware adaptation (section 3.3) of ``weights``: a random plan each iteration; returns the checkpoint, which is dense."""
    config.custom_hooks.append({"type": "RandomPlanHook", "seed": config.randomness.seed})
    return _run(config, work_dir, "adapt", weights)


def finetune(config: Config, work_dir: Path, weights: Path, plan: SparsityPlan) -> Path:
    """Train ``weights`` on under one plan; returns the checkpoint, which carries the plan."""
    config.custom_hooks.append({"type": "FixedPlanHook", "plan": str(plan)})
    return _run(config, work_dir, "finetune", weights, plan)


def _run(config: Config, work_dir: Path, stage: str, weights: Path | None, plan: SparsityPlan | None = None) -> Path:
    """Run a stage to its end, from where it stopped if it has run before. A finished stage returns at once."""
    if weights is not None:
        read_checkpoint(weights)
    request = {"stage": stage, "config": config.pretty_text, "weights": str(weights), "plan": str(plan)}
    _claim(work_dir, request)
    done = list_checkpoints(work_dir)
    if not done or _epoch(done[-1]) < config.train_cfg.max_epochs:
        write_provenance(work_dir, config, stage=stage, weights=weights, plan=plan)
        runner = build_runner(config, work_dir, done[-1] if done else weights, resume=bool(done))
        runner.train()
        done = list_checkpoints(work_dir)
    return done[-1]


def _claim(work_dir: Path, request: dict[str, str]) -> None:
    """Refuse a work dir that another experiment has begun: resuming would mix the two."""
    marker = work_dir / "request.json"
    if marker.exists():
        found = json.loads(marker.read_text())
        changed = [key for key in request if found.get(key) != request[key]]
        if changed:
            raise ExperimentError(
                f"{work_dir}: holds another experiment (its {' and '.join(changed)} differ); use another --work-dir or remove it"
            )
    work_dir.mkdir(parents=True, exist_ok=True)
    write_json(marker, request)


def _epoch(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("epoch_"))
