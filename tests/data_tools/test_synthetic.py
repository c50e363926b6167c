"""The synthetic nuScenes: whole, the same for a seed, and of things that stand where they say and
not inside each other.
"""

import hashlib
import json
import multiprocessing
import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import psutil
import pytest
from nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box
from shapely import STRtree
from shapely.affinity import rotate, translate
from shapely.geometry import box as rectangle

from data_tools.check.run import check
from data_tools.schema import TABLES
from data_tools.synthetic.camera import develop
from data_tools.synthetic.catalogue import CATALOGUE
from data_tools.synthetic.dataset import VERSION, Settings, make_dataset
from data_tools.synthetic.drives import GROUND_CLEARANCE
from data_tools.synthetic.presets import PRESETS, make_drive
from data_tools.synthetic.render import World, take_photo, visible_shares
from data_tools.synthetic.rig import CAMERAS
from data_tools.synthetic.shapes import filling, mesh_of
from sparsevit3d.errors import InputError
from sparsevit3d.files import sole_owner

LITTLE = Settings((1, 1, 0), 1, 64, 36, seed=9)
VEHICLES = {"car", "truck", "bus", "trailer", "construction_vehicle"}


@pytest.fixture(scope="module")
def nusc(synthetic):
    return NuScenes(VERSION, str(synthetic), verbose=False)


@pytest.fixture(scope="module")
def with_sweeps(tmp_path_factory):
    settings = Settings((2, 0, 1), 3, 96, 54, seed=2, preset="standard", sweeps=True)
    return make_dataset(tmp_path_factory.mktemp("sweeps") / "root", settings)


def fingerprint(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_nothing_is_wrong_with_it(synthetic, with_sweeps):
    for root in (synthetic, with_sweeps):
        report = check(root, VERSION, True, 2)
        assert report.as_dict()["problems"] == []
        assert set(report.rows) == set(TABLES)
        assert report.decoded == report.files > 0


def test_splits_are_disjoint_and_have_all_ten_classes(synthetic, nusc):
    splits = json.loads((synthetic / VERSION / "splits.json").read_text())
    assert {"train", "search", "val"} <= set(splits)
    for one, other in combinations(("train", "search", "val"), 2):
        assert not set(splits[one]) & set(splits[other])
    for split in ("train", "val"):
        scenes = [scene for scene in nusc.scene if scene["name"] in splits[split]]
        samples = [nusc.get("sample", scene["first_sample_token"]) for scene in scenes]
        names = {
            nusc.get("sample_annotation", token)["category_name"]
            for sample in samples
            for token in sample["anns"]
        }
        assert len(names) == 10


def test_lidar_points_in_each_box_are_counted_truly(nusc):
    for sample in nusc.sample:
        path, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
        points = LidarPointCloud.from_file(path).points[:3]
        assert points.shape[1] > 10_000
        for box in boxes:
            assert (
                points_in_box(box, points).sum()
                == nusc.get("sample_annotation", box.token)["num_lidar_pts"]
                > 0
            )


def test_the_lidar_turns_ten_times_a_second_between_keyframes(with_sweeps):
    nusc = NuScenes(VERSION, str(with_sweeps), verbose=False)
    for scene in nusc.scene:
        token = nusc.get("sample", scene["first_sample_token"])["data"]["LIDAR_TOP"]
        turns = []
        while token:
            turns.append(nusc.get("sample_data", token))
            token = turns[-1]["next"]
        assert [row["is_key_frame"] for row in turns] == [
            True,
            *[False] * 4,
            True,
            *[False] * 4,
            True,
        ]
        assert set(np.diff([row["timestamp"] for row in turns])) == {100_000}
        clouds = [
            np.fromfile(with_sweeps / row["filename"], np.float32).reshape(-1, 5) for row in turns
        ]
        assert min(map(len, clouds)) > 10_000
        assert len({cloud.tobytes() for cloud in clouds}) > 1


@pytest.mark.parametrize("preset", PRESETS)
def test_boxes_project_to_where_their_pixels_are(preset):
    """Render keyframes again: the pixels of each thing lie within its projected annotation box."""
    size = (320, 180)
    checked = 0
    for number in range(3):
        drive = make_drive("look", preset, 1, number, 4)
        seconds = drive.times()[-1]
        world = World.of(drive, seconds)
        ego = drive.ego(seconds)
        for camera in CAMERAS:
            photo = take_photo(world, camera, size)
            for index, thing in enumerate(drive.things):
                rows, columns = np.nonzero(photo.owner == index)
                width, length, height = thing.size
                x, y, z = np.meshgrid(
                    [-length / 2, length / 2], [-width / 2, width / 2], [0, height]
                )
                turn = np.array(
                    [
                        [np.cos(thing.yaw), -np.sin(thing.yaw)],
                        [np.sin(thing.yaw), np.cos(thing.yaw)],
                    ]
                )
                ground = np.stack([x.ravel(), y.ravel()], 1) @ turn.T + thing.at(seconds)
                corners = (
                    np.column_stack([ground, z.ravel() + GROUND_CLEARANCE])
                    - (*ego, 0)
                    - camera.position
                )
                corners = corners @ camera.rotation().rotation_matrix
                if len(rows) < 40 or (corners[:, 2] < 0.5).any():
                    continue
                pixels = corners @ camera.intrinsic(size).T
                pixels = pixels[:, :2] / pixels[:, 2:]
                (left, top) = pixels.min(0)
                (right, bottom) = pixels.max(0)
                assert left - 1 <= columns.min() <= columns.max() <= right + 1
                assert top - 1 <= rows.min() <= rows.max() <= bottom + 1
                checked += 1
    assert checked > 20


def test_visibility_is_the_share_of_pixels_that_nothing_hides():
    """Against images of each thing by itself."""
    drive = make_drive("look", "standard", 1, 0, 1)
    size = (800, 450)
    world = World.of(drive, 0.0)
    checked = 0
    shares = visible_shares(world, len(drive.things))
    owners = [take_photo(world, camera, size).owner for camera in CAMERAS]
    empty = replace(drive.layout, scenery=drive.layout.scenery[:1])
    near = sorted(
        range(len(drive.things)),
        key=lambda index: np.hypot(*np.subtract(drive.things[index].at(0), drive.ego(0))),
    )
    for index in near[:12]:
        alone = World.of(
            replace(drive, things=(drive.things[index],), layout=empty, seed=(-1, index)), 0.0
        )
        there = sum(int((take_photo(alone, camera, size).owner == 0).sum()) for camera in CAMERAS)
        seen = sum(int((owner == index).sum()) for owner in owners)
        if there > 1500:
            assert shares[index] == pytest.approx(seen / there, abs=0.12)
            checked += 1
    assert checked > 4


@pytest.mark.parametrize("name", CATALOGUE)
def test_makes_fill_their_box_in_every_pose(name):
    for make in CATALOGUE[name]:
        for phase in (0.0, 1.0, 4.0):
            mesh = filling(mesh_of(make.shape(np.random.default_rng(0), phase)))
            assert np.allclose(mesh.vertices.min(0), (-0.5, -0.5, 0), atol=1e-6)
            assert np.allclose(mesh.vertices.max(0), (0.5, 0.5, 1), atol=1e-6)
    assert sum(make.share for make in CATALOGUE[name]) == pytest.approx(1.0)


def test_who_walks_moves_its_legs_and_who_stands_does_not():
    drive = make_drive("look", "standard", 1, 0, 10)
    people = [thing for thing in drive.things if thing.name == "pedestrian"]
    assert all(
        (thing.phase(0.3) != thing.phase(0.0)) == (thing.speed > 0 and thing.stops > 0)
        for thing in people
    )
    assert all(thing.attribute_at(1e9) == "pedestrian.standing" for thing in people if thing.speed)


def footprint(thing, seconds):
    shape = rectangle(-thing.size[1] / 2, -thing.size[0] / 2, thing.size[1] / 2, thing.size[0] / 2)
    return translate(
        rotate(shape, thing.yaw, origin=(0, 0), use_radians=True), *thing.at(seconds)
    ).buffer(-0.2)


@pytest.mark.parametrize("preset", PRESETS)
def test_nothing_stands_in_anything(preset):
    """No vehicle, barrier or cone in another, nobody in a vehicle, nothing in a wall or a post, and
    nothing in the ego.
    """
    for number in range(30):
        drive = make_drive("drive", preset, 3, number, 20)
        solid = [
            part
            for part in drive.layout.scenery
            if part.middle[2] - part.size[2] / 2 < 1.0
            and part.kind != "ball"
            and part.size[2] > 0.3
        ]
        walls = STRtree(
            [
                rectangle(
                    *(part.middle[i] - part.size[i] / 2 for i in (0, 1)),
                    *(part.middle[i] + part.size[i] / 2 for i in (0, 1)),
                )
                for part in solid
            ]
        )
        for seconds in drive.times()[::9]:
            x, y = drive.ego(seconds)
            shapes = [
                *(footprint(thing, seconds) for thing in drive.things),
                rectangle(x - 0.9, y - 0.8, x + 3.4, y + 0.8),
            ]
            names = [*(thing.name for thing in drive.things), "car"]
            tree = STRtree(shapes)
            for one, other in tree.query(shapes, predicate="intersects").T:
                pair = {names[one], names[other]}
                loose = pair <= {
                    "pedestrian",
                    "bicycle",
                    "motorcycle",
                    "traffic_cone",
                    "barrier",
                } and pair & {
                    "pedestrian",
                    "bicycle",
                    "motorcycle",
                }
                assert one >= other or loose, (drive.layout.name, pair, number, seconds)
            for one, wall in walls.query(shapes[:-1], predicate="intersects").T:
                assert not names[one], (drive.layout.name, names[one], solid[wall], number, seconds)


@pytest.mark.parametrize("preset", PRESETS)
def test_no_image_is_black_white_or_empty(preset):
    layouts = set()
    lights = set()
    for number in range(24):
        drive = make_drive("look", preset, 7, number, 1)
        camera = CAMERAS[number % 6]
        photo = take_photo(World.of(drive, 0.0), camera, (160, 90))
        rng = np.random.default_rng(number)
        image = develop(
            photo, camera, drive.layout.ego_speed, drive.light.name, PRESETS[preset].look, rng
        )
        assert 20 < image.mean() < 225
        assert image.std() > 12
        layouts.add(drive.layout.name)
        lights.add(drive.light.name)
    if preset != "easy":
        assert layouts == {"street", "crossing", "parking", "motorway"}
        assert lights == {"day", "overcast", "rain", "dusk"}


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_workers(tmp_path):
    settings = Settings((2, 1, 0), 2, 64, 36, seed=9, preset="standard", sweeps=True)
    one = make_dataset(tmp_path / "one", settings)
    two = make_dataset(tmp_path / "two", settings, workers=2)
    assert fingerprint(one) == fingerprint(two)
    other = make_dataset(tmp_path / "other", replace(settings, seed=10))
    assert fingerprint(other) != fingerprint(one)


def test_killed_and_called_again_ends_the_same(tmp_path):
    settings = Settings((2, 1, 1), 1, 64, 36, seed=9)
    process = multiprocessing.get_context("spawn").Process(
        target=make_dataset, args=(tmp_path / "killed", settings)
    )
    process.start()
    while process.is_alive() and not list((tmp_path / "killed").glob("scenes/*.json")):
        time.sleep(0.005)
    process.kill()
    process.join()
    done = []
    killed = make_dataset(
        tmp_path / "killed", settings, progress=lambda count, total: done.append(count)
    )
    assert done[-1] == 4
    assert fingerprint(killed) == fingerprint(make_dataset(tmp_path / "whole", settings))


def test_workers_leave_with_a_parent_that_is_killed(tmp_path):
    settings = Settings((40, 1, 1), 1, 64, 36)
    process = multiprocessing.get_context("spawn").Process(
        target=make_dataset, args=(tmp_path / "root", settings, 2)
    )
    process.start()
    while process.is_alive() and not list((tmp_path / "root").glob("scenes/*.json")):
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    process.join()
    assert psutil.wait_procs(workers, timeout=60)[1] == []


def test_two_calls_do_not_render_into_one_folder(tmp_path):
    (tmp_path / "root").mkdir()
    with (
        sole_owner(tmp_path / "root"),
        pytest.raises(InputError, match="another call is writing here"),
    ):
        make_dataset(tmp_path / "root", Settings((1, 0, 0), 1, 64, 36))


def test_a_folder_of_something_else_is_refused(tmp_path):
    make_dataset(tmp_path / "made", LITTLE)
    with pytest.raises(InputError, match=r"its \S+ is .*, not .*Use another folder, or remove it"):
        make_dataset(tmp_path / "made", Settings((1, 1, 1), 1, 64, 36))
    (tmp_path / "made/synthetic.json").write_text('{"scenes": [1')
    with pytest.raises(InputError, match=r"synthetic\.json: is damaged .*Use another folder, or"):
        make_dataset(tmp_path / "made", LITTLE)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        make_dataset(tmp_path, LITTLE)
    with pytest.raises(InputError, match="not all 0"):
        Settings((0, 0, 0))
    with pytest.raises(InputError, match="there are easy, standard, hard"):
        Settings(preset="harder")
