"""Whether an exported file finds what the detector finds, in frames that writing it never saw."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor

from data_tools.convert import write_infos
from data_tools.images import read_image
from data_tools.info_file import read_infos
from data_tools.synthetic.dataset import VERSION, Settings, make_dataset
from sparsevit3d.cost.latency import time_calls
from sparsevit3d.detector.static import Part, StaticDetector
from sparsevit3d.errors import InputError
from sparsevit3d.stages.calibration import Camera
from sparsevit3d.stages.exported import Exported
from sparsevit3d.stages.predict import Detector, as_info

SCORE = 1e-3  # how far scores may be apart
METRES = 0.01  # how far numbers of a box may be apart: metres, radians and metres a second
SHARE = 1e-3  # how far maps may be apart, as a share of their largest number
ROUNDS = 7  # passes that are timed
MADE = (800, 450)  # pixels of a made image


@dataclass(frozen=True)
class Frames:
    """Images as the network takes them, and what the detector makes of them.

    Args:
        images (Tensor): (N, 3, H, W) uint8.
        cameras (Tensor): (N, 3, 3) their matrices.
        batch (dict): The same, as the detector takes them.
    """

    images: Tensor
    cameras: Tensor
    batch: dict[str, Any]


def frames_of(detector: Detector, images: Sequence[tuple[Path, Camera]]) -> Frames:
    """Prepare images of calibrated cameras as the network takes them, free of distortion."""
    items = []
    for path, camera in images:
        pixels = camera.straight(read_image(path)[0]) if camera.distortion else None
        items.append(detector.pipeline(as_info(path, "any", camera, pixels)))
    batch = pseudo_collate(items)
    cameras = [np.asarray(sample.metainfo["cam2img"])[:3, :3] for sample in batch["data_samples"]]
    return Frames(
        torch.stack(batch["inputs"]["img"]),
        torch.tensor(np.stack(cameras), dtype=torch.float32),
        batch,
    )


@contextmanager
def made_frames(count: int) -> Iterator[list[tuple[Path, Camera]]]:
    """``count`` images of a made street and their cameras: those of its rig, and again."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings((0, 0, 1), 1, MADE[0], MADE[1], seed=77, preset="standard")
        root = make_dataset(Path(folder) / "street", settings)
        write_infos(root, VERSION, ["val"])
        infos = read_infos(root / "nuscenes_infos_val.json")
        entries = infos.keyframes[0]["images"]
        found = []
        for _, name in zip(range(count), cycle(infos.cameras), strict=False):
            matrix = np.array(entries[name]["cam2img"], float)[:3, :3]
            found.append((infos.image_path(root, 0, name), Camera(matrix, *MADE)))
        yield found


def compare(static: StaticDetector, exported: Exported, frames: Frames) -> dict[str, float]:
    """Compare what ``exported`` finds in ``frames`` with what the detector finds itself.

    Raises InputError where they differ beyond SCORE, METRES or SHARE.
    """
    found = [*exported(frames.images, frames.cameras).values()]
    with torch.no_grad():
        if static.part != "boxes":
            return _compare_maps(static, found, frames)
        samples = static.detector.test_step(frames.batch)
    threshold = float(static.detector.bbox_head.test_cfg.score_thr)
    worst = {"boxes": 0, "attributes": 0, "score": 0.0, "box": 0.0}
    for image, sample in enumerate(samples):
        own = sample.pred_instances_3d
        rows = torch.cat([own.bboxes_3d.gravity_center, own.bboxes_3d.tensor[:, 3:]], 1)
        others = [one[image] for one in found]
        kept = others[1] > 0
        boxes, scores, labels, attributes = (one[kept] for one in others)
        pairs = _pairs((rows, own.scores_3d, own.labels_3d), (boxes, scores, labels), threshold)
        for mine, other in pairs:
            apart = float((rows[mine] - boxes[other]).abs().max())
            worst["score"] = max(worst["score"], float(abs(own.scores_3d[mine] - scores[other])))
            worst["box"] = max(worst["box"], apart)
            worst["attributes"] += int(own.attr_labels[mine] != attributes[other])
        worst["boxes"] += len(pairs)
    if not worst["boxes"]:
        raise InputError(
            "the detector finds nothing in these frames, so nothing can be compared. Use --frames "
            "and --calibration."
        )
    if worst["score"] > SCORE or worst["box"] > METRES or worst["attributes"]:
        raise InputError(
            f"the exported file differs: scores by {worst['score']:.2g}, boxes by "
            f"{worst['box']:.2g} m, {worst['attributes']} attributes. Nothing was kept. Try "
            "another --format."
        )
    return worst


def _pairs(
    own: tuple[Tensor, ...], other: tuple[Tensor, ...], threshold: float
) -> list[tuple[int, int]]:
    """Pair the boxes of both: those of one class whose centres are nearest.

    Raises InputError where one has no partner, unless its score is at the threshold.
    """
    free = set(range(len(other[0])))
    pairs = []
    lost: list[float] = []
    for row, (box, score, label) in enumerate(zip(*own, strict=True)):
        near = [
            (float((box[:3] - other[0][each, :3]).norm()), each)
            for each in free
            if other[2][each] == label
        ]
        distance, best = min(near, default=(np.inf, -1))
        if not distance <= 10 * METRES or not bool(other[0][best].isfinite().all()):
            lost.append(float(score))
            continue
        free.discard(best)
        pairs.append((row, best))
    lost += [float(other[1][each]) for each in free]
    if sure := [score for score in lost if score > threshold + SCORE]:
        raise InputError(
            f"the exported file differs: {len(sure)} boxes are found by one of both alone, the "
            f"best with a score of {max(sure):.2f}. Nothing was kept. Try another --format."
        )
    return pairs


def _compare_maps(
    static: StaticDetector, found: Sequence[Tensor], frames: Frames
) -> dict[str, float]:
    worst = 0.0
    for name, own, other in zip(
        static.names, static(frames.images, frames.cameras), found, strict=True
    ):
        apart = float((own - other).abs().max() / own.abs().max().clamp(min=1e-6))
        if not apart <= SHARE:
            raise InputError(
                f"the exported file differs: {name} by {apart:.2g} of its largest number. Nothing "
                "was kept. Try another --format."
            )
        worst = max(worst, apart)
    return {"share": worst}


def times(detector: Detector, part: Part, exported: Exported, frames: Frames) -> dict[str, float]:
    """Median milliseconds of the detector and of the file, which take turns."""
    contenders: dict[str, Callable[[], Any]] = {
        "file": lambda: exported(frames.images, frames.cameras)
    }
    if part == "boxes":
        contenders["detector"] = lambda: detector.model.test_step(frames.batch)
    timed = time_calls(contenders, frames.cameras, ROUNDS, 2)
    return {name: round(one.p50_ms, 2) for name, one in timed.items()}
