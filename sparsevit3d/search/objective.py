"""What a plan is worth: its score on the search split, by one detector that is loaded once.

The score is the devkit's own, with the truth loaded once. Images that fit in memory are decoded
once as well. So an evaluation is forward passes and little else.
"""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from mmdet3d.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS, METRICS
from torch.utils.data import DataLoader, Subset

from data_tools.info_file import InfoFile, read_infos
from sparsevit3d.backbone import backbone_of
from sparsevit3d.errors import InputError
from sparsevit3d.files import fingerprint
from sparsevit3d.stages.config import use_split
from sparsevit3d.stages.provenance import PACKAGES, experiment_of
from sparsevit3d.stages.runner import load_detector
from sparsevit3d.stages.scoring import Truth
from sparsevit3d.swin.plan import SparsityPlan

SPLIT = "search"  # the search never sees the split that scores are reported on
SCORES = ("mAP", "NDS", "loss")
KEPT = 1 << 30  # bytes of decoded images that a process keeps


@dataclass(frozen=True)
class Question:
    """All that the score of a plan follows from.

    Args:
        config (Config): The experiment, with its data.
        weights (Path): The checkpoint to judge plans with.
        by (str): The metric to maximise, one of SCORES. Default: "mAP".
        keyframes (int, tuple of int or None): How many keyframes of the split, evenly spread, or
            their places. None: all. Default: None.
        threads (int): Threads of the process that judges. Default: 1.
        split (str): The split to judge on. Default: "search".
        keep (Path or None): Folder for the boxes of each plan, see :func:`boxes_of`. None: boxes
            are not kept. Default: None.
    """

    config: Config = field(hash=False, compare=False)
    weights: Path
    by: str = "mAP"
    keyframes: int | tuple[int, ...] | None = None
    threads: int = 1
    split: str = SPLIT
    keep: Path | None = None

    def load(self) -> Objective:
        warnings.filterwarnings("ignore", message="torch.meshgrid")  # mmdet3d's, in every worker
        # Workers, too, need the names that configs use.
        register_all_modules(init_default_scope=True)
        return Objective(self)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Describe the question in plain data. Equal where scores are equal, wherever files lie."""
        config = copy.deepcopy(self.config)
        use_split(config, self.split)
        return {
            "config": experiment_of(config, ("randomness",)),  # no score follows from the seed
            "weights": fingerprint(self.weights),
            "data": _data_fingerprint(config),
            "score": self.by,
            "keyframes": self.keyframes,
            "threads": self.threads,
            "device": get_device(),
            "versions": {name: version(name) for name in (*PACKAGES, "sparsevit3d")},
        }

    @property
    def key(self) -> str:
        """The identity as a name for files."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()


def _data_fingerprint(config: Config) -> str:
    """SHA-256 of the split's info file, and of the sizes of its images and of the tables.

    Reading all of these files would take too long.
    """
    path = Path(config.test_evaluator.ann_file)
    root = Path(config.data_root)
    infos = read_infos(path)
    images = [
        infos.image_path(root, number, camera)
        for number in range(len(infos.keyframes))
        for camera in infos.cameras
    ]
    tables = sorted((root / infos.version).glob("*.json"))
    sizes = [file.stat().st_size if file.is_file() else None for file in (*images, *tables)]
    return hashlib.sha256(json.dumps([fingerprint(path), sizes]).encode()).hexdigest()


class Objective:
    """Judges plans. Call it with a plan, as often as needed, and get metrics by name.

    The metric of ``question.by`` is to be maximised.

    Args:
        question (Question): All that the score follows from.

    Raises:
        InputError: The split has fewer keyframes than asked for.
    """

    def __init__(self, question: Question) -> None:
        torch.set_num_threads(question.threads)
        config = copy.deepcopy(question.config)
        use_split(config, question.split)
        self.by_loss = question.by == "loss"
        self.model = load_detector(config, question.weights, None)
        self.net = backbone_of(self.model)
        dataset = (
            _truth_dataset(config)
            if self.by_loss
            else DATASETS.build(config.test_dataloader.dataset)
        )
        infos = read_infos(Path(config.test_evaluator.ann_file))
        cameras = len(infos.cameras)
        chosen = keyframes_of(question.keyframes, infos)
        self.keep = question.keep
        self.metric = METRICS.build({**config.test_evaluator, "keyframes": chosen})
        self.metric.dataset_meta = dataset.metainfo
        if not self.by_loss and not isinstance(question.keyframes, tuple):
            _check_defined(self.metric.truth, question.by, infos.path)
        images = [number * cameras + camera for number in chosen for camera in range(cameras)]
        self.batches = _batches(Subset(dataset, images), config)

    def __call__(self, plan: SparsityPlan) -> dict[str, float]:
        self.net.plan = plan
        self.metric.keep = self.keep and str(boxes_of(self.keep, plan))
        with torch.no_grad():
            return self._loss() if self.by_loss else self._score()

    def _score(self) -> dict[str, float]:
        self.metric.results.clear()
        for batch in self.batches:
            self.metric.process(batch, [sample.to_dict() for sample in self.model.test_step(batch)])
        return dict(self.metric.compute_metrics(self.metric.results))

    def _loss(self) -> dict[str, float]:
        """Minus the mean of an image's losses, as training adds them up."""
        total = 0.0
        images = 0
        for batch in self.batches:
            batch = copy.deepcopy(batch)  # the head turns the truth's yaws in place
            count = len(batch["data_samples"])
            losses = self.model(**self.model.data_preprocessor(batch, training=False), mode="loss")
            total = total + float(self.model.parse_losses(losses)[0]) * count
            images = images + count
        return {"loss": -total / images}


def _check_defined(truth: Truth, by: str, path: Path) -> None:
    """Raise InputError if the truth cannot tell plans apart by the score ``by``."""
    if not truth.present:
        raise InputError(
            f"{path}: has no truth to judge plans by. Use a split whose objects are annotated."
        )
    if by == "NDS" and any(truth.lacks.values()):
        lost = " and ".join(name for name, lacks in truth.lacks.items() if lacks)
        raise InputError(
            f"--score NDS: the truth of {path} defines no {lost}. Use --score mAP or --score loss."
        )


def boxes_of(folder: Path, plan: SparsityPlan) -> Path:
    """The file in ``folder`` that holds the boxes of a plan, as nuScenes wants them."""
    return folder / f"{str(plan).replace('|', '_')}.json"


def keyframes_of(wanted: int | tuple[int, ...] | None, infos: InfoFile) -> Sequence[int]:
    """Places of the keyframes to judge on, see :class:`Question`.

    Raises InputError for too many.
    """
    if isinstance(wanted, tuple):
        return wanted
    count = len(infos.keyframes)
    wanted = count if wanted is None else wanted
    if not 1 <= wanted <= count:
        raise InputError(f"{wanted} keyframes: {infos.path} has {count}")
    return [number * count // wanted for number in range(wanted)]


def _truth_dataset(config: Config) -> Any:
    """Build the split's images with the true objects in them. Nothing is random."""
    part = copy.deepcopy(config.train_dataloader.dataset)
    part.ann_file = config.test_dataloader.dataset.ann_file
    part.test_mode = False
    part.filter_empty_gt = False
    part.pipeline = [step for step in part.pipeline if "Flip" not in step.type]
    return DATASETS.build(part)


def _batches(dataset: Any, config: Config) -> Iterable[dict[str, Any]]:
    """Decode images once and keep them, where they all fit.

    Otherwise images are loaded anew for every plan.
    """
    width, height = config.image_size
    kept = width * height * 3 * len(dataset) <= KEPT
    workers = 0 if kept else config.test_dataloader.num_workers
    loader = DataLoader(
        dataset,
        config.test_dataloader.batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=pseudo_collate,
    )
    return list(loader) if kept else loader
