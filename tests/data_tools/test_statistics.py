"""What roots are like, counted; against counts by the devkit and by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from nuscenes import NuScenes
from nuscenes.eval.detection.utils import category_to_detection_name

from data_tools.statistics import published, statistics
from data_tools.synthetic.dataset import VERSION

CONSOLE = Path(sys.executable).parent / "sparsevit3d"


def test_counts_are_the_devkits(synthetic):
    found = statistics(synthetic, VERSION, 1)
    nusc = NuScenes(VERSION, str(synthetic), verbose=False)
    names = [category_to_detection_name(row["category_name"]) for row in nusc.sample_annotation]
    assert found["keyframes"] == len(nusc.sample)
    assert found["boxes_per_keyframe"] == pytest.approx(len(names) / len(nusc.sample))
    for name, share in found["class_share"].items():
        assert share == pytest.approx(names.count(name) / len(names))
        sizes = [
            row["size"]
            for row, own in zip(nusc.sample_annotation, names, strict=True)
            if own == name
        ]
        assert np.allclose(found["mean_size"][name], np.mean(sizes, axis=0), atol=1e-3)
    levels = [int(row["visibility_token"]) for row in nusc.sample_annotation]
    assert found["visibility_share"] == pytest.approx(
        [levels.count(level) / len(levels) for level in (1, 2, 3, 4)]
    )
    for name in ("distance", "speed", "lidar_points", "pixels"):
        assert sum(found[f"{name}_share"]) == pytest.approx(1.0)
    assert 0 < found["covered_share_of_image"] < 1


def test_the_same_for_any_number_of_workers(synthetic):
    one = statistics(synthetic, VERSION, 1)
    two = statistics(synthetic, VERSION, 2)
    assert one.pop("covered_share_of_image") == pytest.approx(two.pop("covered_share_of_image"))
    assert one == two


def test_published_shares_add_up():
    assert sum(published()["class_share"].values()) == pytest.approx(1.0)
    assert published()["boxes_per_keyframe"] == pytest.approx(33.2, abs=0.1)


def test_tables_without_files_are_enough(real):
    """scene-0916: tables alone. mmdet3d counts 2424 boxes, of which 18 are bicycle racks."""
    root = real.parent / "scene0916"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    found = statistics(root, "v1.0-mini", 1)
    assert found["keyframes"] == 41
    assert found["boxes_per_keyframe"] * 41 == pytest.approx(2406)
    assert found["class_share"]["car"] == pytest.approx(1598 / 2406)


@pytest.mark.slow
def test_table_and_picture_from_the_command_line(synthetic, tmp_path):
    arguments = ["data", "stats", synthetic, "--out", tmp_path / "stats.png"]
    done = subprocess.run(
        [CONSOLE, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "150"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "boxes per keyframe" in done.stdout
    assert imread(tmp_path / "stats.png").std() > 0.02
    assert set(json.loads((tmp_path / "stats.json").read_text())["datasets"]) == {
        "nuScenes, published",
        synthetic.name,
    }
    done = subprocess.run(
        [CONSOLE, "data", "sheet", synthetic, "--out", tmp_path / "sheet.png", "--count", "6"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert imread(tmp_path / "sheet.png").std() > 0.1
