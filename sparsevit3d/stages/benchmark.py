"""What a plan saves in time: dense, sparse and mmdet's own Swin, taking turns in one run, backbone and whole detector."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config

from sparsevit3d.latency import Latency, time_calls
from sparsevit3d.macs import count_macs
from sparsevit3d.plan import SparsityPlan
from sparsevit3d.stages.experiment import load_detector, use_split
from sparsevit3d.stages.files import ExperimentError
from sparsevit3d.stages.hooks import backbone_of
from sparsevit3d.stages.look import load_keyframe
from sparsevit3d.stages.rivals import mmdet_swin


def benchmark(config: Config, checkpoint: Path, split: str, plan: SparsityPlan | None, runs: int = 30) -> dict[str, dict[str, Any]]:
    """Time the six cameras of the split's first keyframe, dense and under ``plan`` (None: the checkpoint's own).

    Rows ``backbone`` and ``detector`` (image to boxes): for each contender its latency, and ``speedup`` of the sparse one over
    the fastest dense one of this run; the backbone also its MACs, for one keyframe.
    """
    config = copy.deepcopy(config)
    use_split(config, split)
    model = load_detector(config, checkpoint, plan)
    net = backbone_of(model)
    if net.plan is None or net.plan.is_dense:
        raise ExperimentError(f"{checkpoint}: is dense; say which plan to time with --plan")
    plan, dense = net.plan, SparsityPlan.uniform(0, net.depths)
    batch, _ = load_keyframe(config, 0)
    images = model.data_preprocessor(batch)["inputs"]["imgs"]
    rival = mmdet_swin(net)

    def sparse_swin(chosen: SparsityPlan) -> Any:
        net.plan = chosen
        return net(images)

    def whole(chosen: SparsityPlan) -> Any:
        net.plan = chosen
        return model.test_step(batch)

    parameter = next(net.parameters())
    backbone = time_calls(
        {"dense": lambda: sparse_swin(dense), "mmdet": lambda: rival(images), "sparse": lambda: sparse_swin(plan)}, parameter, runs
    )
    detector = time_calls({"dense": lambda: whole(dense), "sparse": lambda: whole(plan)}, parameter, runs)
    width, height = config.image_size
    macs = {name: len(images) * count_macs(net, (height, width), p) for name, p in (("dense", dense), ("sparse", plan))}
    return {
        "plan": {"plan": str(plan), "share_of_dense_macs": macs["sparse"] / macs["dense"]},
        "backbone": _row(backbone) | {"macs": macs},
        "detector": _row(detector),
    }


def _row(latencies: dict[str, Latency]) -> dict[str, Any]:
    fastest = min(value.p50_ms for name, value in latencies.items() if name != "sparse")
    rows = {name: vars(value) for name, value in latencies.items()}
    return {"latency": rows, "speedup": fastest / latencies["sparse"].p50_ms}
