"""Cameras stand in a picture by where they look."""

import pytest

from tests.support.keyframes import NUSCENES, keyframe
from visualize import video
from visualize.frames import box_sheet
from visualize.layout import camera_rows

RIGS = {
    "one": ({"front": 0}, ["front"]),
    "two": ({"rear": 180, "front": 0}, ["rear front"]),
    "three": ({"right": -60, "front": 0, "left": 60}, ["left front right"]),
    "four": (
        {"front right": -45, "front left": 45, "rear right": -135, "rear left": 135},
        ["front left|front right", "rear left|rear right"],
    ),
    "six": (
        NUSCENES,
        ["CAM_FRONT_LEFT|CAM_FRONT|CAM_FRONT_RIGHT", "CAM_BACK_LEFT|CAM_BACK|CAM_BACK_RIGHT"],
    ),
    "eight": (
        {str(angle): angle for angle in (0, 45, 90, 135, 180, -135, -90, -45)},
        ["90|45|0|-45", "135|180|-135|-90"],
    ),
}


@pytest.mark.parametrize("name", RIGS)
def test_cameras_stand_where_they_look(name):
    headings, rows = RIGS[name]
    views = keyframe(rig=headings).views
    expected = [row.split("|" if "|" in row else " ") for row in rows]
    assert [[views[n].channel for n in row] for row in camera_rows(views)] == expected


@pytest.mark.parametrize("name", RIGS)
def test_sheets_and_videos_show_every_camera_once_and_undistorted(name):
    moment = keyframe(rig=RIGS[name][0])
    figure = box_sheet(moment, name)
    shown = [axis for axis in figure.axes if axis.images]
    assert len(shown) == len(moment.views)
    width, height = figure.get_size_inches()
    for axis in shown:
        place = axis.get_position()
        assert place.width * width / (place.height * height) == pytest.approx(16 / 9, rel=0.1)
    corners = video.corners(moment.views)
    assert len(set(corners)) == len(moment.views)
    for corner in corners:
        assert corner.left + corner.width < 0.632
        assert corner.down < 0.46
        wide = corner.width * video.SIZE[0] / (corner.height * video.SIZE[1])
        assert wide == pytest.approx(16 / 9, rel=0.01)
