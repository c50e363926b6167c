import hashlib
import json
import multiprocessing
import time
from itertools import combinations

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box

from data_tools.synthetic.drives import SIZES, make_drive
from data_tools.synthetic.shapes import SHAPES, mesh_of
from data_tools.synthetic.dataset import TABLES, VERSION, Settings, SyntheticError, make_dataset

LITTLE = Settings((1, 1, 0), 1, 64, 36, seed=9)


@pytest.fixture(scope="module")
def nusc(synthetic):
    return NuScenes(VERSION, str(synthetic), verbose=False)


def fingerprint(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_all_13_tables_and_every_reference_hold(synthetic, nusc):
    rows = {name: json.loads((synthetic / VERSION / f"{name}.json").read_text()) for name in TABLES}
    assert len(rows) == 13
    tokens = {name: {row["token"] for row in table} for name, table in rows.items()}
    assert all(len(tokens[name]) == len(table) for name, table in rows.items())
    for table in rows.values():
        for row in table:
            for key, value in row.items():
                kind = key.removesuffix("_token")
                if key.endswith("_token") and kind in tokens and value:
                    assert value in tokens[kind], (key, value)
    for data in nusc.sample_data:
        assert (synthetic / data["filename"]).is_file()


def test_splits_are_disjoint_and_have_all_ten_classes(synthetic, nusc):
    splits = json.loads((synthetic / VERSION / "splits.json").read_text())
    assert {"train", "search", "val"} <= set(splits)
    for one, other in combinations(("train", "search", "val"), 2):
        assert not set(splits[one]) & set(splits[other])
    for split in ("train", "val"):
        scenes = [scene for scene in nusc.scene if scene["name"] in splits[split]]
        samples = [nusc.get("sample", scene["first_sample_token"]) for scene in scenes]
        names = {nusc.get("sample_annotation", token)["category_name"] for sample in samples for token in sample["anns"]}
        assert len(names) == 10


def test_lidar_points_in_each_box_are_counted_truly(nusc):
    for sample in nusc.sample:
        path, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
        points = LidarPointCloud.from_file(path).points[:3]
        assert points.shape[1] > 10_000
        for box in boxes:
            assert points_in_box(box, points).sum() == nusc.get("sample_annotation", box.token)["num_lidar_pts"] > 0


def test_boxes_project_to_where_their_pixels_are():
    """Render one keyframe again: the pixels of each thing lie within its projected annotation box, and reach its sides."""
    from data_tools.synthetic.drives import EGO_LANE, GROUND_CLEARANCE
    from data_tools.synthetic.render import World, take_photo
    from data_tools.synthetic.rig import CAMERAS

    drive = make_drive("look", 1, 0, 1)
    world, ego, size = World.of(drive, 0.0), (0.0, EGO_LANE), (320, 180)
    checked = 0
    for camera in CAMERAS:
        photo = take_photo(world, camera, ego, size)
        for number, thing in enumerate(drive.things):
            rows, columns = np.nonzero(photo.owner == number)
            width, length, height = thing.size
            x, y, z = np.meshgrid([-length / 2, length / 2], [-width / 2, width / 2], [0, height])
            turn = np.array([[np.cos(thing.yaw), -np.sin(thing.yaw)], [np.sin(thing.yaw), np.cos(thing.yaw)]])
            ground = np.stack([x.ravel(), y.ravel()], 1) @ turn.T + thing.position
            corners = np.column_stack([ground, z.ravel() + GROUND_CLEARANCE]) - (ego[0], ego[1], 0) - camera.position
            corners = corners @ camera.rotation().rotation_matrix
            if len(rows) < 40 or (corners[:, 2] < 0.5).any():
                continue
            pixels = corners @ camera.intrinsic(size).T
            pixels = pixels[:, :2] / pixels[:, 2:]
            (left, top), (right, bottom) = pixels.min(0), pixels.max(0)
            assert left - 1 <= columns.min() <= columns.max() <= right + 1
            assert top - 1 <= rows.min() <= rows.max() <= bottom + 1
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_fill_their_box(name):
    mesh = mesh_of(SHAPES[name](np.random.default_rng(0)))
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    assert (low >= (-0.501, -0.501, -0.001)).all()
    assert (high <= (0.501, 0.501, 1.001)).all()
    assert ((high - low) > 0.85).all()


def test_nothing_runs_into_anything():
    for number in range(5):
        drive = make_drive("drive", 3, number, 10)
        for seconds in drive.times():
            places = [(thing, *thing.at(seconds)) for thing in drive.things]
            for (one, x, y), (other, u, v) in combinations(places, 2):
                reach = [
                    (thing.size[0], thing.size[1]) if abs(np.sin(thing.yaw)) > 0.5 else (thing.size[1], thing.size[0])
                    for thing in (one, other)
                ]
                along, across = ((reach[0][axis] + reach[1][axis]) / 2 for axis in (0, 1))
                if {one.name, other.name} != {"pedestrian"} and not {one.name, other.name} & {
                    "pedestrian",
                    "bicycle",
                    "traffic_cone",
                }:
                    assert abs(x - u) > along - 0.6 or abs(y - v) > across - 0.6, (one.name, other.name)


def test_all_ten_classes_have_sizes_and_shapes():
    assert set(SHAPES) == set(SIZES)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    one, two = make_dataset(tmp_path / "one", LITTLE), make_dataset(tmp_path / "two", LITTLE)
    assert fingerprint(one) == fingerprint(two)
    other = make_dataset(tmp_path / "other", Settings((1, 1, 0), 1, 64, 36, seed=10))
    assert fingerprint(other) != fingerprint(one)


def test_killed_and_called_again_ends_the_same(tmp_path):
    settings = Settings((2, 1, 1), 1, 64, 36, seed=9)
    process = multiprocessing.get_context("spawn").Process(target=make_dataset, args=(tmp_path / "killed", settings))
    process.start()
    while process.is_alive() and not list((tmp_path / "killed").glob("scenes/*.json")):
        time.sleep(0.005)
    process.kill()
    process.join()
    done = []
    killed = make_dataset(tmp_path / "killed", settings, lambda count, total: done.append(count))
    assert done[-1] == 4
    assert fingerprint(killed) == fingerprint(make_dataset(tmp_path / "whole", settings))


def test_a_folder_of_something_else_is_refused(tmp_path):
    make_dataset(tmp_path / "made", LITTLE)
    with pytest.raises(SyntheticError, match="use another folder or remove it"):
        make_dataset(tmp_path / "made", Settings((1, 1, 1), 1, 64, 36))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SyntheticError, match="is not empty"):
        make_dataset(tmp_path, LITTLE)
    with pytest.raises(SyntheticError, match="not all 0"):
        Settings((0, 0, 0))
