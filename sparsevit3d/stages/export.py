"""One file that finds boxes elsewhere: written, run beside the detector, and kept if they agree.

The file holds weights, plan, preprocessing of colours, decoding and suppression. Every shape in it
is fixed: images, cameras and boxes. How images are scaled, and what the numbers mean, stands in a
JSON file beside it.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from data_tools.convert import write_infos
from data_tools.info_file import read_infos
from data_tools.schema import ATTRIBUTES
from data_tools.synthetic.dataset import VERSION, Settings, make_dataset
from sparsevit3d.backbone import backbone_of
from sparsevit3d.detector.decode import can_decode
from sparsevit3d.detector.static import Part, StaticDetector
from sparsevit3d.errors import InputError
from sparsevit3d.files import fingerprint, write_json
from sparsevit3d.progress import Progress, no_progress
from sparsevit3d.stages.calibration import Camera
from sparsevit3d.stages.exported import ABOUT, SCHEMA, Exported
from sparsevit3d.stages.predict import FRAME, Detector, as_info

Format = Literal["pt2", "onnx", "openvino"]
FILES = {"pt2": "detector.pt2", "onnx": "detector.onnx", "openvino": "detector.xml"}
NEEDS = {"pt2": (), "onnx": ("onnx", "onnxscript", "onnxruntime")}
NEEDS["openvino"] = (*NEEDS["onnx"], "openvino")
OPSET = 18
SCORE = 1e-3  # how far scores may be apart
METRES = 0.01  # how far numbers of a box may be apart: metres, radians and metres a second
SHARE = 1e-3  # how far maps may be apart, as a share of their largest number
ROUNDS = 9  # passes, of which the first two are not timed
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


def export(
    detector: Detector,
    folder: Path,
    kind: Format,
    frames: Frames,
    part: Part = "boxes",
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write ``part`` of ``detector`` to ``folder``, for as many images as ``frames`` has.

    Then the file runs on ``frames``, which writing it never saw. Returns what detector.json holds,
    with the largest differences and the times of both.

    Raises InputError for a detector that has no static form, for a package that is missing, and for
    a file whose boxes differ. Such a file is removed.
    """
    net = backbone_of(detector.model)
    if not can_decode(detector.model.bbox_head):
        raise InputError(
            f"bbox_head.type {type(detector.model.bbox_head).__name__}: has no form of fixed "
            "shapes. FCOSMono3DHead and TowerNormHead have one, with use_rotate_nms=True."
        )
    if missing := [name for name in NEEDS[kind] if find_spec(name) is None]:
        extra = "export,openvino" if kind == "openvino" else "export"
        raise InputError(f"--format {kind}: needs {missing[0]}. pip install 'sparsevit3d[{extra}]'")
    net.budget = detector.config.model.backbone.get("budget", "image")  # a pass is a keyframe
    static = StaticDetector(detector.model, part).eval()
    path = folder / FILES[kind]
    folder.mkdir(parents=True, exist_ok=True)
    progress(0, 3, "tracing the network")
    fast = net.fast
    net.fast = False  # kernels of our own are no part of other runtimes
    try:
        program = _traced(static, frames)
    finally:
        net.fast = fast
    progress(1, 3, f"writing {path.name}")
    document = describe(detector, kind, static, frames)
    _write(program, kind, path, document)
    progress(2, 3, "running both on the same frames")
    write_json(folder / ABOUT, document)
    try:
        exported = Exported(folder)
        document["differences"] = compare(static, exported, frames)
    except InputError:
        for file in (path, path.with_suffix(".bin"), folder / ABOUT):
            file.unlink(missing_ok=True)
        raise
    document["milliseconds"] = _times(detector, part, exported, frames)
    write_json(folder / ABOUT, document)
    progress(3, 3, path.name)
    return document


def _traced(static: StaticDetector, frames: Frames) -> torch.export.ExportedProgram:
    images = torch.zeros_like(frames.images)
    with torch.no_grad(), _portable(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(static, (images, frames.cameras), strict=False)


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
    worst = {"boxes": 0, "score": 0.0, "box": 0.0}
    for image, sample in enumerate(samples):
        own = sample.pred_instances_3d
        rows = torch.cat([own.bboxes_3d.gravity_center, own.bboxes_3d.tensor[:, 3:]], 1)
        others = [one[image] for one in found]
        kept = others[1] > 0
        boxes, scores, labels, _ = (one[kept] for one in others)
        pairs = _pairs((rows, own.scores_3d, own.labels_3d), (boxes, scores, labels), threshold)
        for mine, other in pairs:
            apart = (rows[mine] - boxes[other]).abs().max()
            worst["score"] = max(worst["score"], float(abs(own.scores_3d[mine] - scores[other])))
            worst["box"] = max(worst["box"], float(apart))
        worst["boxes"] += len(pairs)
    if worst["score"] > SCORE or worst["box"] > METRES:
        raise InputError(
            f"the exported file differs: scores by {worst['score']:.2g}, boxes by "
            f"{worst['box']:.2g} m. Nothing was kept. Try another --format."
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
        if distance > 10 * METRES:
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
        "plan": str(detector.plan or "dense"),
        "images": {
            "shape": [count, 3, height, width],
            "type": "uint8",
            "colours": "blue, green, red",
            "scaling": "until the image covers width and height. Then rows are cut from the top, "
            "and columns from both sides.",
        },
        "cameras": {
            "shape": [count, 3, 3],
            "type": "float32",
            "what": "matrices in pixels of the scaled and cut image",
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


def _times(detector: Detector, part: Part, exported: Exported, frames: Frames) -> dict[str, float]:
    """Median milliseconds of the detector and of the file, which take turns."""
    contenders: dict[str, Callable[[], Any]] = {
        "file": lambda: exported(frames.images, frames.cameras)
    }
    if part == "boxes":
        contenders["detector"] = lambda: detector.model.test_step(frames.batch)
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    with torch.no_grad():
        for _ in range(ROUNDS):
            for name, once in contenders.items():
                start = perf_counter()
                once()
                taken[name].append(1000 * (perf_counter() - start))
    return {name: round(median(values[2:]), 2) for name, values in taken.items()}


def frames_of(detector: Detector, images: Sequence[tuple[Path, Camera]]) -> Frames:
    """Prepare images of calibrated cameras as the network takes them."""
    items = [detector.pipeline(as_info(path, "any", camera)) for path, camera in images]
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
