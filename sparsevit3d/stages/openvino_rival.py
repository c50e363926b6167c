"""OpenVINO, a runtime for processors, as a dense rival. ``pip install sparsevit3d[openvino]``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from sparsevit3d.devices import multiplies_bfloat16

Run = Callable[[Tensor], list[Tensor]]
KINDS = ("float32", "bfloat16", "int8")


def kinds_here(device: torch.device) -> list[str]:
    """List the kinds of numbers in which OpenVINO can run here. Empty: it is not installed."""
    if device.type != "cpu" or find_spec("openvino") is None:
        return []
    lacking = set() if multiplies_bfloat16(device) else {"bfloat16"}
    lacking |= set() if find_spec("nncf") else {"int8"}
    return [kind for kind in KINDS if kind not in lacking]


def converted(module: nn.Module, images: Tensor, kinds: list[str]) -> dict[str, Run]:
    """Convert ``module``, which maps images (B, 3, H, W) to tensors, and compile it by kind.

    It runs with as many threads as torch has now. int8 is calibrated on ``images``.
    """
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, whose shapes are fixed here
        graph = openvino.convert_model(module, example_input=images)
    graph.reshape({graph.inputs[0]: list(images.shape)})
    return {kind: _compiled(graph, kind, images) for kind in kinds}


def _compiled(graph: Any, kind: str, images: Tensor) -> Run:
    import openvino

    hint = "bf16" if kind == "bfloat16" else "f32"
    if kind == "int8":
        graph = _quantised(graph, images)
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    network = openvino.Core().compile_model(graph, "CPU", settings)

    def run(batch: Tensor) -> list[Tensor]:
        return [torch.from_numpy(found) for found in network(batch.numpy()).values()]

    return run


def _quantised(graph: Any, images: Tensor) -> Any:
    import logging

    import nncf

    nncf.set_log_level(logging.ERROR)
    data = nncf.Dataset([images.numpy()])
    return nncf.quantize(graph, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=1)
