"""What windows keep of objects, counted against windows and boxes laid out by hand."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevit3d.stages.views import Boxes, Keyframe
from sparsevit3d.swin.trace import BlockTrace
from tests.support.keyframes import NUSCENES, cube, keyframe, view_of
from visualize.geometry import box_outline, window_mask
from visualize.recall import Tally, recall_rows, save_recall

ALONE = ("kept", "random", "best")  # choices without a rival


def made(kept, corners, names):
    """One camera of 64 x 32 pixels with 2 x 4 windows of 16 pixels."""
    view = view_of(np.zeros((32, 64, 3), np.uint8), (64, 32), truth=Boxes(np.array(corners), names))
    trace = BlockTrace(0, 0, (8, 16), 4, 4, 0, (2, 4), None, np.array([kept], bool))
    return Keyframe("made", 0.0, "0.5", [view], [trace], np.zeros((0, 3)), view.truth, view.truth)


def on_window(number, depth=20.0, part=0.8):
    """A flat box that covers the middle of a window."""
    row, column = divmod(number, 4)
    return cube(
        depth,
        8 * part * depth / 100 / (1 + 0.08 * part),
        (16 * column + 8 - 32) * depth / 100,
        (16 * row + 8 - 16) * depth / 100,
    )


def test_an_object_in_one_window_is_kept_with_it():
    kept = np.array([1, 0, 1, 0, 1, 0, 1, 0])
    tally = Tally()
    tally.add(made(kept, [on_window(2), on_window(5, 40.0)], ["car", "pedestrian"]))
    found = tally.as_dict()
    (stage,) = found["stages"]
    assert stage["kept_windows"] == 0.5
    assert stage["class"]["car"]["share_of_pixels"]["kept"] > 0.95
    assert stage["class"]["pedestrian"]["share_of_pixels"]["kept"] < 0.05
    assert stage["class"]["car"]["share_of_objects"] == {
        "kept": 1,
        "random": pytest.approx(0.5, abs=0.1),
        "best": 1,
    }
    assert stage["class"]["pedestrian"]["share_of_objects"]["kept"] == 0
    assert stage["all"]["share_of_objects"]["kept"] == 0.5
    assert stage["all"]["share_of_pixels"]["best"] == 1  # both fit into four windows
    assert sum(group["objects"] for group in stage["distance"].values()) == 2
    assert stage["distance"]["30 - 50 m"]["objects"] == 1


def test_an_object_out_of_sight_does_not_count():
    tally = Tally()
    tally.add(
        made(np.ones(8), [on_window(1), cube(-10.0), cube(20.0, 1.0, 40.0)], ["car", "car", "bus"])
    )
    assert tally.as_dict()["stages"][0]["all"]["objects"] == 1


@settings(max_examples=20)
@given(st.integers(0, 2**20), st.sampled_from(["0.5|0.7", "0.2|0.8", "0|0"]))
def test_pixels_are_those_of_mask_and_outline(seed, plan):
    """Against masks and outlines painted whole, one object after the other."""
    one = keyframe(plan, seed)
    tally = Tally()
    tally.add(one)
    stages = tally.as_dict()["stages"]
    row, column = np.mgrid[0:90, 0:160]
    for stage, trace in zip(stages, (one.trace[0], one.trace[2]), strict=True):
        kept = 0
        total = 0
        for number, view in enumerate(one.views):
            mask = window_mask(view, trace, trace.kept[number])
            seen = window_mask(view, trace, np.ones_like(trace.kept[number]))
            for corners in view.truth.corners:
                inside = covered(box_outline(corners, view.intrinsic, (160, 90)), column, row)
                kept = kept + (mask & inside).sum()
                total = total + (seen & inside).sum()
        # some centres lie on an edge
        assert stage["all"]["share_of_pixels"]["kept"] == pytest.approx(kept / total, abs=0.01)


@settings(max_examples=20)
@given(st.integers(0, 2**20), st.sampled_from(["0.5|0.7", "0.2|0.8", "0.7|0.7"]))
def test_nothing_beats_the_best(seed, plan):
    tally = Tally()
    tally.add(keyframe(plan, seed))
    for stage in tally.as_dict()["stages"]:
        for group in (stage["all"], *stage["class"].values(), *stage["distance"].values()):
            for shares in (group["share_of_pixels"], group["share_of_objects"]):
                assert shares["best"] >= shares["kept"] - 1e-12
            assert group["share_of_pixels"]["best"] >= group["share_of_pixels"]["random"] - 1e-12


def test_a_rival_is_counted_beside_the_plan(tmp_path):
    boxes = [[on_window(2), on_window(5, 40.0)], ["car", "pedestrian"]]
    tally = Tally(["l2"])
    tally.add(
        made(np.array([0, 0, 1, 0, 0, 0, 0, 0]), *boxes),
        rivals={"l2": made(np.array([0, 0, 0, 0, 0, 1, 0, 0]), *boxes)},
    )
    found = tally.as_dict()
    (stage,) = found["stages"]
    for name, group in stage["class"].items():
        shares = group["share_of_objects"]
        assert tuple(shares) == ("kept", "l2", "random", "best")
        assert (shares["kept"], shares["l2"]) == ((1, 0) if name == "car" else (0, 1))
    save_recall(found, tmp_path / "recall.png", "made")
    assert (tmp_path / "recall.png").stat().st_size > 10_000


def test_the_best_windows_for_objects_and_for_pixels_differ():
    """One window kept: the large object's fullest has most pixels, but the small one fits into a
    window whole.
    """
    kept = np.array([1, 0, 0, 0, 0, 0, 0, 0])
    tally = Tally()
    wide = on_window(6, 10.0, 1.0) + np.array([0.8, 0, 0])  # across two windows and beyond
    tally.add(made(kept, [wide, on_window(1, 40.0, 0.3)], ["bus", "traffic_cone"]))
    (stage,) = tally.as_dict()["stages"]
    assert stage["all"]["share_of_objects"]["best"] == 0.5
    assert stage["class"]["traffic_cone"]["share_of_pixels"]["best"] == 1
    assert stage["all"]["share_of_pixels"]["best"] < 0.8


def test_chance_is_what_counting_every_choice_gives():
    """Two of eight windows, an object that lies half in each of two: half of it is enough, so one
    of them must be kept.
    """
    kept = np.array([1, 1, 0, 0, 0, 0, 0, 0])
    tally = Tally()
    tally.add(made(kept, [on_window(1, 20.0, 0.5) + np.array([1.6, 0, 0])] * 20, ["car"] * 20))
    chance = tally.as_dict()["stages"][0]["all"]["share_of_objects"]["random"]
    assert chance == pytest.approx(1 - (6 / 8) * (5 / 7), abs=0.1)


def covered(outline, column, row):
    """Which pixel centres lie in a convex polygon."""
    if not len(outline):
        return np.zeros(column.shape, bool)
    x = column + 0.5
    y = row + 0.5
    following = np.roll(outline, -1, 0)
    sides = [
        (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])
        for a, b in zip(outline, following, strict=True)
    ]
    return (np.array(sides) >= 0).all(0) | (np.array(sides) <= 0).all(0)


def test_dense_keeps_everything_and_the_picture_tells(tmp_path):
    tally = Tally()
    for number in range(2):
        tally.add(keyframe("0|0", number=number))
    found = json.loads(json.dumps(tally.as_dict()))
    for stage in found["stages"]:
        assert tuple(stage["all"]["share_of_pixels"]) == ALONE
        assert all(share == 1 for share in stage["all"]["share_of_pixels"].values())
        assert all(share == 1 for share in stage["all"]["share_of_objects"].values())
    assert {len(row) for row in recall_rows(found)} == {6}
    save_recall(found, tmp_path / "recall.png", "made")
    assert (tmp_path / "recall.png").stat().st_size > 10_000


def test_keyframes_without_objects_have_no_shares():
    empty = keyframe()
    nobody = [
        view_of(view.image, view.network_size, channel=channel)
        for view, channel in zip(empty.views, NUSCENES, strict=True)
    ]
    tally = Tally()
    tally.add(
        Keyframe(
            "made",
            0.0,
            "0.5|0.7",
            nobody,
            empty.trace,
            empty.points,
            empty.truth,
            empty.predictions,
        )
    )
    for stage in tally.as_dict()["stages"]:
        assert stage["all"] == {
            "objects": 0,
            "share_of_pixels": dict.fromkeys(ALONE),
            "share_of_objects": dict.fromkeys(ALONE),
        }
        assert stage["class"] == stage["distance"] == {}
