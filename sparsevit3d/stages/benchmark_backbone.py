"""How fast the backbone is: SparseSwin under plans against its rivals and its floor, taking turns in one run."""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from sparsevit3d.latency import time_calls
from sparsevit3d.macs import count_macs
from sparsevit3d.plan import SparsityPlan
from sparsevit3d.sparse_swin import SparseSwin
from sparsevit3d.stages.files import ExperimentError
from sparsevit3d.stages.rivals import ReleasedSwin, floor, mmdet_swin

Shape = tuple[int, int, int, int]
DENSE_RIVALS = ("mmdet", "mmdet compiled", "released form")  # and SparseSwin itself; the fastest is what plans are held against


def default_plans(depths: Sequence[int]) -> list[SparsityPlan]:
    """Uniform 0.5 and 0.6, and for Swin-T's depths the plans that the paper's authors published."""
    published = ["0.3|0|0.1,0.2,0.2|0", "0.6|0|0.2,0.4,0.5|0"] if tuple(depths) == (2, 2, 6, 2) else []
    return [*map(SparsityPlan.parse, published), *(SparsityPlan.uniform(ratio, depths) for ratio in (0.5, 0.6))]


def benchmark_backbone(
    config: Config, shape: str, dtypes: Sequence[str], plans: Sequence[str] | None, runs: int, device: str = "cpu"
) -> dict[str, Any]:
    """Time random images of ``shape``, "6x3x256x704", through the config's backbone, freshly initialised, dense and under ``plans``.

    Rivals run in float32, the released form under the last plan too. A rival that cannot run fails the run. Raises ExperimentError
    for a shape or a dtype that is none, PlanError for a plan.
    """
    if device != "cpu" and not (device == "cuda" and torch.cuda.is_available()):
        raise ExperimentError(f"--device {device}: this machine has {'cpu and cuda' if torch.cuda.is_available() else 'cpu alone'}")
    size, kinds = _shape(shape), [_dtype(name) for name in dtypes]
    chosen = default_plans(config.model.backbone.depths) if plans is None else [SparsityPlan.parse(plan) for plan in plans]
    return _measure(config, size, kinds, chosen, runs, device)


def _shape(text: str) -> Shape:
    sides = text.split("x")
    if len(sides) != 4 or not all(side.isdecimal() and int(side) for side in sides):
        raise ExperimentError(f"--shape {text}: it is IMAGESxCHANNELSxHEIGHTxWIDTH, such as 6x3x256x704")
    batch, channels, height, width = map(int, sides)
    return batch, channels, height, width


def _dtype(name: str) -> torch.dtype:
    if name not in ("float32", "bfloat16"):
        raise ExperimentError(f"--dtype {name}: there are float32 and bfloat16")
    return getattr(torch, name)


def _measure(
    config: Config, shape: Shape, dtypes: Sequence[torch.dtype], plans: Sequence[SparsityPlan], runs: int, device: str
) -> dict[str, Any]:
    backbone = {name: value for name, value in config.model.backbone.items() if name not in ("type", "plan", "init_cfg")}
    torch.manual_seed(0)
    first = SparseSwin(**backbone).to(device).eval()
    dense = SparsityPlan.uniform(0, first.depths)
    images = torch.randn(shape, device=device)
    calls = _rivals(first, backbone, images, plans[-1])
    share = {str(plan): count_macs(first, shape[2:], plan) / count_macs(first, shape[2:], dense) for plan in plans}
    for dtype in dtypes:
        net, cast = copy.deepcopy(first).to(dtype), images.to(dtype)
        tag = _tag(dtype)
        calls[f"floor, {tag}"] = floor(net, shape)
        for plan in (dense, *plans):
            calls[_name(plan, tag)] = _under(net, plan, cast)
    rows = {name: vars(one) for name, one in time_calls(calls, images, runs).items()}
    _add_ratios(rows, dense, share, dtypes)
    cosines = {_tag(dtype): _agreement(first, backbone, images, dtype, plans[-1]) for dtype in dtypes}
    versions = {"torch": torch.__version__, "machine": platform.machine(), "processor": _processor()}
    return {"shape": shape, "share": share, "rows": rows, "cosine_to_plain_float32": cosines, "versions": versions}


def _tag(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _name(plan: SparsityPlan, tag: str) -> str:
    return f"SparseSwin {'dense' if plan.is_dense else plan}, {tag}"


def _under(net: SparseSwin, plan: SparsityPlan | None, images: Tensor, module: nn.Module | None = None) -> Callable[[], object]:
    def call() -> object:
        net.plan = plan
        return (module or net)(images)

    return call


def _rivals(first: SparseSwin, backbone: dict[str, Any], images: Tensor, plan: SparsityPlan) -> dict[str, Callable[[], object]]:
    eager = mmdet_swin(first)
    compiled = torch.compile(eager, options={"freezing": images.device.type == "cpu"})
    plain = SparseSwin(**backbone | {"fast": False}).to(images.device).eval()
    released = ReleasedSwin(plain)
    return {
        "mmdet": lambda: eager(images),
        "mmdet compiled": lambda: compiled(images),
        "released form": _under(plain, None, images, released),
        f"released form {plan}": _under(plain, plan, images, released),
    }


def _add_ratios(rows: dict[str, Any], dense: SparsityPlan, share: dict[str, float], dtypes: Sequence[torch.dtype]) -> None:
    """``over_mmdet``: times faster than mmdet in float32; ``efficiency``: speed-up over the dtype's fastest dense, over the MAC cut."""
    for row in rows.values():
        row["over_mmdet"] = rows["mmdet"]["p50_ms"] / row["p50_ms"]
    for dtype in dtypes:
        tag = _tag(dtype)
        contenders = [_name(dense, tag), *(DENSE_RIVALS if dtype == torch.float32 else ())]
        fastest = min(rows[name]["p50_ms"] for name in contenders)
        for plan, part in share.items():
            row = rows[_name(SparsityPlan.parse(plan), tag)]
            row["efficiency"] = fastest / row["p50_ms"] * part


@torch.no_grad()
def _agreement(
    first: SparseSwin, backbone: dict[str, Any], images: Tensor, dtype: torch.dtype, plan: SparsityPlan
) -> dict[str, float]:
    """The smallest cosine between one image's feature map and the plain path's in float32, dense and under ``plan``."""
    result = {}
    plain = SparseSwin(**backbone | {"fast": False}).to(images.device).eval()
    plain.load_state_dict(first.state_dict())
    net = copy.deepcopy(first).to(dtype).eval()
    for name, one in (("dense", None), (str(plan), plan)):
        net.plan = plain.plan = one
        pairs = zip(net(images.to(dtype)), plain(images), strict=True)
        result[name] = min(float(torch.cosine_similarity(mine.float().flatten(1), truth.flatten(1)).min()) for mine, truth in pairs)
    return result


def _processor() -> str:
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
