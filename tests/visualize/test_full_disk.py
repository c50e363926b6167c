"""On a full disk a picture is not there, and the error names it."""

import re

import numpy as np
import pytest

from data_tools.statistics import EDGES, published
from sparsevit3d.files import whole_file
from tests.support.disk import full_disk
from tests.support.keyframes import keyframe
from visualize.search import save_search
from visualize.sheet import save_contact_sheet
from visualize.speed import save_speed
from visualize.statistics import save_statistics
from visualize.video import save_video


def sheet(path, _):
    image = np.random.default_rng(0).integers(0, 255, (360, 640, 3), np.uint8)
    save_contact_sheet([(image, "one")] * 8, path, "made")


def recording(path, _):
    rerun_log = pytest.importorskip(
        "visualize.rerun_log", reason="rerun-sdk is not installed: pip install 'sparsevit3d[rerun]'"
    )
    rerun_log.save_recording((keyframe(number=n) for n in range(3)), path)


def speed(path, _):
    row = {"p50_ms": 1.0, "device": "cpu", "over_mmdet": 1.0, "parts": {"backbone": 1.0}}
    row["parts"] |= {"neck": 1.0, "head": 1.0, "decode": 1.0}
    rows = {"SparseSwin dense, float32": row}
    result = {"shape": (1, 3, 64, 96), "backbone": rows, "detector": rows, "share": {}}
    save_speed(result | {"versions": {"processor": "x"}, "subject": "made"}, path)


def search(path, _):
    plans = [("0.1|0", 0.1), ("0.5|0", 0.2), ("0.6|0", 0.15)]
    judged = [
        {"plan": plan, "metrics": {"mAP": score}, "costs": {"MACs": score}, "generation": 0}
        for plan, score in plans
    ]
    save_search(judged, "mAP", {"MACs": 0.6}, path)


WRITERS = {
    "drive.mp4": lambda path, _: save_video((keyframe(number=n) for n in range(3)), path, "made"),
    "drive.gif": lambda path, _: save_video((keyframe(number=n) for n in range(3)), path, "made"),
    "drive.rrd": recording,
    "sheet.png": sheet,
    "stats.png": lambda path, _: save_statistics({"nuScenes": published()}, EDGES, path),
    "speed.png": speed,
    "search.png": search,
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_output_is_whole_or_not_there_and_the_error_names_it(name, tmp_path):
    WRITERS[name](tmp_path / name, tmp_path)
    size = (tmp_path / name).stat().st_size
    assert size > 12_000
    with full_disk(tmp_path / "disk", 8192 if size < 40_000 else 32_768) as disk:
        with pytest.raises(OSError, match=rf"write elsewhere: '{re.escape(str(disk / name))}'"):
            WRITERS[name](disk / name, tmp_path)
        assert list(disk.iterdir()) == []


def test_a_video_that_is_cut_off_later_is_noticed_as_well(tmp_path):
    """The encoder writes the end of the file last."""
    save_video([keyframe()] * 3, tmp_path / "drive.mp4", "made")
    size = (tmp_path / "drive.mp4").stat().st_size
    with full_disk(tmp_path / "disk", size // 4096 * 4096) as disk:
        with pytest.raises(OSError, match="The encoder"):
            save_video([keyframe()] * 3, disk / "drive.mp4", "made")
        assert list(disk.iterdir()) == []


def test_a_disk_that_is_full_is_full(tmp_path):
    with (
        full_disk(tmp_path / "disk", 8192) as disk,
        pytest.raises(OSError, match="write elsewhere"),
        whole_file(disk / "file") as file,
    ):
        file.write(bytes(100_000))
