"""Time two detectors from image to boxes: as mmdet3d runs them, as ours was, and as ours is.

    python -m benchmarks.image_to_boxes small DENSE PRUNED --data ROOT
    python -m benchmarks.image_to_boxes swin-t MAP MAP --data ROOT

DENSE and PRUNED are checkpoints of configs/fcos3d_small_512x192_carry.py. They are timed on the
first keyframe of val. PRUNED runs under its plan, with its windows carried on into neck and head.
Of Swin-T no trained weights exist here. MAP is a checkpoint of
configs/fcos3d_swin-t_704x256_carry.py of which the map of objects alone has learnt:

    sparsevit3d train configs/fcos3d_swin-t_704x256_carry.py --data ROOT --work-dir work_dirs/map \\
        --set model.learns=density --set model.backbone.init_cfg=null --set train_cfg.max_epochs=1

Its score threshold is set so that as many places of a keyframe pass as in the small detector, which
is timed first. With --score both are scored on val, with an interval of 95% over scenes.

``mmdet3d`` is mmdet3d's detector of the same weights. ``dense_before`` is ours without what came
with this benchmark: larger tiles of small networks, a head computed where a class is found, and
suppression of all classes at once.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from mmdet3d.models.layers import box3d_multiclass_nms
from mmdet3d.structures import xywhr2xyxyr
from mmengine.config import Config
from torch import Tensor

from benchmarks.importance import drawn_score, over
from sparsevit3d.backbone import backbone_of
from sparsevit3d.cost.macs import count_macs, plan_of_share
from sparsevit3d.detector.decode import candidates_of, in_space
from sparsevit3d.devices import device_name
from sparsevit3d.files import write_json
from sparsevit3d.stages.benchmark import trained_subject
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.evaluate import Evaluator
from sparsevit3d.stages.rivals import dense_plan, mmdet_swin
from sparsevit3d.stages.ways import PARTS, Ours, Rival, Subject
from sparsevit3d.swin.kernels import cpu

ROOT = Path(__file__).parent.parent
CONFIGS = {
    "small": ROOT / "configs/fcos3d_small_512x192_carry.py",
    "swin-t": ROOT / "configs/fcos3d_swin-t_704x256_carry.py",
}
SHARE = 0.56
WARM_UP = 2
IN_A_ROW = 2


class Before(Rival):
    """Our dense detector with its former tiles, its whole head and mmdet3d's suppression."""

    def backbone(self, _: Any) -> Any:
        now = cpu.VALUES
        cpu.VALUES = 0
        try:
            return self.run()
        finally:
            cpu.VALUES = now

    def head(self, levels: Any) -> Any:
        return self.subject.model.bbox_head(levels)

    def decode(self, said: Any) -> Any:
        head = self.subject.model.bbox_head
        found = candidates_of(head, said)
        boxes = in_space(head, found, self.subject.metas)
        seen = boxes[:, [0, 2, 3, 5, 6]] * boxes.new_tensor([1, 1, 1, 1, -1])
        scores = torch.nn.functional.pad(found.scores * found.centerness[:, None], (0, 1))
        config = head.test_cfg
        return [
            box3d_multiclass_nms(
                boxes[own],
                xywhr2xyxyr(seen[own]),
                scores[own],
                config.score_thr,
                config.max_per_img,
                config,
                found.directions[own],
                found.attributes[own],
            )
            for image in range(len(self.subject.metas))
            for own in [found.image == image]
        ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("detector", choices=CONFIGS)
    parser.add_argument("dense", type=Path)
    parser.add_argument("pruned", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the nuScenes root")
    parser.add_argument("--plan", help="another plan than PRUNED's")
    parser.add_argument("--runs", type=int, default=15, help="turns of each way")
    parser.add_argument("--score", action="store_true", help="also score both on val")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/image_to_boxes.json")
    options = parser.parse_args()
    document = json.loads(options.out.read_text()) if options.out.exists() else {"detectors": {}}
    made = [
        (
            load_config(CONFIGS[options.detector], options.data, None, (f"model.carry={carry}",)),
            checkpoint,
        )
        for checkpoint, carry in ((options.dense, "false"), (options.pruned, "true"))
    ]
    dense, pruned = (trained_subject(*one, "val") for one in made)
    if options.detector == "swin-t":
        places = document["detectors"]["small"]["places_of_a_class"]
        dense = at_places(dense, places)
        pruned = at_places(pruned, places)
    found = compare(dense, pruned, options.plan, options.runs)
    if options.score:
        found["score"] = scores(*made)
    document["detectors"][options.detector] = found
    document |= {
        "command": "python -m benchmarks.image_to_boxes DETECTOR DENSE PRUNED --data ROOT",
        "machine": device_name("cpu"),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    write_json(options.out, document)
    print(json.dumps(found, indent=1))


def scores(dense: tuple[Config, Path], pruned: tuple[Config, Path]) -> dict[str, Any]:
    """mAP of both on val, and the pruned one's difference in points, paired over scenes."""
    found = []
    for config, checkpoint in (dense, pruned):
        with tempfile.TemporaryDirectory() as folder:
            submission = Path(folder) / "results.json"
            evaluator = Evaluator(config, checkpoint, "val", Path(folder) / "eval", submission)
            found.append(drawn_score(evaluator, None, submission))
    return {
        "mAP": [one["mAP"] for one in found],
        "points_over_dense": over(found[1], found[0]),
    }


@torch.no_grad()
def compare(dense: Subject, pruned: Subject, text: str | None, runs: int) -> dict[str, Any]:
    """Time all ways in turn. The plan is ``text``, or the pruned detector's, or one of SHARE."""
    net = backbone_of(dense.model)
    sparse = backbone_of(pruned.model)
    size = (dense.images.shape[2], dense.images.shape[3])
    if text is not None:
        sparse.plan = text
    plan = sparse.plan or plan_of_share(sparse, size, SHARE)
    nothing = dense_plan(net)
    rival = mmdet_swin(net)
    ways: dict[str, Any] = {
        "mmdet3d": Rival(dense, lambda: rival(dense.images), False),
        "mmdet3d_our_decoding": Rival(dense, lambda: rival(dense.images), True),
        "dense_before": Before(dense, lambda: net(dense.images), False),
        "dense": Ours(dense, nothing, net),
        "pruned": Ours(pruned, plan, sparse),
    }
    spent: dict[str, list[list[float]]] = {name: [] for name in ways}
    memory: dict[str, int] = {}
    for turn in range(WARM_UP + runs):
        for name, way in ways.items():
            net.plan = nothing
            if turn == WARM_UP - 1:
                memory[name] = added_memory(lambda way=way: parts_of(way))
            parts_of(way)  # brings its weights and its memory back, as where it runs alone
            spent[name] += [parts_of(way) for _ in range(IN_A_ROW)]
    ms = {name: of_parts(times[WARM_UP * IN_A_ROW :]) for name, times in spent.items()}
    total = {name: one["total"] for name, one in ms.items()}
    return {
        "subjects": [dense.origin, pruned.origin],
        "plan": str(plan),
        "places_of_a_class": count_places(dense),
        "macs_share": count_macs(sparse, size, plan) / count_macs(sparse, size, nothing),
        "ms": ms,
        "ratios": {
            "pruned_over_dense": total["dense"] / total["pruned"],
            "pruned_over_dense_before": total["dense_before"] / total["pruned"],
            "pruned_over_mmdet3d": total["mmdet3d"] / total["pruned"],
            "dense_over_mmdet3d": total["mmdet3d"] / total["dense"],
        },
        "added_memory_mb": memory,
        "boxes": {name: count_boxes(way) for name, way in ways.items() if name != "dense_before"},
    }


def parts_of(way: Any) -> list[float]:
    """Milliseconds of each part, once."""
    clock = [perf_counter()]
    result: Any = None
    for part in PARTS:
        result = getattr(way, part)(result)
        clock.append(perf_counter())
    return [(end - start) * 1e3 for start, end in pairwise(clock)]


def of_parts(times: list[list[float]]) -> dict[str, float]:
    rows = dict(zip(PARTS, map(median, zip(*times, strict=True)), strict=True))
    return {name: round(value, 2) for name, value in rows.items()} | {
        "total": round(median(map(sum, times)), 2)
    }


def count_boxes(way: Any) -> int:
    result: Any = None
    for part in PARTS:
        result = getattr(way, part)(result)
    return sum(len(one.scores_3d) for one in result[0])


def added_memory(call: Callable[[], object]) -> int:
    """MB that a call needs at most beyond what this process holds. Linux counts them."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest mark
    before = _status("VmRSS")
    call()
    return (_status("VmHWM") - before) >> 10


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


@torch.no_grad()
def class_scores(subject: Subject) -> Tensor:
    """(places,) the best class score of every place of every level."""
    model = subject.model
    maps = model.bbox_head(model.neck(model.backbone(subject.images)))
    return torch.cat([one.sigmoid().amax(1).flatten() for one in maps[0]])


def count_places(subject: Subject) -> int:
    return int((class_scores(subject) > subject.model.bbox_head.test_cfg.score_thr).sum())


def at_places(subject: Subject, places: int) -> Subject:
    """Set the threshold of a detector of fresh weights so that ``places`` of them pass."""
    best = class_scores(subject).sort(descending=True)[0]
    subject.model.bbox_head.test_cfg.score_thr = float(best[places])
    return subject


if __name__ == "__main__":
    main()
