"""A user's calibration is held to the rules that ``data check`` holds a root to."""

import json
import re

import numpy as np
import pytest

from data_tools.intrinsics import axis_faults, matrix_faults
from sparsevit3d.errors import InputError
from sparsevit3d.stages.calibration import doubts, read_calibration


def calibrated(path, matrix, width=640, height=360):
    path.write_text(json.dumps({"front": {"intrinsic": matrix, "width": width, "height": height}}))
    return read_calibration(path)


def test_a_matrix_for_images_of_another_size_is_refused(tmp_path):
    native = [[1266.4, 0, 816.3], [0, 1266.4, 491.5], [0, 0, 1]]
    assert list(doubts(calibrated(tmp_path / "c.json", native, 1600, 900))) == []
    with pytest.raises(
        InputError,
        match=r"c\.json: camera 'front': the optical axis meets the image at 816, 492, outside "
        r"640 x 360\. Scale the matrix with the images\.",
    ):
        calibrated(tmp_path / "c.json", native)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ([[500, 0, 320], [0, 250, 180], [0, 0, 1]], r"fx / fy is 2\.00\. Scale both"),
        ([[500, 0, 160], [0, 500, 90], [0, 0, 1]], "at 160, 90, far from the middle of 640 x 360"),
    ],
)
def test_a_strange_matrix_is_doubted_but_taken(matrix, words, tmp_path):
    (doubt,) = doubts(calibrated(tmp_path / "c.json", matrix))
    assert doubt.startswith("camera 'front': ")
    assert re.search(words, doubt)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((0, 0), 0),
        ((1, 1), -500),
        ((2, 2), 0),
        ((2, 0), 1),
        ((0, 0), np.nan),
        ((0, 0), 1e-300),
        ((0, 0), 1e308),
        ((1, 0), 7),
    ],
)
def test_a_matrix_that_cannot_be_a_cameras_is_an_error_for_both(place, value, tmp_path):
    matrix = np.array([[500.0, 0, 320], [0, 500, 180], [0, 0, 1]])
    matrix[place] = value
    (fault,) = matrix_faults(matrix)
    assert (fault.kind, fault.warning) == ("impossible intrinsics", False)
    with pytest.raises(InputError, match=r"camera 'front': intrinsic is \[\[.*Put in the camera"):
        calibrated(tmp_path / "c.json", matrix.tolist())


LINE = json.dumps(
    {
        "front": {
            "intrinsic": [[500, 0, 320], [0, 500, 180], [0, 0, 1]],
            "width": 640,
            "height": 360,
        }
    }
)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[[500", f"[[1{'0' * 400}", r"intrinsic is \[\[1000.*, not a 3 x 3 matrix of numbers"),
        ("[[500", '[["500"', "not a 3 x 3 matrix of numbers"),
        ("[[500", "[[true", "not a 3 x 3 matrix of numbers"),
        ("[[500", f"[[{'[' * 200}1{']' * 200}", "not a 3 x 3 matrix of numbers"),
        ("[[500", f"[[{'[' * 99999}1{']' * 99999}", "is no calibration .it is nested too deeply"),
        ("640", f"1{'0' * 400}", "width is 1000.*, not a number of pixels"),
        ("640", "true", "width is True, not a number of pixels"),
        ("360}", '360, "images": 5}', "images is 5, not a pattern"),
    ],
)
def test_what_is_no_number_or_too_large_is_told_in_a_line(old, new, words, tmp_path):
    path = tmp_path / "c.json"
    path.write_text(LINE.replace(old, new, 1))
    with pytest.raises(InputError, match=rf"c\.json: .*{words}|c\.json: {words}") as told:
        read_calibration(path)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 500 + len(str(path))


def test_a_mark_of_the_byte_order_is_accepted(tmp_path):
    (tmp_path / "c.json").write_text(LINE, encoding="utf-8-sig")
    assert read_calibration(tmp_path / "c.json")["front"].width == 640


def test_an_axis_on_the_edge_is_outside():
    matrix = np.array([[500.0, 0, 640], [0, 500, 180], [0, 0, 1]])
    assert [fault.kind for fault in axis_faults(matrix, (640, 360))] == [
        "intrinsics of another size"
    ]
