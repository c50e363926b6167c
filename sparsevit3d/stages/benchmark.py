"""How fast a detector and its backbone are, under plans, against rivals and a floor.

All take turns in one run.
"""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import CameraInstance3DBoxes
from mmengine.config import Config
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from data_tools.info_file import read_infos
from sparsevit3d.backbone import backbone_of
from sparsevit3d.cost.latency import time_calls
from sparsevit3d.cost.macs import count_macs, default_plans
from sparsevit3d.detector.decode import can_decode, candidates_of
from sparsevit3d.detector.lazy import Candidates
from sparsevit3d.devices import device_name, multiplies_bfloat16, wait
from sparsevit3d.errors import InputError
from sparsevit3d.progress import Progress, no_progress
from sparsevit3d.stages.config import use_split
from sparsevit3d.stages.look import load_keyframe
from sparsevit3d.stages.openvino_rival import kinds_here
from sparsevit3d.stages.rivals import (
    DENSE_RIVALS,
    Call,
    dense_plan,
    floor,
    plain_path,
    rivals_of,
    under,
)
from sparsevit3d.stages.runner import load_detector
from sparsevit3d.stages.ways import PARTS, Ours, Rival, Subject, Way, converted_detectors
from sparsevit3d.swin.plan import SparsityPlan
from sparsevit3d.swin.sparse_swin import SparseSwin


def known_device(device: str) -> str:
    """Return ``device`` if this machine has it. Raises InputError otherwise."""
    if device != "cpu" and not (device == "cuda" and torch.cuda.is_available()):
        raise InputError(
            f"--device {device}: this machine has "
            f"{'cpu and cuda' if torch.cuda.is_available() else 'cpu alone'}"
        )
    return device


def parse_shape(text: str, config: Config) -> tuple[int, int, int, int]:
    """Parse "6x3x256x704": images, channels, height, width.

    Raises InputError for other text, and for other channels than those of the config's backbone.
    """
    expected = channels_of(config)
    sides = text.split("x")
    if (
        len(sides) != 4
        or not all(side.isdecimal() and int(side) for side in sides)
        or int(sides[1]) != expected
    ):
        raise InputError(
            f"--shape {text}: is no shape of this network's images. Say "
            f"IMAGESx{expected}xHEIGHTxWIDTH, such as 6x{expected}x256x704."
        )
    images, channels, height, width = map(int, sides)
    return images, channels, height, width


def channels_of(config: Config) -> int:
    """The channels of the images that the config's backbone takes. Rays are channels too."""
    return int(config.model.backbone.get("in_channels", 3))


def keyframe_shape(config: Config, split: str) -> str:
    """Return the shape of a keyframe's images, such as "6x3x256x704": as many as the rig has."""
    config = copy.deepcopy(config)
    use_split(config, split)
    cameras = read_infos(Path(config.test_dataloader.dataset.ann_file)).cameras
    width, height = config.image_size
    return f"{len(cameras)}x{channels_of(config)}x{height}x{width}"


def fresh_subject(config: Config, shape: str, device: str) -> Subject:
    """Build the config's detector as it is before training, and random images of ``shape``.

    ``shape`` is text such as "6x3x256x704". The detector finds nothing, so decoding takes the least
    time that it can.

    Raises InputError for a shape that cannot be parsed, or a device that this machine lacks.
    """
    images = torch.randn(parse_shape(shape, config), device=known_device(device))
    camera = [
        [1266.4, 0.0, images.shape[3] / 2],
        [0.0, 1266.4, images.shape[2] / 2],
        [0.0, 0.0, 1.0],
    ]
    meta = {"cam2img": camera, "scale_factor": (1.0, 1.0), "box_type_3d": CameraInstance3DBoxes}
    model = MODELS.build(config.model).to(device).eval()
    for part in (model.neck, model.bbox_head):
        # The backbone stays as built. Its config names weights that may be missing here.
        part.init_weights()
    return Subject(model, images, [meta] * len(images), "fresh weights, random images")


def trained_subject(
    config: Config, checkpoint: Path, split: str, keyframes: Sequence[int] = (0,)
) -> Subject:
    """Load a checkpoint's detector under its plan, and the images of some of the split's keyframes.

    The first keyframe is the default.
    """
    config = copy.deepcopy(config)
    use_split(config, split)
    model = load_detector(config, checkpoint, None)
    batches = [model.data_preprocessor(load_keyframe(config, number)[0]) for number in keyframes]
    return Subject(
        model,
        torch.cat([batch["inputs"]["imgs"] for batch in batches]),
        [sample.metainfo for batch in batches for sample in batch["data_samples"]],
        f"{checkpoint.name}, "
        + ("first keyframe" if len(keyframes) == 1 else f"{len(keyframes)} keyframes")
        + f" of {split}",
    )


def benchmark(
    subject: Subject,
    dtypes: Sequence[str],
    plans: Sequence[SparsityPlan],
    runs: int,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Time ``subject`` dense and under ``plans``. No plans: the default ones.

    The last plan is also timed in the released form, and in a whole detector in every dtype.

    ``backbone`` and ``detector`` are rows by contender, with milliseconds and ``over_mmdet`` (times
    faster than mmdet's in float32). ``efficiency`` is the speed-up over the fastest dense of the
    dtype or float32, over how many times fewer MACs. A detector's row has its ``parts``. ``gmacs``
    are the dense network's.

    Rivals run in float32. A rival that cannot run fails the run. Raises InputError for an unknown
    dtype, or where only the dense plan is left to time.
    """
    model = subject.model
    images = subject.images
    net = backbone_of(model)
    size = (images.shape[2], images.shape[3])
    kinds = [_dtype(name) for name in dtypes]
    plans = [plan for plan in plans or default_plans(net, size) if not plan.is_dense]
    if not plans:
        raise InputError("no plan to time but the dense one. Name one with --plan.")
    for plan in plans:
        plan.check(net.depths)
    nets = {kind: copy.deepcopy(net).to(kind).eval() for kind in kinds}
    share = {
        str(plan): count_macs(net, size, plan) / count_macs(net, size, dense_plan(net))
        for plan in plans
    }
    rivals = rivals_of(net, images, plans[-1])
    calls = rivals | _sparse_swins(nets, images, plans)
    backbone: dict[str, Any] = {
        name: vars(one) for name, one in time_calls(calls, images, runs, 3, progress).items()
    }
    return {
        "shape": list(images.shape),
        "subject": subject.origin,
        "share": share,
        "gmacs": count_gmacs(model, images),
        "backbone": _with_ratios(backbone, share, kinds),
        "detector": _time_detectors(subject, rivals, nets, plans, runs, progress),
        "cosine_to_plain_float32": {
            _tag(kind): _agreement(net, nets[kind], images, plans[-1]) for kind in kinds
        },
        "versions": {
            "torch": torch.__version__,
            "machine": platform.machine(),
            "processor": device_name("cpu"),
        },
    }


def usual_dtypes(device: torch.device) -> tuple[str, ...]:
    """The dtypes that a run times unless told otherwise."""
    return ("float32", "bfloat16") if multiplies_bfloat16(device) else ("float32",)


def _dtype(name: str) -> torch.dtype:
    if name not in ("float32", "bfloat16"):
        raise InputError(f"--dtype {name}: there are float32 and bfloat16.")
    return getattr(torch, name)


def _tag(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _name(plan: SparsityPlan, kind: torch.dtype) -> str:
    return f"SparseSwin {'dense' if plan.is_dense else plan}, {_tag(kind)}"


def _sparse_swins(
    nets: dict[torch.dtype, SparseSwin], images: Tensor, plans: Sequence[SparsityPlan]
) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    for kind, net in nets.items():
        cast = images.to(kind)
        calls[f"floor, {_tag(kind)}"] = floor(
            net, (cast.shape[0], cast.shape[1], cast.shape[2], cast.shape[3])
        )
        for plan in (dense_plan(net), *plans):
            calls[_name(plan, kind)] = under(net, plan, net, cast)
    return calls


def _with_ratios(
    rows: dict[str, Any], share: dict[str, float], kinds: Sequence[torch.dtype]
) -> dict[str, Any]:
    for row in rows.values():
        row["over_mmdet"] = rows["mmdet"]["p50_ms"] / row["p50_ms"]
    for kind in kinds:
        contenders = [f"SparseSwin dense, {_tag(kind)}", *DENSE_RIVALS]
        fastest = min(rows[name]["p50_ms"] for name in contenders if name in rows)
        for plan, part in share.items():
            row = rows[_name(SparsityPlan.parse(plan), kind)]
            row["share"] = part
            row["efficiency"] = fastest / row["p50_ms"] * part
    return rows


def _time_detectors(
    subject: Subject,
    rivals: dict[str, Call],
    nets: dict[torch.dtype, SparseSwin],
    plans: Sequence[SparsityPlan],
    runs: int,
    progress: Progress,
) -> dict[str, Any]:
    """Time image to boxes. mmdet's rows are mmdet3d's own detector, of the same weights.

    OpenVINO's rows are that detector converted as a whole, with our decoding.
    Every plan is timed in the first dtype, the last plan in all of them.
    """
    ways: dict[str, Way] = {
        f"mmdet{change}": Rival(subject, rivals[backbone], decode_as_ours)
        for change, backbone, decode_as_ours in (
            ("", "mmdet", False),
            (", our decoding", "mmdet", True),
            (", backbone compiled", "mmdet compiled", False),
        )
    }
    kinds = kinds_here(subject.images.device)
    ways |= {f"OpenVINO {kind}": way for kind, way in converted_detectors(subject, kinds).items()}
    first, *others = nets
    timed = [(plan, first) for plan in (dense_plan(nets[first]), *plans)]
    timed += [(plans[-1], kind) for kind in others]
    ways |= {_name(plan, kind): Ours(subject, plan, nets[kind]) for plan, kind in timed}
    spent: dict[str, list[list[float]]] = {name: [] for name in ways}
    calls = {name: _timed(way, spent[name].append, subject) for name, way in ways.items()}
    rows: dict[str, Any] = {
        name: vars(one)
        for name, one in time_calls(calls, subject.images, runs, 2, progress).items()
    }
    for name, row in rows.items():
        row["over_mmdet"] = rows["mmdet"]["p50_ms"] / row["p50_ms"]
        row["parts"] = {
            part: median(times)
            for part, times in zip(PARTS, zip(*spent[name][-runs:], strict=True), strict=True)
        }
        row["boxes"] = _count_boxes(ways[name], subject)
    return rows


def _timed(way: Way, report: Callable[[list[float]], None], subject: Subject) -> Call:
    """Go from image to boxes, reporting the milliseconds of each part."""

    def call() -> None:
        clock = [time.perf_counter()]
        result: Any = None
        for part in (way.backbone, way.neck, way.head, way.decode):
            result = part(result)
            wait(subject.images.device)
            clock.append(time.perf_counter())
        report([(end - start) * 1e3 for start, end in pairwise(clock)])

    return call


@torch.no_grad()
def _count_boxes(way: Way, subject: Subject) -> dict[str, int]:
    """Count the boxes of all images before suppression, one for each class, and after."""
    head = subject.model.bbox_head
    outputs = way.head(way.neck(way.backbone(None)))
    after = sum(len(one.scores_3d) for one in way.decode(outputs)[0])
    if not isinstance(outputs, Candidates):
        if not can_decode(head):
            return {"after": after}
        outputs = candidates_of(head, outputs)
    scores = outputs.scores * outputs.centerness[:, None]
    return {"before": int((scores > head.test_cfg.score_thr).sum()), "after": after}


@torch.no_grad()
def count_gmacs(model: Any, images: Tensor) -> dict[str, float]:
    """Count the dense detector's GMACs, of all images.

    The backbone is counted by its own rules. Neck and head are counted as torch counts them on a
    processor.
    """
    net = backbone_of(model)
    found = {
        "backbone": len(images)
        * count_macs(net, (images.shape[2], images.shape[3]), dense_plan(net))
        / 1e9
    }
    x = [feature.cpu() for feature in net(images)]
    for name, part in (
        ("neck", copy.deepcopy(model.neck).cpu()),
        ("head", copy.deepcopy(model.bbox_head).cpu()),
    ):
        with FlopCounterMode(display=False) as counter:
            x = part(x)
        found[name] = counter.get_total_flops() / 2e9
    return found


@torch.no_grad()
def _agreement(
    net: SparseSwin, cast: SparseSwin, images: Tensor, plan: SparsityPlan
) -> dict[str, float]:
    """Find the smallest cosine between an image's feature map and the plain path's in float32.

    Compared are the dense network and the network under ``plan``.
    """
    plain = plain_path(net)
    result = {}
    for one in (dense_plan(net), plan):
        cast.plan = one
        plain.plan = one
        pairs = zip(cast(images.to(next(cast.parameters()).dtype)), plain(images), strict=True)
        name = "dense" if one.is_dense else str(one)
        result[name] = min(
            float(torch.cosine_similarity(mine.float().flatten(1), truth.flatten(1)).min())
            for mine, truth in pairs
        )
    return result
