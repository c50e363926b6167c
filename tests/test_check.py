"""Damage, each kind made on purpose and each named by table, token and remedy."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.check.run import check
from data_tools.synthetic.dataset import VERSION, Settings, make_dataset

CONSOLE = Path(sys.executable).parent / "sparsevit3d"
DAMAGE = {}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    settings = Settings((1, 1, 1), 3, 96, 54, seed=2, preset="standard", sweeps=True)
    return make_dataset(tmp_path_factory.mktemp("sound") / "root", settings)


@pytest.fixture
def root(sound, tmp_path):
    """A copy to damage; its large files are links, so whoever damages one puts a new one in its place."""
    shutil.copytree(sound, tmp_path / "root", copy_function=os.link)
    for path in (tmp_path / "root" / VERSION).iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    return tmp_path / "root"


def damage(kind, table, warning=False):
    """Register a function that damages a root and returns the token that has to be named."""

    def register(function):
        DAMAGE[function.__name__] = (function, kind, table, warning)
        return function

    return register


def edit(root, table, change):
    """Let ``change`` alter a table's rows, and write them; returns what it returns."""
    path = root / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    token = change(rows)
    path.write_text(json.dumps(rows))
    return token


def put(root, table, index, **fields):
    def change(rows):
        rows[index].update(fields)
        return rows[index]["token"]

    return edit(root, table, change)


def row_of(root, table, wanted):
    """Index of the first row that ``wanted`` accepts."""
    rows = json.loads((root / VERSION / f"{table}.json").read_text())
    return next(index for index, row in enumerate(rows) if wanted(row))


def keyframe_file(root, suffix, content):
    """Replace the first keyframe file that ends so; returns its row's token."""
    index = row_of(root, "sample_data", lambda row: row["is_key_frame"] and row["filename"].endswith(suffix))
    row = json.loads((root / VERSION / "sample_data.json").read_text())[index]
    path = root / row["filename"]
    old = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content(old))
    return row["token"]


def annotation_of(root, *categories):
    """Index of the first annotation of a category that begins so."""
    read = {name: json.loads((root / VERSION / f"{name}.json").read_text()) for name in ("category", "instance")}
    chosen = {row["token"] for row in read["category"] if row["name"].startswith(categories)}
    instances = {row["token"] for row in read["instance"] if row["category_token"] in chosen}
    return row_of(root, "sample_annotation", lambda row: row["instance_token"] in instances)


@damage("missing table", "category")
def a_table_is_missing(root):
    (root / VERSION / "category.json").unlink()
    return "category.json"


@damage("unreadable table", "sample_annotation")
def a_table_is_cut_off(root):
    path = root / VERSION / "sample_annotation.json"
    path.write_bytes(path.read_bytes()[:-500])
    return path.name


@damage("unreadable table", "sample")
def a_table_is_in_another_encoding(root):
    path = root / VERSION / "sample.json"
    path.write_text(path.read_text(), encoding="utf-16")
    return path.name


@damage("unreadable table", "scene")
def a_table_is_no_list(root):
    (root / VERSION / "scene.json").write_text("{}")
    return "scene.json"


@damage("empty table", "sensor")
def a_table_is_empty(root):
    (root / VERSION / "sensor.json").write_text("[]")
    return "sensor.json"


@damage("no row", "visibility")
def an_entry_is_no_row(root):
    return edit(root, "visibility", lambda rows: rows.append(5) or "entry 4")


@damage("no token", "attribute")
def a_row_has_no_token(root):
    return edit(root, "attribute", lambda rows: rows[2].pop("token") and "entry 2")


@damage("missing field", "sample_annotation")
def a_row_lacks_a_field(root):
    return edit(root, "sample_annotation", lambda rows: rows[3].pop("size") and rows[3]["token"])


@damage("wrong kind of value", "sample")
def a_timestamp_is_text(root):
    return put(root, "sample", 0, timestamp="soon")


@damage("wrong kind of value", "ego_pose")
def a_vector_is_too_short(root):
    return put(root, "ego_pose", 0, translation=[1.0, 2.0])


@damage("not finite", "calibrated_sensor")
def a_quaternion_is_nan(root):
    return put(root, "calibrated_sensor", 0, rotation=[math.nan, 0.0, 0.0, 0.0])


@damage("not finite", "sample_annotation")
def a_box_is_infinite(root):
    return put(root, "sample_annotation", 0, size=[1.0, math.inf, 1.0])


@damage("duplicate token", "sample_annotation")
def a_token_stands_twice(root):
    return edit(root, "sample_annotation", lambda rows: rows.append(dict(rows[0])) or rows[0]["token"])


@damage("duplicate scene", "scene")
def two_scenes_share_a_name(root):
    return edit(root, "scene", lambda rows: rows[1].update(name=rows[0]["name"]) or rows[0]["name"])


@damage("dangling reference", "sample_annotation")
def an_annotation_names_no_instance(root):
    return put(root, "sample_annotation", 0, instance_token="gone")


@damage("dangling reference", "sample_annotation")
def an_annotation_names_no_attribute(root):
    return put(root, "sample_annotation", 1, attribute_tokens=["gone"])


@damage("dangling reference", "sample_data")
def an_ego_pose_is_missing(root):
    pose = edit(root, "ego_pose", lambda rows: rows.pop(4)["token"])
    index = row_of(root, "sample_data", lambda row: row["ego_pose_token"] == pose)
    return json.loads((root / VERSION / "sample_data.json").read_text())[index]["token"]


@damage("broken chain", "sample")
def a_chain_is_broken(root):
    index = row_of(root, "sample", lambda row: row["prev"])
    before = json.loads((root / VERSION / "sample.json").read_text())[index]["prev"]
    put(root, "sample", index, prev="")
    return before


@damage("mixed chain", "sample_data")
def a_camera_follows_the_lidar(root):
    other = row_of(root, "sample_data", lambda row: "CAM_BACK/" in row["filename"] and row["prev"])
    token = json.loads((root / VERSION / "sample_data.json").read_text())[other]["token"]
    return put(root, "sample_data", row_of(root, "sample_data", lambda row: "LIDAR" in row["filename"] and row["next"]), next=token)


@damage("timestamps out of order", "sample")
def time_runs_backwards(root):
    def swap(rows):
        one = next(row for row in rows if row["next"])
        other = next(row for row in rows if row["token"] == one["next"])
        one["timestamp"], other["timestamp"] = other["timestamp"], one["timestamp"]
        return one["token"]

    return edit(root, "sample", swap)


@damage("wrong count", "scene")
def a_scene_counts_its_samples_wrong(root):
    return put(root, "scene", 0, nbr_samples=99)


@damage("wrong count", "instance")
def an_instance_counts_its_boxes_wrong(root):
    return put(root, "instance", 0, nbr_annotations=99)


@damage("wrong end", "scene")
def a_scene_begins_with_its_second_sample(root):
    return edit(root, "scene", lambda rows: rows[0].update(first_sample_token=rows[0]["last_sample_token"]) or rows[0]["token"])


@damage("missing sensor", "sample")
def a_camera_has_no_keyframe(root):
    index = row_of(root, "sample_data", lambda row: "CAM_BACK/" in row["filename"])
    put(root, "sample_data", index, is_key_frame=False)
    return json.loads((root / VERSION / "sample_data.json").read_text())[index]["sample_token"]


@damage("sensor twice", "sample")
def the_lidar_has_two_keyframes(root):
    index = row_of(root, "sample_data", lambda row: not row["is_key_frame"])
    put(root, "sample_data", index, is_key_frame=True)
    return json.loads((root / VERSION / "sample_data.json").read_text())[index]["sample_token"]


@damage("object twice", "sample")
def an_object_is_annotated_twice(root):
    def add(rows):
        rows.append(rows[0] | {"token": "new", "prev": "", "next": ""})
        return rows[0]["sample_token"]

    return edit(root, "sample_annotation", add)


@damage("nothing belongs to it", "instance", warning=True)
def an_instance_is_nowhere(root):
    return edit(root, "instance", lambda rows: rows.append(rows[0] | {"token": "nobody", "nbr_annotations": 0}) or "nobody")


@damage("unknown category", "category")
def a_category_is_misspelt(root):
    return put(root, "category", 3, name="vehicle.cra")


@damage("unknown attribute", "attribute")
def an_attribute_is_misspelt(root):
    return put(root, "attribute", 3, name="vehicle.mooving")


@damage("unknown modality", "sensor")
def a_sensor_is_of_no_known_kind(root):
    return put(root, "sensor", 6, modality="sonar")


@damage("unreadable splits", "splits")
def the_splits_are_no_json(root):
    (root / VERSION / "splits.json").write_text("{")
    return "splits.json"


def splits(root, change):
    path = root / VERSION / "splits.json"
    found = json.loads(path.read_text())
    token = change(found)
    path.write_text(json.dumps(found))
    return token


@damage("unknown scene", "splits")
def a_split_names_no_scene(root):
    return splits(root, lambda found: found["val"].append("scene-nowhere") or "scene-nowhere")


@damage("scene in two splits", "splits")
def a_scene_is_trained_on_and_judged_on(root):
    return splits(root, lambda found: found["train"].append(found["val"][0]) or found["val"][0])


@damage("scene twice", "splits")
def a_split_names_a_scene_twice(root):
    return splits(root, lambda found: found["val"].append(found["val"][0]) or found["val"][0])


@damage("scene in no split", "splits", warning=True)
def a_scene_is_in_no_split(root):
    return splits(root, lambda found: [found["synthetic_val"].clear(), found["val"].pop()][1])


@damage("no unit quaternion", "ego_pose")
def a_rotation_is_none(root):
    return put(root, "ego_pose", 2, rotation=[2.0, 0.0, 0.0, 0.0])


@damage("far from its car", "calibrated_sensor", warning=True)
def a_mounting_is_in_millimetres(root):
    return put(root, "calibrated_sensor", 0, translation=[1700.0, 0.0, 1500.0])


@damage("no intrinsics", "calibrated_sensor")
def a_camera_has_no_matrix(root):
    return put(root, "calibrated_sensor", 0, camera_intrinsic=[])


@damage("impossible intrinsics", "calibrated_sensor")
def a_focal_length_is_negative(root):
    return put(root, "calibrated_sensor", 0, camera_intrinsic=[[-50, 0, 48], [0, 50, 27], [0, 0, 1]])


@damage("intrinsics of another size", "calibrated_sensor")
def a_matrix_is_of_the_native_size(root):
    return put(root, "calibrated_sensor", 0, camera_intrinsic=[[1266, 0, 816], [0, 1266, 491], [0, 0, 1]])


@damage("stretched pixels", "calibrated_sensor", warning=True)
def a_matrix_is_scaled_one_way(root):
    return put(root, "calibrated_sensor", 0, camera_intrinsic=[[152, 0, 48], [0, 76, 27], [0, 0, 1]])


@damage("camera of another name", "calibrated_sensor", warning=True)
def two_cameras_are_swapped(root):
    def swap(rows):
        rows[0]["rotation"], rows[3]["rotation"] = rows[3]["rotation"], rows[0]["rotation"]
        return rows[0]["token"]

    return edit(root, "calibrated_sensor", swap)


@damage("pose of another time", "sample_data")
def a_pose_is_of_another_time(root):
    pose = edit(root, "ego_pose", lambda rows: rows[1].update(timestamp=rows[1]["timestamp"] + 1_000_000) or rows[1]["token"])
    index = row_of(root, "sample_data", lambda row: row["ego_pose_token"] == pose)
    return json.loads((root / VERSION / "sample_data.json").read_text())[index]["token"]


@damage("jump of the car", "sample_data")
def the_car_jumps(root):
    index = row_of(root, "sample_data", lambda row: row["next"] and "CAM_FRONT/" in row["filename"])
    row = json.loads((root / VERSION / "sample_data.json").read_text())[index]
    pose = row_of(root, "ego_pose", lambda each: each["token"] == row["ego_pose_token"])
    put(root, "ego_pose", pose, translation=[9000.0, 9000.0, 0.0])
    return row["token"]


@damage("sensor out of step", "sample_data")
def a_sensor_fires_late(root):
    return edit(root, "sample_data", lambda rows: rows[1].update(timestamp=rows[1]["timestamp"] + 200_000) or rows[1]["token"])


@damage("empty box", "sample_annotation")
def a_box_has_no_height(root):
    return put(root, "sample_annotation", 0, size=[1.9, 4.5, 0.0])


@damage("width and length swapped", "sample_annotation", warning=True)
def a_car_is_wider_than_long(root):
    return put(root, "sample_annotation", annotation_of(root, "vehicle.car"), size=[4.6, 1.9, 1.7])


@damage("implausible size", "sample_annotation", warning=True)
def a_car_is_in_centimetres(root):
    return put(root, "sample_annotation", annotation_of(root, "vehicle.car"), size=[190.0, 460.0, 170.0])


@damage("negative count", "sample_annotation")
def a_count_is_negative(root):
    return put(root, "sample_annotation", 0, num_lidar_pts=-1)


@damage("several attributes", "sample_annotation")
def a_car_moves_and_is_parked(root):
    attributes = json.loads((root / VERSION / "attribute.json").read_text())
    both = [row["token"] for row in attributes if row["name"] in ("vehicle.moving", "vehicle.parked")]
    return put(root, "sample_annotation", annotation_of(root, "vehicle.car"), attribute_tokens=both)


@damage("attribute of another class", "sample_annotation", warning=True)
def a_car_sits(root):
    attributes = json.loads((root / VERSION / "attribute.json").read_text())
    sits = [row["token"] for row in attributes if row["name"] == "pedestrian.sitting_lying_down"]
    return put(root, "sample_annotation", annotation_of(root, "vehicle.car"), attribute_tokens=sits)


@damage("far away", "sample_annotation", warning=True)
def a_box_is_in_another_city(root):
    return put(root, "sample_annotation", 0, translation=[90_000.0, 90_000.0, 1.0])


@damage("jump of an object", "sample_annotation", warning=True)
def an_object_jumps(root):
    def move(rows):
        row = next(row for row in rows if row["next"])
        row["translation"][0] += 80.0
        return row["token"]

    return edit(root, "sample_annotation", move)


@damage("missing file", "sample_data")
def an_image_is_missing(root):
    return keyframe_file(root, ".jpg", None)


@damage("missing sweep", "sample_data", warning=True)
def a_sweep_is_missing(root):
    index = row_of(root, "sample_data", lambda row: not row["is_key_frame"])
    row = json.loads((root / VERSION / "sample_data.json").read_text())[index]
    (root / row["filename"]).unlink()
    return row["token"]


@damage("empty file", "sample_data")
def an_image_is_empty(root):
    return keyframe_file(root, ".jpg", lambda old: b"")


@damage("truncated image", "sample_data")
def an_image_is_cut_off(root):
    return keyframe_file(root, ".jpg", lambda old: old[:-200])


@damage("undecodable image", "sample_data")
def an_image_is_a_web_page(root):
    return keyframe_file(root, ".jpg", lambda old: b"<html>404</html>")


@damage("no JPEG", "sample_data")
def an_image_is_of_another_format(root):
    Image.new("RGB", (96, 54)).save(root / "frame.png")
    return keyframe_file(root, ".jpg", lambda old: (root / "frame.png").read_bytes())


@damage("wrong kind of value", "sample_annotation")
def a_count_is_beyond_any_integer(root):
    return put(root, "sample_annotation", 0, num_lidar_pts=10**20)


@damage("wrong kind of value", "log")
def a_text_cannot_be_written(root):
    return put(root, "log", 0, vehicle="\ud800")


@damage("wrong kind of value", "sample_data")
def a_file_name_has_a_null(root):
    return put(root, "sample_data", 0, filename="samples/CAM_FRONT/a\0.jpg")


@damage("timestamps out of order", "sample_annotation")
def an_object_goes_back_in_time(root):
    index = row_of(root, "sample_annotation", lambda row: row["next"])
    rows = json.loads((root / VERSION / "sample_annotation.json").read_text())
    other = next(number for number, row in enumerate(rows) if row["token"] == rows[index]["next"])
    put(root, "sample_annotation", other, sample_token=rows[index]["sample_token"])
    return put(root, "sample_annotation", index, sample_token=rows[other]["sample_token"])


@damage("image of another size", "sample_data")
def an_image_is_scaled(root):
    Image.new("RGB", (48, 27)).save(root / "small.jpg")
    return keyframe_file(root, ".jpg", lambda old: (root / "small.jpg").read_bytes())


@damage("truncated lidar", "sample_data")
def a_lidar_file_is_cut_off(root):
    return keyframe_file(root, ".pcd.bin", lambda old: old[:-7])


@damage("impossible lidar", "sample_data")
def a_lidar_file_has_no_numbers(root):
    return keyframe_file(root, ".pcd.bin", lambda old: np.full((9, 5), np.nan, np.float32).tobytes())


@damage("missing map", "map", warning=True)
def the_map_is_missing(root):
    (root / "maps/blank.png").unlink()
    return json.loads((root / VERSION / "map.json").read_text())[0]["token"]


def test_nothing_is_found_where_nothing_is_wrong(sound):
    report = check(sound, VERSION, True, 2)
    assert (report.errors, report.warnings, report.examples) == (0, 0, [])
    assert report.decoded == report.files == 3 * (3 * 7 + 2 * 4)


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_by_table_token_and_remedy(name, root):
    function, kind, table, warning = DAMAGE[name]
    token = function(root)
    report = check(root, VERSION, False, 1)
    found = [problem for problem in report.examples if (problem.kind, problem.table, problem.token) == (kind, table, token)]
    assert found, [(problem.kind, problem.table, problem.token, problem.what) for problem in report.examples]
    assert found[0].warning == warning
    assert len(found[0].what) > 5
    assert len(found[0].remedy) > 5


def test_padding_after_an_images_end_is_no_damage(root):
    keyframe_file(root, ".jpg", lambda old: old + b"\0\0")
    assert check(root, VERSION, True, 1).errors == check(root, VERSION, False, 1).errors == 0


def test_a_box_is_measured_from_the_lidar_alone(root):
    """Radar files are pcd as well."""
    with_radar(root)
    token = put(root, "sample_annotation", 0, translation=[1e5, 0.0, 0.0])
    (problem,) = [row for row in check(root, VERSION, False, 1).as_dict()["problems"] if row["kind"] == "far away"]
    assert (problem["count"], problem["examples"][0]["token"]) == (1, token)


def with_radar(root):
    """A radar's rows, and files, for every keyframe of the lidar."""
    sensors = json.loads((root / VERSION / "sensor.json").read_text())
    lidar = next(row["token"] for row in sensors if row["channel"] == "LIDAR_TOP")
    edit(root, "sensor", lambda rows: rows.append({"token": "radar", "channel": "RADAR_FRONT", "modality": "radar"}))
    mounts = json.loads((root / VERSION / "calibrated_sensor.json").read_text())
    own = {row["token"]: f"radar-{row['token']}" for row in mounts if row["sensor_token"] == lidar}
    radars = [row | {"token": own[row["token"]], "sensor_token": "radar"} for row in mounts if row["token"] in own]
    edit(root, "calibrated_sensor", lambda rows: rows.extend(radars))

    def add(rows):
        scans = [row for row in rows if row["calibrated_sensor_token"] in own and row["is_key_frame"]]
        for row in scans:
            new = {"token": f"radar-{row['token']}", "calibrated_sensor_token": own[row["calibrated_sensor_token"]]}
            new |= {
                "filename": row["filename"].replace("LIDAR_TOP", "RADAR_FRONT").replace(".pcd.bin", ".pcd"),
                "prev": "",
                "next": "",
            }
            (root / new["filename"]).parent.mkdir(exist_ok=True)
            (root / new["filename"]).write_bytes(b"VERSION 0.7")
            rows.append(row | new)

    edit(root, "sample_data", add)
    assert check(root, VERSION, True, 1).errors == 0


def test_there_are_many_kinds():
    assert len({(kind, table) for _, kind, table, _ in DAMAGE.values()}) >= 50


def test_what_is_only_in_files_not_yet_looked_at_is_found_by_looking_at_all(root):
    index = row_of(root, "sample_data", lambda row: not row["is_key_frame"])
    row = json.loads((root / VERSION / "sample_data.json").read_text())[index]
    (root / row["filename"]).unlink()
    (root / row["filename"]).write_bytes(np.full((9, 5), np.nan, np.float32).tobytes())
    assert check(root, VERSION, False, 1).errors == 0
    assert check(root, VERSION, True, 1).errors == 1


def test_a_thousand_problems_are_counted_and_a_few_are_kept(root):
    for path in (root / "samples").glob("*/*"):
        path.unlink()
    report = check(root, VERSION, False, 1)
    assert report.errors == 3 * 3 * 7
    assert len(report.examples) == 5


def test_from_the_command_line(sound, root):
    done = subprocess.run([CONSOLE, "data", "check", sound], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors, 0 warnings" in " ".join(done.stdout.split())
    token = an_image_is_cut_off(root)
    done = subprocess.run([CONSOLE, "data", "check", root], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "truncated image" in done.stdout
    done = subprocess.run([CONSOLE, "data", "check", root, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem["examples"][0]["token"] == token
