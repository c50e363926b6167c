"""SparseViT for camera-based 3D detection. The backbone, its plans and its measures import with torch and numpy alone."""

from sparsevit3d.latency import Latency, measure_latency
from sparsevit3d.macs import count_macs
from sparsevit3d.plan import PlanError, SparsityPlan
from sparsevit3d.sparse_swin import SparseSwin
from sparsevit3d.trace import BlockTrace, count_traced_macs, record_windows
from sparsevit3d.weights import LoadedWeights, WeightsError, load_swin_weights

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
