"""An experiment: a config with its data, in a work dir that says where it came from."""

from __future__ import annotations

import copy
import difflib
import itertools
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmdet3d.registry import MODELS
from mmdet3d.utils import register_all_modules
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.dist import init_dist
from mmengine.logging import MMLogger
from mmengine.runner import Runner

import sparsevit3d.detector
import sparsevit3d.stages.hooks
import sparsevit3d.stages.submission
import sparsevit3d.transforms  # noqa: F401  registers what configs name
from sparsevit3d.plan import SparsityPlan
from sparsevit3d.stages.checkpoints import load_weights
from sparsevit3d.stages.files import ExperimentError, fingerprint, write_json
from sparsevit3d.stages.hooks import backbone_of

UNBOUNDED = 1e8  # FCOS3D's way to say that a range has no end
PACKAGES = ("torch", "mmengine", "mmcv", "mmdet", "mmdet3d", "nuscenes-devkit", "numpy")

_runners = itertools.count()
MMLogger.get_instance("sparsevit3d", log_level="ERROR")  # until a Runner opens its own log, mmengine's notices go nowhere


def read_config(path: Path, options: Sequence[str] = (), stage: str | None = None) -> Config:
    """Read a config as ``stage`` runs it, with ``options`` such as ``train_cfg.max_epochs=2``.

    What the config's ``stages`` say of this stage overrides the rest of it. What it says once is put where it belongs: ``image_size``
    to every loader and FitCamera, the head's ``regress_ranges`` from the pixels they are given in to the network's, the end of training to the
    schedules by epoch. Raises ExperimentError for a missing file or an option the config does not know.
    """
    if not path.is_file():
        raise ExperimentError(f"{path}: no such config; there are {', '.join(sorted(map(str, Path('configs').glob('*.py'))))}")
    register_all_modules(init_default_scope=True)  # so that the names in configs mean something
    config = Config.fromfile(path)
    if "image_size" not in config:
        raise ExperimentError(f"{path}: sets no image_size, so it is not a nuScenes experiment; its docstring says how to run it")
    stages = config._cfg_dict.pop("stages", {})
    if stage is not None and stage not in stages:
        raise ExperimentError(f"{path}: has no stage {stage!r}; its stages are train{''.join(f', {name}' for name in stages)}")
    if stage is not None:
        config.merge_from_dict(stages[stage])
    for option in options:
        _apply(config, option)
    if not isinstance(config.image_size, list | tuple) or [type(side) for side in config.image_size] != [int, int]:
        raise ExperimentError(f"{path}: image_size is {config.image_size!r}, not [width, height] in pixels")
    width, height = config.image_size
    given_width, given_height = config.regress_ranges_at
    scale = max(width / given_width, height / given_height)  # as FitCamera scales
    head = config.model.bbox_head
    head.regress_ranges = [[side if side in (-1, UNBOUNDED) else side * scale for side in pair] for pair in head.regress_ranges]
    config.regress_ranges_at = (width, height)
    for schedule in config.param_scheduler:
        if schedule.by_epoch:
            schedule.end = config.train_cfg.max_epochs
    for part in _dicts(config._cfg_dict):
        if part.get("type") in ("LoadCalibratedImage", "FitCamera"):
            part.update(width=width, height=height)
    return config


def load_config(
    path: Path, data: Path | None, infos: Path | None = None, options: Sequence[str] = (), stage: str | None = None
) -> Config:
    """A config and its data: ``data`` is the nuScenes root (None: the config's own), ``infos`` the folder of the info files (None:
    the root). For the rest see :func:`read_config`. Raises ExperimentError where there is no such root.
    """
    config = read_config(path, options, stage)
    root = Path(data or config.data_root)
    if not root.is_dir():
        raise ExperimentError(f"{root}: no such dataset; make one with 'sparsevit3d data synth', or say --data ROOT")
    config.data_root = str(root)
    for part in _dicts(config._cfg_dict):
        if "data_root" in part:
            part["data_root"] = str(root)
        if "ann_file" in part:
            part["ann_file"] = str((infos or root).absolute() / Path(part["ann_file"]).name)
            if not part["ann_file"].endswith(".json"):
                raise ExperimentError(
                    f"{part['ann_file']}: info files are read as JSON alone, for to read a pickle is to run it; if you trust its maker: "
                    "sparsevit3d data infos ROOT --splits SPLIT --from FILE --trust-pickle"
                )
    return config


def _dicts(value: Any) -> Iterator[ConfigDict]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _dicts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _dicts(item)


def _apply(config: Config, option: str) -> None:
    """Set ``a.b.c=value``; only what the config already has can be set, and a number only to a number."""
    key, separator, text = option.partition("=")
    *parents, last = key.split(".")
    place: Any = config._cfg_dict
    for name in parents:
        place = place.get(name) if isinstance(place, dict) else None
    if not separator:
        raise ExperimentError(f"--set {option}: has no value; say {option}=VALUE")
    if not isinstance(place, dict) or last not in place:
        near = difflib.get_close_matches(key, _keys(config._cfg_dict), n=1)
        raise ExperimentError(f"--set {option}: the config has no {key!r}" + (f"; did you mean {near[0]}?" if near else ""))
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    old = place[last]
    if isinstance(old, int | float) and not isinstance(value, (int, float) if isinstance(old, float) else type(old)):
        kind = "a number" if isinstance(old, float) else "true or false" if isinstance(old, bool) else "a whole number"
        raise ExperimentError(f"--set {option}: {key} is {kind}, {old!r} so far; {text!r} is none")
    place[last] = value


def _keys(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return []
    return [key for name, item in value.items() for key in (f"{prefix}{name}", *_keys(item, f"{prefix}{name}."))]


def use_split(config: Config, split: str) -> None:
    """Point the test loader and the metric at a split's info file."""
    for part in (config.test_dataloader.dataset, config.test_evaluator):
        part["ann_file"] = str(Path(part["ann_file"]).with_name(f"nuscenes_infos_{split}.json"))
        info_file(part)


def info_file(part: ConfigDict) -> Path:
    """The info file of a dataset or metric, which is there."""
    path = Path(part["ann_file"])
    if not path.is_file():
        split = path.stem.removeprefix("nuscenes_infos_")
        raise ExperimentError(f"{path}: no info file of split {split!r}; make it with 'sparsevit3d data infos'")
    return path


def build_runner(config: Config, work_dir: Path, resume_from: Path | None = None) -> Runner:
    """mmengine's Runner in ``work_dir``. Its log goes to a file; the console keeps to progress bars and errors."""
    config = copy.deepcopy(config)
    config.work_dir = str(work_dir)
    config.load_from, config.resume = (str(resume_from) if resume_from else None), resume_from is not None
    _fit_machine(config)
    # mmengine keeps runners apart by name, and names them by the second.
    config.experiment_name = f"{work_dir.name}_{next(_runners)}"
    return QuietRunner.from_cfg(config)


def join_processes() -> None:
    """Under torchrun: become one of its processes."""
    if "RANK" in os.environ and not torch.distributed.is_initialized():
        if torch.cuda.is_available():
            init_dist("pytorch", backend="nccl")
        else:
            torch.distributed.init_process_group("gloo")


def _fit_machine(config: Config) -> None:
    """Under torchrun one process of several; without a GPU in full precision."""
    with_gpu, launched = torch.cuda.is_available(), "RANK" in os.environ
    if not with_gpu and "optim_wrapper" in config and config.optim_wrapper.type == "AmpOptimWrapper":
        config.optim_wrapper.type = "OptimWrapper"
        config.optim_wrapper.pop("dtype", None)
    if launched:
        config.launcher = "pytorch"
    if launched and not with_gpu:
        # Else mmengine takes it that there are GPUs.
        config.model_wrapper_cfg = {"type": "MMDistributedDataParallel", "device_ids": None}


class QuietRunner(Runner):
    """A Runner whose log goes to its file alone; the console keeps to progress bars and errors."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.ERROR)
        return logger


def load_detector(config: Config, checkpoint: Path, plan: SparsityPlan | None) -> Any:
    """The trained detector in eval mode, under ``plan``, or under the one that its checkpoint carries."""
    model = MODELS.build(config.model)
    load_weights(model, checkpoint)
    if plan is not None:
        backbone_of(model).plan = plan
    return model.to(get_device()).eval()


def write_provenance(work_dir: Path, config: Config, **facts: Any) -> None:
    """``config.py`` and ``provenance.json``: what ran, on what, from what."""
    work_dir.mkdir(parents=True, exist_ok=True)
    config.dump(str(work_dir / "config.py"))
    run = {"command": sys.argv, "started": datetime.now(tz=UTC).isoformat(timespec="seconds"), "commit": _commit()}
    path = work_dir / "provenance.json"
    earlier = json.loads(path.read_text())["runs"] if path.exists() else []
    document = {
        "runs": [*earlier, run],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "data": config.data_root,
        "seed": config.randomness.seed,
        **{key: _described(value) for key, value in facts.items()},
    }
    write_json(path, document)


def claim(work_dir: Path, request: dict[str, Any]) -> None:
    """Make ``work_dir`` this request's. Raises ExperimentError where it holds the results of another: to go on would mix the two."""
    marker = work_dir / "request.json"
    request = json.loads(json.dumps(request))
    if marker.exists() and (found := json.loads(marker.read_text())) != request:
        changed = sorted(key for key in found.keys() | request.keys() if found.get(key) != request.get(key))
        raise ExperimentError(
            f"{work_dir}: holds another experiment (its {' and '.join(changed)} differ); use another --work-dir or remove it"
        )
    work_dir.mkdir(parents=True, exist_ok=True)
    write_json(marker, request)


def _described(value: Any) -> Any:
    if isinstance(value, Path):
        return {"path": str(value), "sha256": fingerprint(value)}
    return str(value) if isinstance(value, SparsityPlan) else value


def _commit() -> str | None:
    here = Path(__file__).parent
    answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
