"""Pictures of keyframes made by hand: what is on them, and what is refused."""

from dataclasses import replace

import imageio.v2 as imageio
import matplotlib.image
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from sparsevit3d import SparseSwin, record_windows
from sparsevit3d.errors import InputError
from sparsevit3d.stages.views import NO_BOXES, Boxes
from tests.support.keyframes import cube, keyframe, view_of
from visualize import video
from visualize.bird import REACH, bird_sheet
from visualize.compare import as_the_network_sees, save_comparison
from visualize.frames import box_sheet, pixels, shrink
from visualize.geometry import box_lines, box_outline, clip_line, window_map
from visualize.masks import importance_sheet, save_masks, stage_block, stage_blocks, survival_sheet
from visualize.scene import make_scene, render, show
from visualize.training import training_pictures

RED = np.array([255, 158, 0])  # a car's colour


@example([0.0, 0.0, 0.0, -5e-324])
@given(st.lists(st.floats(-300, 300), min_size=4, max_size=4))
def test_a_clipped_line_is_the_part_that_lies_in_the_frame(ends):
    line = np.array(ends).reshape(2, 2)
    inside = clip_line(line, (160, 90))
    along = line[0] + np.linspace(0, 1, 2001)[:, None] * (line[1] - line[0])
    seen = along[((along >= 0) & (along <= [160, 90])).all(1)]
    if inside is None:  # it may touch the frame, but no part of it lies there that has a length
        assert not len(seen) or (np.ptp(seen, 0) < np.abs(line[1] - line[0]) / 2000 + 1e-300).all()
        return
    assert (inside >= -1e-6).all()
    assert (inside <= np.array([160, 90]) + 1e-6).all()
    if len(seen):
        assert np.allclose(np.sort(inside, 0), np.sort(np.stack([seen[0], seen[-1]]), 0), atol=0.4)


def test_an_outline_holds_the_edges_and_no_more_than_the_frame():
    view = view_of(np.zeros((90, 160, 3), np.uint8), (160, 90))
    assert np.allclose(
        sorted(map(tuple, box_outline(cube(11.0), view.intrinsic, (160, 90)))),
        [(70, 35), (70, 55), (90, 35), (90, 55)],
    )
    through = box_outline(cube(0.5), view.intrinsic, (160, 90))
    assert (through.min(0) == 0).all()
    assert (through.max(0) == [160, 90]).all()
    for gone in (cube(-10.0), cube(10.0, 1.0, 50.0)):
        assert len(box_outline(gone, view.intrinsic, (160, 90))) == 0
    assert len(box_lines(cube(10.0, 1.0, 50.0), view.intrinsic, (160, 90))) == 0


def test_every_picture_of_windows_is_written(tmp_path):
    paths = save_masks(keyframe(), tmp_path / "sheets", "made by hand")
    stages = [f"{kind}_stage{stage}.png" for stage in (0, 1) for kind in ("windows", "importance")]
    assert [path.name for path in paths] == [*stages, "blocks.png", "survival.png"]
    assert sorted(paths) == sorted((tmp_path / "sheets").iterdir())
    for path in paths:
        picture = matplotlib.image.imread(path)
        assert picture.shape[1] == 1600
        assert picture[..., :3].std() > 0.1
    dense = save_masks(keyframe("0|0"), tmp_path / "dense", "made by hand")
    assert [path.name for path in dense] == [
        "windows_stage0.png",
        "windows_stage1.png",
        "blocks.png",
        "survival.png",
    ]


def test_each_block_can_have_its_sheet(tmp_path):
    names = {
        path.name for path in save_masks(keyframe(), tmp_path, "made by hand", each_block=True)
    }
    blocks = [
        f"{kind}_stage{stage}_block{block}.png"
        for stage in (0, 1)
        for block in (0, 1)
        for kind in ("windows", "importance")
    ]
    assert names == {*blocks, "blocks.png", "survival.png"}


@pytest.mark.parametrize("plan", ["0.2,0.6|0", "falling:0.6,0.2|0"])
def test_a_stage_is_shown_by_its_plain_block_that_computes_least(plan):
    torch.manual_seed(0)
    net = SparseSwin(
        embed_dims=8, depths=(4, 2), num_heads=(1, 1), window_size=4, out_indices=(1,), plan=plan
    ).eval()
    with torch.no_grad(), record_windows(net) as trace:
        net(torch.randn(2, 3, 64, 128))
    (first, second) = stage_blocks(trace)
    assert (first.shift, first.share, second.share) == (0, min(one.share for one in trace[:4]), 1)
    for other in trace[:4:2]:
        assert (first.kept <= other.kept).all()


def test_survival_counts_the_blocks(tmp_path):
    from visualize.geometry import survival

    one = keyframe("0.5|0")
    lasted = survival(one.views[0], one.trace, 0)
    assert np.isnan(lasted[:10]).all()  # cropped
    assert np.isfinite(lasted[10:]).all()
    numbers = window_map(one.views[0], one.trace[0])[10:]
    shifted = window_map(one.views[0], one.trace[1])[10:]
    expected = (one.trace[0].kept[0][numbers] + one.trace[1].kept[0][shifted].astype(float) + 2) / 4
    assert np.allclose(lasted[10:], expected)
    assert survival_sheet(one, "made").get_figwidth() == 16


def test_from_above_a_car_ahead_is_up_and_one_to_the_left_is_left():
    one = replace(keyframe(), points=np.zeros((0, 3)), truth=NO_BOXES)
    found = []
    for x, y in ((30.0, 0.0), (0.0, 30.0)):
        corners = cube(0.0, 3.0) @ np.array([[0, -1, 0], [0, 0, -1], [-1, 0, 0]]) + [x, y, 1]
        sheet = bird_sheet(
            replace(one, predictions=Boxes(corners[None], ["car"], np.array([0.9]))), "made"
        )
        picture = pixels(sheet)
        body = picture[100:-100].astype(int)
        rows, columns = np.nonzero((np.abs(body - RED) < 60).all(-1))
        found.append((columns.mean() / picture.shape[1], (rows.mean() + 100) / picture.shape[0]))
    (ahead_x, ahead_y), (left_x, left_y) = found
    assert ahead_x == pytest.approx(0.5, abs=0.02)
    assert left_x == pytest.approx(0.5 - 30 / REACH / 2, abs=0.03)
    assert left_y - ahead_y == pytest.approx(30 / REACH / 2 * 0.9, abs=0.03)


def test_boxes_on_a_sheet_are_there_and_faint_ones_are_not():
    one = keyframe()
    drawn = pixels(box_sheet(one, "made"))
    plain = pixels(box_sheet(without_boxes(one), "made"))
    assert (drawn != plain).any(-1).mean() > 0.002
    faint = replace(one.views[1].predictions, scores=np.array([0.1, 0.1]))
    views = [replace(view, truth=NO_BOXES, predictions=faint) for view in one.views]
    assert np.array_equal(
        pixels(box_sheet(replace(one, views=views), "made"))[100:-100], plain[100:-100]
    )


def without_boxes(one):
    return replace(
        one, views=[replace(view, truth=NO_BOXES, predictions=NO_BOXES) for view in one.views]
    )


def test_the_scene_shows_points_where_a_pinhole_camera_sees_them():
    """A red point 12 m ahead and 3 m to the left of the way the eye looks."""
    one = replace(
        keyframe(), points=np.array([[12.0, 3.0, 1.0]]), truth=NO_BOXES, predictions=NO_BOXES
    )
    scene = make_scene(one)
    assert (scene.point_colours > 0.05).any()
    scene = replace(
        scene,
        point_colours=np.array([[1.0, 0, 0]]),
        lines=np.zeros((0, 2, 3)),
        line_colours=np.zeros((0, 3)),
    )
    image = render(scene, (400, 200), eye=np.array([0.0, 0, 1]), target=np.array([10.0, 0, 1]))
    rows, columns = np.nonzero(image[..., 0].astype(int) - image[..., 2] > 20)
    focal = 200 / np.tan(np.radians(55 / 2))
    assert columns.mean() == pytest.approx(200 - focal * 3 / 12, abs=1.5)
    assert rows.mean() == pytest.approx(100, abs=1.5)


def test_points_are_darker_where_windows_were_pruned():
    one = keyframe()
    view = one.views[1]
    one = replace(
        one, views=[replace(each, image=np.full_like(each.image, 200)) for each in one.views]
    )
    there = (
        view.to_ego[:3, 3]
        + np.array([10.0, 0, 0])
        + np.random.default_rng(0).uniform(-3, 3, (500, 3)) * [0, 1, 0.5]
    )
    colours = make_scene(replace(one, points=there)).point_colours.mean(1)
    assert len(np.unique(colours.round(3))) == 2
    all_kept = make_scene(
        replace(keyframe("0|0"), views=one.views, points=there)
    ).point_colours.mean(1)
    assert len(np.unique(all_kept.round(3))) == 1


def test_points_that_two_cameras_see_are_as_bright_as_the_one_that_kept_them():
    """Two cameras at the same place, one of which kept nothing, in either order; and a third that
    cropped everything away.
    """
    one = keyframe()
    view = replace(one.views[1], image=np.full_like(one.views[1].image, 200))
    there = view.to_ego[:3, 3] + np.array([[10.0, 0, 0]])
    block = one.trace[0]
    for kept in ([True, False], [False, True]):
        trace = [replace(block, kept=np.stack([np.full(32, each) for each in kept]))]
        bright = make_scene(
            replace(one, points=there, views=[view, view], trace=trace)
        ).point_colours.mean()
        assert bright == pytest.approx(0.35 + 0.65 * 200 / 255)
    cropped = replace(view, offset=(0.0, 80.0))
    trace = [replace(block, kept=np.ones((1, 32), bool))]
    grey = make_scene(replace(one, points=there, views=[cropped], trace=trace)).point_colours
    nobody = make_scene(
        replace(one, points=there - [40.0, 0, 0], views=[view], trace=trace)
    ).point_colours
    assert np.allclose(grey, nobody)


def test_what_needs_a_display_says_so(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="no display"):
        show(make_scene(keyframe()), "made")


@pytest.mark.parametrize("name", ["drive.mp4", "drive.gif"])
def test_a_video_has_a_frame_for_each_keyframe(name, tmp_path):
    path = video.save_video((keyframe(number=n) for n in range(3)), tmp_path / name, "made")
    with imageio.get_reader(path) as frames:
        found = list(frames.iter_data())
    assert len(found) == 3
    assert found[0].shape[:2] == ((1080, 1920) if name.endswith("mp4") else (540, 960))
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_video_that_fails_leaves_nothing_behind(tmp_path):
    def broken():
        yield keyframe()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        video.save_video(broken(), tmp_path / "drive.mp4", "made")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"\.mp4 or \.gif"):
        video.save_video([keyframe()], tmp_path / "drive.avi", "made")


def test_without_the_encoder_a_video_is_a_gif(monkeypatch, tmp_path):
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    assert video.save_video([keyframe()], tmp_path / "drive.mp4", "made") == tmp_path / "drive.gif"


def test_the_comparison_shows_the_networks_own_pixels(tmp_path):
    one = keyframe()
    seen = as_the_network_sees(one.views[0])
    assert seen.image.shape == (64, 128, 3)
    assert seen.image.mean() == pytest.approx(one.views[0].image[10:].mean(), rel=0.02)
    trace = [replace(block, kept=block.kept[:1], scores=block.scores[:1]) for block in one.trace]
    path = save_comparison(
        one.views[0], trace, (92, 46), (1.0, 0.5, 0.52), tmp_path / "compare.png"
    )
    assert matplotlib.image.imread(path).shape[1] == 1800


def test_what_cannot_be_drawn_is_refused_in_plain_words(tmp_path):
    one = keyframe("0|0")
    with pytest.raises(InputError, match="trace is empty"):
        save_masks(replace(one, trace=[]), tmp_path, "made")
    with pytest.raises(InputError, match="stage 0 prunes nothing"):
        importance_sheet(one.views, one.trace[0], "made")
    with pytest.raises(InputError, match=r"no stage 5\. There are 0, 1"):
        stage_block(one.trace, 5)


def test_a_smaller_view_sees_the_same():
    one = keyframe()
    small = shrink(one.views[0], 80)
    assert small.image.shape == (45, 80, 3)
    large = window_map(one.views[0], one.trace[0])
    assert (window_map(small, one.trace[0]) == large[1::2, 1::2]).mean() > 0.95
    assert np.allclose(
        2 * box_lines(cube(9.0), small.intrinsic), box_lines(cube(9.0), one.views[0].intrinsic)
    )
    assert shrink(small, 800) is small


def test_pictures_for_training_are_rgb():
    found = training_pictures(keyframe())
    assert set(found) == {"boxes", "bird", "windows"}
    assert all(picture.dtype == np.uint8 and picture.shape[2] == 3 for picture in found.values())


def test_a_recording_holds_every_keyframe(tmp_path):
    rerun_log = pytest.importorskip(
        "visualize.rerun_log", reason="rerun-sdk is not installed: pip install 'sparsevit3d[rerun]'"
    )
    import rerun

    path = rerun_log.save_recording((keyframe(number=n) for n in range(3)), tmp_path / "drive.rrd")
    recording = rerun.dataframe.load_recording(path)
    places = {str(column.entity_path) for column in recording.schema().component_columns()}
    wanted = {
        "/ego/lidar",
        "/ego/truth",
        "/ego/found",
        "/ego/CAM_FRONT/frame",
        "/ego/CAM_BACK/stage_1",
    }
    assert wanted <= places
    rows = recording.view(index="keyframe", contents="/ego/lidar").select().read_all()
    assert rows.num_rows == 3

    def broken():
        yield keyframe()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        rerun_log.save_recording(broken(), tmp_path / "broken.rrd")
    assert [p.name for p in tmp_path.iterdir()] == ["drive.rrd"]
