"""Run a file that ``sparsevit3d export`` wrote, through its own runtime.

    detector = Exported("exported")
    found = detector(images, cameras)  # found["boxes"], found["scores"] ...

For C++ see examples/cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsevit3d.errors import InputError
from sparsevit3d.files import read_json

ABOUT = "detector.json"
SCHEMA = 1  # of ABOUT
ANEW = "Export the detector anew."
Run = Callable[[Tensor, Tensor], Sequence[Tensor]]


class Exported:
    """An exported detector on this processor, with as many threads as torch has now.

    ``about`` is what detector.json says.

    Args:
        folder (Path or str): The ``--out`` of an export.

    Raises:
        InputError: A file is missing, or another version wrote it.
    """

    def __init__(self, folder: Path | str) -> None:
        about = existing(Path(folder) / ABOUT)
        self.about: dict[str, Any] = read_json(about, ANEW)
        if self.about.get("schema") != SCHEMA:
            raise InputError(
                f"{about}: has schema {self.about.get('schema')}, and this version reads {SCHEMA}. "
                f"{ANEW}"
            )
        self.path = existing(Path(folder) / self.about["file"])
        kind = self.about["format"]
        wrote = self.about["versions"]["torch"]
        if kind == "pt2" and wrote != torch.__version__:
            raise InputError(
                f"{self.path}: was written by torch {wrote}, and this is torch "
                f"{torch.__version__}. {ANEW}"
            )
        self._run = {"pt2": _load_pt2, "onnx": _load_onnx, "openvino": _load_openvino}[kind](
            self.path
        )

    def __call__(self, images: Tensor, cameras: Tensor) -> dict[str, Tensor]:
        """What is found in ``images`` (N, 3, H, W) uint8, by names of outputs.

        Colours are blue, green, red. ``cameras`` (N, 3, 3) float32 are the matrices of these
        images. Raises InputError for other shapes or types than those of the file.
        """
        for name, given in (("images", images), ("cameras", cameras)):
            wanted = self.about[name]
            kind = str(given.dtype).removeprefix("torch.")
            if [*given.shape] != wanted["shape"] or kind != wanted["type"]:
                raise InputError(
                    f"{name}: {kind} of shape {[*given.shape]}. {self.path} takes {wanted['type']} "
                    f"of shape {wanted['shape']}."
                )
        return dict(zip(self.about["outputs"], self._run(images, cameras), strict=True))


def existing(path: Path) -> Path:
    """The path of a file. Raises InputError where there is none."""
    if not path.is_file():
        raise InputError(f"{path}: is missing. {ANEW}")
    return path


def _load_pt2(path: Path) -> Run:
    from torch._inductor import aoti_load_package

    package = aoti_load_package(str(path))
    return lambda images, cameras: package(images, cameras)


def _load_onnx(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images, cameras: _tensors(
        session.run(None, {"images": images.numpy(), "cameras": cameras.numpy()})
    )


def _load_openvino(path: Path) -> Run:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    network = openvino.Core().compile_model(path, "CPU", settings)
    return lambda images, cameras: _tensors(network([images.numpy(), cameras.numpy()]).to_tuple())


def _tensors(found: Sequence[NDArray[Any]]) -> list[Tensor]:
    return [torch.from_numpy(np.array(one)) for one in found]
