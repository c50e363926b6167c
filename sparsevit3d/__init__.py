"""SparseViT for camera-based 3D detection.

The names below are the public face. They need torch and numpy alone, and each is imported when it
is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsevit3d.cost.latency import Latency, measure_latency
    from sparsevit3d.cost.macs import count_macs, count_traced_macs
    from sparsevit3d.swin.plan import PlanError, SparsityPlan
    from sparsevit3d.swin.sparse_swin import SparseSwin
    from sparsevit3d.swin.trace import BlockTrace, record_windows
    from sparsevit3d.swin.weights import LoadedWeights, WeightsError, load_swin_weights

_HOMES = {
    "BlockTrace": "swin.trace",
    "Latency": "cost.latency",
    "LoadedWeights": "swin.weights",
    "PlanError": "swin.plan",
    "SparseSwin": "swin.sparse_swin",
    "SparsityPlan": "swin.plan",
    "WeightsError": "swin.weights",
    "count_macs": "cost.macs",
    "count_traced_macs": "cost.macs",
    "load_swin_weights": "swin.weights",
    "measure_latency": "cost.latency",
    "record_windows": "swin.trace",
}

__all__ = [
    "BlockTrace",
    "Latency",
    "LoadedWeights",
    "PlanError",
    "SparseSwin",
    "SparsityPlan",
    "WeightsError",
    "count_macs",
    "count_traced_macs",
    "load_swin_weights",
    "measure_latency",
    "record_windows",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
