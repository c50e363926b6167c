"""Detectors of fixed shapes, and files for other runtimes: the boxes are those of the detector."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sparsevit3d.backbone import backbone_of
from sparsevit3d.detector.static import StaticDetector
from sparsevit3d.errors import InputError
from sparsevit3d.stages.export import export
from sparsevit3d.stages.export_check import compare, frames_of, made_frames
from sparsevit3d.stages.exported import Exported
from sparsevit3d.stages.predict import Detector

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "zoo"
CONSOLE = Path(sys.executable).parent / "sparsevit3d"


@pytest.fixture(scope="module")
def street():
    with made_frames(3) as found:
        yield found


@pytest.fixture
def detector():
    found = Detector(ZOO / "pruned.safetensors")
    backbone_of(found.model).budget = "batch"
    return found


class Direct:
    """The static detector, called as an exported file is."""

    def __init__(self, static):
        self.static = static

    def __call__(self, images, cameras):
        with torch.no_grad():
            return dict(zip(self.static.names, self.static(images, cameras), strict=True))


@pytest.mark.parametrize("plan", [None, "0|0|0|0", "0.3|0.4|0|0.5"])
@pytest.mark.parametrize("suppression", ["rotate", "circle"])
def test_fixed_shapes_find_the_detector_s_boxes(detector, street, plan, suppression):
    if plan:
        detector.plan = plan
    detector.model.bbox_head.test_cfg.update(nms_type=suppression, min_radius=[1.5] * 10)
    frames = frames_of(detector, street)
    static = StaticDetector(detector.model).eval()
    differences = compare(static, Direct(static), frames)
    assert differences["boxes"] > 20
    assert differences["score"] < 1e-5
    assert differences["box"] < 1e-3


def test_boxes_that_differ_are_refused(detector, street):
    frames = frames_of(detector, street)
    static = StaticDetector(detector.model).eval()

    class Wrong(Direct):
        def __call__(self, images, cameras):
            found = super().__call__(images, cameras)
            return found | self.changed(found)

    class Moved(Wrong):
        def changed(self, found):
            return {"boxes": found["boxes"] + 0.02}

    class Missing(Wrong):
        def changed(self, found):
            return {"scores": found["scores"] * (found["scores"] < found["scores"].max())}

    class Lost(Wrong):
        def changed(self, found):
            return {"boxes": found["boxes"] * torch.nan}

    class OfAnotherAttribute(Wrong):
        def changed(self, found):
            return {"attributes": found["attributes"] + 1}

    class OfAnotherClass(Wrong):
        def changed(self, found):
            return {"labels": 9 - found["labels"]}

    for wrong, words in (
        (Moved, r"boxes by 0.02 m"),
        (Missing, r"1 boxes are found by one of both alone"),
        (Lost, r"boxes are found by one of both alone"),
        (OfAnotherAttribute, r"boxes by .* m, \d+ attributes"),
        (OfAnotherClass, r"boxes are found by one of both alone"),
    ):
        with pytest.raises(InputError, match=words):
            compare(static, wrong(static), frames)


def test_a_head_without_a_static_form_and_a_folder_without_a_file_are_refused(
    detector, street, tmp_path
):
    detector.model.bbox_head.test_cfg.use_rotate_nms = False
    with pytest.raises(InputError, match=r"TowerNormHead: has no form of fixed shapes"):
        export(detector, tmp_path, "onnx", frames_of(detector, street))
    with pytest.raises(InputError, match=r"detector.json: is missing. Export the detector anew"):
        Exported(tmp_path)
    (tmp_path / "detector.json").write_text('{"format": "pt2"}')
    detector.model.bbox_head.test_cfg.use_rotate_nms = True
    with pytest.raises(InputError, match=r"holds an export of format pt2. Use another --out"):
        export(detector, tmp_path, "onnx", frames_of(detector, street))


def test_nothing_found_is_nothing_compared(detector, street):
    detector.model.bbox_head.test_cfg.score_thr = 1.0
    static = StaticDetector(detector.model).eval()
    with pytest.raises(InputError, match=r"nothing can be compared. Use --frames"):
        compare(static, Direct(static), frames_of(detector, street))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_file_for_another_runtime_finds_the_detector_s_boxes(kind, tmp_path):
    pytest.importorskip("onnxruntime" if kind == "onnx" else "openvino")
    done = run_export(tmp_path / "out", "--format", kind, "--images", "2")
    assert "boxes on frames that the export never saw" in done
    about = json.loads((tmp_path / "out/detector.json").read_text())
    assert about["differences"]["boxes"] > 10
    assert about["plan"] == "0.7|0.8|0.5|0.3"
    found = Exported(tmp_path / "out")
    with pytest.raises(InputError, match=r"images: float32 of shape \[1, 3, 8, 8\]. .* takes"):
        found(torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 3))
    about["schema"] = 0
    (tmp_path / "out/detector.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"has schema 0, and this version reads 1"):
        Exported(tmp_path / "out")


@pytest.mark.slow
def test_the_backbone_alone(tmp_path):
    pytest.importorskip("onnxruntime")
    done = run_export(tmp_path, "--format", "onnx", "--part", "backbone", "--images", "1")
    assert "Maps differ by at most" in done
    assert json.loads((tmp_path / "detector.json").read_text())["outputs"] == [
        "map_1",
        "map_2",
        "map_3",
    ]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cmake"), reason="needs CMake")
def test_a_program_without_python_finds_the_same_boxes(street, tmp_path):
    run_export(tmp_path / "out", "--images", "3")
    torch_files = torch.utils.cmake_prefix_path
    source = ROOT / "examples/cpp"
    build = ("cmake", "-S", source, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={torch_files}")
    subprocess.run(build, check=True, capture_output=True)
    subprocess.run(("cmake", "--build", tmp_path / "b"), check=True, capture_output=True)
    detector = Detector(ZOO / "pruned.safetensors")
    frames = frames_of(detector, street)
    images = []
    for number, image in enumerate(frames.images):
        images.append(tmp_path / f"{number}.ppm")
        Image.fromarray(image.flip(0).permute(1, 2, 0).numpy()).save(images[-1])
    cameras = tmp_path / "cameras.txt"
    np.savetxt(cameras, frames.cameras.reshape(-1, 9).numpy(), fmt="%.9g")
    program = (tmp_path / "b/detect", tmp_path / "out/detector.pt2")
    told = subprocess.run((*program, cameras, *images), check=True, capture_output=True, text=True)
    found = Exported(tmp_path / "out")(frames.images, frames.cameras)
    rows = []
    for image, path in enumerate(images):
        places = int((found["scores"][image] > 0).sum())
        kept = (found[name][image, :places].tolist() for name in ("boxes", "scores", "labels"))
        for box, score, label in zip(*kept, strict=True):
            rows.append((str(path), detector.config.classes[label], score, *box[:7]))
    lines = [line.split() for line in told.stdout.splitlines()]
    assert len(lines) == len(rows) > 20
    for line, row in zip(lines, rows, strict=True):
        assert line[:2] == [*row[:2]]
        assert [float(word) for word in line[2:]] == pytest.approx(row[2:], rel=1e-4, abs=1e-4)
    (tmp_path / "cut.ppm").write_bytes(images[0].read_bytes()[:1000])
    (tmp_path / "few.txt").write_text("1 0 0 0 1 0 0 0 1")
    for words, line in (
        ((*program, cameras, images[0]), "takes 3 images at a time, not 1"),
        ((*program, tmp_path / "few.txt", *images), "holds 9 numbers, and 3 cameras need 27"),
        ((*program, cameras, *images[:2], tmp_path / "cut.ppm"), "cut.ppm: was cut off"),
        ((*program, cameras, *images[:2], tmp_path / "out/detector.json"), "is no binary PPM"),
        ((program[0], tmp_path / "no.pt2", cameras, *images), "no.pt2: cannot be read"),
    ):
        bad = subprocess.run(words, check=False, capture_output=True, text=True)
        assert bad.returncode == 1
        assert line in bad.stderr
        assert bad.stderr.count("\n") == 1


def run_export(out, *options):
    words = (CONSOLE, "export", ZOO / "pruned.safetensors", "--out", out, *options)
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return " ".join(done.stdout.split())
