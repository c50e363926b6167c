"""One file that finds boxes elsewhere: written, run beside the detector, and kept if they agree.

The file holds weights, plan, preprocessing of colours, decoding and suppression. Every shape in it
is fixed: images, cameras and boxes. How images are scaled, and what the numbers mean, stands in a
JSON file beside it.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from data_tools.schema import ATTRIBUTES
from sparsevit3d.backbone import backbone_of
from sparsevit3d.detector.decode import can_decode
from sparsevit3d.detector.static import Part, StaticDetector
from sparsevit3d.errors import InputError, first_line
from sparsevit3d.files import fingerprint, read_json, write_json
from sparsevit3d.progress import Progress, no_progress
from sparsevit3d.stages.export_check import Frames, compare, times
from sparsevit3d.stages.exported import ABOUT, SCHEMA, Exported
from sparsevit3d.stages.predict import FRAME, Detector

Format = Literal["pt2", "onnx", "openvino"]
FILES = {"pt2": "detector.pt2", "onnx": "detector.onnx", "openvino": "detector.xml"}
NEEDS = {"pt2": (), "onnx": ("onnx", "onnxscript", "onnxruntime")}
NEEDS["openvino"] = (*NEEDS["onnx"], "openvino")
OPSET = 18


def export(
    detector: Detector,
    folder: Path,
    kind: Format,
    frames: Frames,
    part: Part = "boxes",
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write ``part`` of ``detector`` to ``folder``, for as many images as ``frames`` has.

    The file is for processors. It runs on ``frames``, which writing it never saw, and only then
    moves to ``folder``. Returns what detector.json holds, with the largest differences and the
    times of both.

    Raises InputError for a detector that has no static form, for a package or a compiler that is
    missing, for a folder of another format, and for a file whose boxes differ.
    """
    if not can_decode(detector.model.bbox_head):
        raise InputError(
            f"bbox_head.type {type(detector.model.bbox_head).__name__}: has no form of fixed "
            "shapes. FCOSMono3DHead and TowerNormHead have one, with use_rotate_nms=True."
        )
    if missing := [name for name in NEEDS[kind] if find_spec(name) is None]:
        extra = "export,openvino" if kind == "openvino" else "export"
        raise InputError(f"--format {kind}: needs {missing[0]}. pip install 'sparsevit3d[{extra}]'")
    _must_be_free(folder, kind)
    net = backbone_of(detector.model.cpu())
    budget = net.budget
    net.budget = detector.config.model.backbone.get("budget", "image")  # a pass is a keyframe
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export_") as unsure:
            document = _export(detector, Path(unsure), kind, frames, part, progress)
            for file in Path(unsure).iterdir():
                file.replace(folder / file.name)
    finally:
        net.budget = budget
    return document


def _must_be_free(folder: Path, kind: Format) -> None:
    """Make ``folder``. Raises InputError where an export of another format lies in it."""
    folder.mkdir(parents=True, exist_ok=True)
    about = folder / ABOUT
    if about.exists() and (found := read_json(about, "Remove it.").get("format")) != kind:
        raise InputError(f"{folder}: holds an export of format {found}. Use another --out.")


def _export(
    detector: Detector, folder: Path, kind: Format, frames: Frames, part: Part, progress: Progress
) -> dict[str, Any]:
    """Write the file and detector.json to ``folder``, and check them there."""
    static = StaticDetector(detector.model, part).eval()
    path = folder / FILES[kind]
    progress(0, 3, "tracing the network")
    program = _traced(static, frames)
    progress(1, 3, f"writing {path.name}")
    document = describe(detector, kind, static, frames)
    try:
        _write(program, kind, path, document)
    except RuntimeError as error:
        raise InputError(f"--format {kind}: cannot be written ({first_line(error)}).") from error
    progress(2, 3, "running both on the same frames")
    write_json(folder / ABOUT, document)
    exported = Exported(folder)
    document["differences"] = compare(static, exported, frames)
    document["milliseconds"] = times(detector, part, exported, frames)
    write_json(folder / ABOUT, document)
    progress(3, 3, path.name)
    return document


def _traced(static: StaticDetector, frames: Frames) -> torch.export.ExportedProgram:
    """Trace the network on a black image of a camera of no kind."""
    images = torch.zeros_like(frames.images)
    cameras = torch.eye(3).expand_as(frames.cameras).contiguous()
    net = static.detector.backbone
    fast = net.fast
    net.fast = False  # kernels of our own are no part of other runtimes
    try:
        with torch.no_grad(), _portable(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(static, (images, cameras), strict=False)
    finally:
        net.fast = fast


def _portable() -> Any:
    """Attention in plain products, which every runtime knows."""
    return sdpa_kernel([SDPBackend.MATH])


def _write(
    program: torch.export.ExportedProgram, kind: Format, path: Path, document: dict[str, Any]
) -> None:
    names = document["outputs"]
    if kind == "pt2":
        from torch._inductor import aoti_compile_and_package

        count, _, height, width = document["images"]["shape"]
        facts = {
            "torch": torch.__version__.partition("+")[0],
            "part": document["part"],
            "images": str(count),
            "height": str(height),
            "width": str(width),
            "classes": ",".join(document["classes"]),
        }
        aoti_compile_and_package(
            program,
            package_path=str(path),
            inductor_configs={"aot_inductor.metadata": facts},
        )
    elif kind == "onnx":
        _write_onnx(program, path, names)
    else:
        import openvino

        with tempfile.TemporaryDirectory() as folder:
            onnx = Path(folder) / FILES["onnx"]
            _write_onnx(program, onnx, names)
            openvino.save_model(openvino.convert_model(onnx), path, compress_to_fp16=False)


def _write_onnx(program: torch.export.ExportedProgram, path: Path, names: Sequence[str]) -> None:
    import onnx_ir
    from onnxscript import opset18

    def stable_sort(
        x: Any, stable: bool | None = None, dim: int = -1, descending: bool = False
    ) -> Any:
        """ONNX sorts by TopK alone, in which the first of equal values comes first, too."""
        if x.dtype == onnx_ir.DataType.BOOL:
            x = opset18.Cast(x, to=onnx_ir.DataType.FLOAT)
        place: Any = opset18.Constant(value_ints=[dim])
        count = opset18.Gather(opset18.Shape(x), place)
        return opset18.TopK(x, count, axis=dim, largest=int(descending), sorted=1)

    with _portable(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            custom_translation_table={torch.ops.aten.sort.stable: stable_sort},
            input_names=["images", "cameras"],
            output_names=list(names),
            verbose=False,
        )
        assert written is not None
        written.save(path)


def describe(
    detector: Detector, kind: Format, static: StaticDetector, frames: Frames
) -> dict[str, Any]:
    """What one has to know to use the file: its inputs, its outputs and where it came from."""
    count, _, height, width = frames.images.shape
    config = detector.model.bbox_head.test_cfg
    packages = ("sparsevit3d", *NEEDS[kind])
    return {
        "schema": SCHEMA,
        "format": kind,
        "file": FILES[kind],
        "part": static.part,
        "plan": str(detector.plan or "dense"),
        "images": {
            "shape": [count, 3, height, width],
            "type": "uint8",
            "colours": "blue, green, red",
            "lens": "free of distortion",
            "scaling": "until the image covers width and height, by area means where it shrinks. "
            "Then rows are cut from the top, and columns from both sides.",
        },
        "cameras": {
            "shape": [count, 3, 3],
            "type": "float32",
            "what": "matrices in pixels of the scaled and cut image: the first two rows times the "
            "scale, and the middle less what was cut from the left and the top",
        },
        "outputs": list(static.names),
        "boxes": FRAME,
        "classes": list(detector.config.classes),
        "attributes": list(ATTRIBUTES),
        "score_threshold": float(config.score_thr),
        "most_boxes": int(config.max_per_img),
        "weights": fingerprint(detector.checkpoint),
        "versions": {name: version(name) for name in packages} | {"torch": torch.__version__},
    }
