"""An info file is of one root, its paths are those of the tables, and damage to it is told in one
line.
"""

import json
import shutil
from pathlib import Path

import pytest

from data_tools.convert import from_mmdet3d, info_path, write_infos
from data_tools.info_file import read_infos
from data_tools.rig import full_path, short_path
from data_tools.synthetic.dataset import VERSION
from sparsevit3d.errors import InputError
from tests.support.console import SMALL


def rows_of(root, table):
    return json.loads((root / VERSION / f"{table}.json").read_text())


def write_rows(root, table, rows):
    (root / VERSION / f"{table}.json").write_text(json.dumps(rows))


@pytest.fixture
def copied(synthetic, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(synthetic, root)
    for path in root.glob("nuscenes_infos_*"):
        path.unlink()
    return root


def nested(root):
    """Move every second image of CAM_BACK into a folder of its own, under the name of another."""
    rows = rows_of(root, "sample_data")
    of_camera = [row for row in rows if "/CAM_BACK/" in row["filename"]]
    (root / "samples" / "CAM_BACK" / "two").mkdir()
    for one, other in zip(of_camera[::2], of_camera[1::2], strict=True):
        name = one["filename"].rpartition("/")[2]
        moved = f"samples/CAM_BACK/two/{name}"
        shutil.move(root / other["filename"], root / moved)
        other["filename"] = moved
    write_rows(root, "sample_data", rows)
    return of_camera


def test_images_of_one_name_in_two_folders_are_two_images(copied):
    from mmdet3d.registry import DATASETS

    from sparsevit3d.stages.config import load_config, use_split

    of_camera = {row["token"]: copied / row["filename"] for row in nested(copied)}
    write_infos(copied, VERSION, ["val"])
    config = load_config(SMALL, copied)
    use_split(config, "val")
    dataset = DATASETS.build(config.test_dataloader.dataset)
    seen = 0
    for number in range(len(dataset)):
        ((camera, image),) = dataset.get_data_info(number)["images"].items()
        if camera == "CAM_BACK":
            assert image["img_path"] == str(of_camera[image["sample_data_token"]])
            seen += 1
    assert seen == 4
    assert "two" in json.dumps(read_infos(info_path(copied, "val")).keyframes)


@pytest.mark.parametrize(
    "name", ["samples/A/1.jpg", "samples/A/two/1.jpg", "samples/B/1.jpg", "1.jpg", "a/1.jpg"]
)
def test_a_short_path_stands_for_the_file_that_the_tables_name(name):
    assert full_path("root", "A", short_path(name, "A")) == Path("root") / name


def test_a_search_knows_images_by_the_paths_of_the_tables(copied):
    from sparsevit3d.search.objective import Question
    from sparsevit3d.stages.config import load_config

    moved = nested(copied)
    write_infos(copied, VERSION, ["search"])
    question = Question(load_config(SMALL, copied), info_path(copied, "search"), split="search")
    before = question.identity["data"]
    searched = {
        image["sample_data_token"]
        for keyframe in read_infos(info_path(copied, "search")).keyframes
        for image in keyframe["images"].values()
    }
    (changed,) = [row for row in moved if row["token"] in searched and "/two/" in row["filename"]]
    with (copied / changed["filename"]).open("ab") as file:
        file.write(b"more")
    again = Question(question.config, question.weights, split="search")
    assert again.identity["data"] != before


def test_infos_of_another_root_are_refused(synthetic, copied):
    from mmdet3d.registry import DATASETS

    from sparsevit3d.stages.config import load_config

    rows = rows_of(copied, "sample_annotation")
    write_rows(copied, "sample_annotation", rows[:-1])
    part = load_config(SMALL, copied, synthetic).train_dataloader.dataset
    with pytest.raises(InputError, match="was made from other tables than"):
        DATASETS.build(part)
    (copied / VERSION).rename(copied / "v1.0-other")
    with pytest.raises(InputError, match=f"is of the tables {VERSION}, which .* lacks"):
        DATASETS.build(part)


def test_infos_of_a_moved_root_are_accepted(synthetic, tmp_path):
    shutil.copytree(synthetic, tmp_path / "elsewhere")
    read_infos(info_path(tmp_path / "elsewhere", "val")).check_root(tmp_path / "elsewhere")


def drop(*path):
    def change(document):
        *parents, last = path
        for key in parents:
            document = document[key]
        document.pop(last)

    return change


def put(value, *path):
    def change(document):
        *parents, last = path
        for key in parents:
            document = document[key]
        document[last] = value

    return change


def same_token(document):
    first, second, *_ = document["data_list"]
    second["token"] = first["token"]


NAN = float("nan")
FIRST = ("data_list", 1)
BACK = (*FIRST, "images", "CAM_BACK")
DAMAGE = {
    "is no info file of mmdet3d": drop("metainfo"),
    "is of info version 1.0": put("1.0", "metainfo", "info_version"),
    "is of info version 1.1 and names the tables None": drop("metainfo", "version"),
    "holds no keyframe": put([], "data_list"),
    "keyframe 1 is no object": put(3, *FIRST),
    "keyframe 1 has no token": drop(*FIRST, "token"),
    "keyframe 1 has no timestamp": drop(*FIRST, "timestamp"),
    "keyframe 1 has no instances": drop(*FIRST, "instances"),
    "keyframe 1 has the cameras CAM_FRONT, CAM_FRONT_RIGHT, CAM_FRONT_LEFT, CAM_BACK_LEFT": drop(
        *BACK
    ),
    "keyframe 1 has no camera": put({}, *FIRST, "images"),
    "keyframe 1 has no img_path of CAM_BACK": drop(*BACK, "img_path"),
    "keyframe 1 has no width of CAM_BACK": put(None, *BACK, "width"),
    "keyframe 1 has a cam2img of CAM_BACK": put([[1, 2], [3, 4]], *BACK, "cam2img"),
    "keyframe 1 has a lidar2cam of CAM_BACK": drop(*BACK, "lidar2cam"),
    "keyframe 1 has a cam2img of CAM_BACK that is": put(
        [[0.0, 0, 1], [0, 5.0, 1], [0, 0, 1]], *BACK, "cam2img"
    ),
    "keyframe 1 has a cam2img": put([[5.0, 0, 1], [0, NAN, 1], [0, 0, 1]], *BACK, "cam2img"),
    "keyframe 1 has a cam2img of": put([[5.0, 0, 1], [0, 5.0, 1], [0, 0, 0]], *BACK, "cam2img"),
    "keyframe 1 has a lidar2cam of CAM_BACK that is": put(NAN, *BACK, "lidar2cam", 0, 0),
    "keyframe 1 has a lidar2cam of CAM_BACK that": put([[0.0] * 4] * 4, *BACK, "lidar2cam"),
    "keyframe 1 has an ego2global that is no 4 x 4": put(NAN, *FIRST, "ego2global", 1, 3),
    "keyframe 1 has an ego2global that is no": put(10**400, *FIRST, "ego2global", 1, 3),
    "keyframe 1 has a timestamp": put("noon", *FIRST, "timestamp"),
    "keyframe 1 has a token that is no text": put(["a"], *FIRST, "token"),
    "keyframe 1 has the token of an earlier one": same_token,
    "holds 3 keyframes, but 4 were written": drop("data_list", 2),
    "keyframe 1 has no cam_instances, which the first one has": drop(*FIRST, "cam_instances"),
    "keyframe 1 has cam_instances, which the first one lacks": drop(
        "data_list", 0, "cam_instances"
    ),
    "keyframe 1 has cam_instances that are not": drop(*FIRST, "cam_instances", "CAM_BACK"),
    "keyframe 1 has no list of the objects of CAM_BACK": put(
        None, *FIRST, "cam_instances", "CAM_BACK"
    ),
    "keyframe 1 has no list of the objects of the lidar": put({}, *FIRST, "instances"),
    "keyframe 1 has object 0 of the lidar with a bbox_3d": put(
        [1, 2], *FIRST, "instances", 0, "bbox_3d"
    ),
    "keyframe 1 has a lidar2ego": put("none", *FIRST, "lidar_points"),
    "keyframe 1 has an ego2global": put([[1]], *FIRST, "ego2global"),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_damage_is_named_with_the_keyframe(synthetic, tmp_path, message):
    document = json.loads(info_path(synthetic, "val").read_text())
    DAMAGE[message](document)
    path = tmp_path / "nuscenes_infos_val.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError) as told:
        read_infos(path)
    assert str(told.value).startswith(f"{path}: {message}")
    assert str(told.value).endswith("Make it anew with 'sparsevit3d data infos ROOT'.")


OF_OBJECTS = {
    "bbox_3d": ([1.0] * 6, [NAN] * 7, [1.0] * 6 + ["1"], None),
    "bbox": ([1.0, 2.0], [1.0, 2.0, NAN, 3.0], 5, None),
    "center_2d": ([1.0], [1.0, NAN], [[1.0], [2.0]], None),
    "velocity": ([1.0], [1.0, "fast"], [float("inf"), 0.0], None),
    "depth": (NAN, "far", None),
    "bbox_label": (10, -2, 1.0, None),
    "bbox_label_3d": (12, True, None),
    "attr_label": (9, -1, "moving", None),
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, bad in OF_OBJECTS.items() for value in bad]
)
def test_damage_to_an_object_is_named_with_its_camera(synthetic, tmp_path, field, value):
    document = json.loads(info_path(synthetic, "val").read_text())
    shown = document["data_list"][1]["cam_instances"]
    camera = next(name for name, rows in shown.items() if rows)
    shown[camera][0][field] = value
    path = tmp_path / "nuscenes_infos_val.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError) as told:
        read_infos(path)
    assert f"keyframe 1 has object 0 of {camera} with a {field} that is " in str(told.value)
    assert str(told.value).endswith(". Make it anew with 'sparsevit3d data infos ROOT'.")


def test_a_velocity_that_nobody_knows_is_no_damage(synthetic, tmp_path):
    document = json.loads(info_path(synthetic, "val").read_text())
    shown = document["data_list"][1]["cam_instances"]
    next(rows for rows in shown.values() if rows)[0]["velocity"] = [NAN, NAN]
    path = tmp_path / "nuscenes_infos_val.json"
    path.write_text(json.dumps(document))
    assert len(read_infos(path).keyframes) == 4


def test_mmdet3ds_own_infos_are_read(real, tmp_path):
    from_mmdet3d(real / "mmdet3d_demo_infos.pkl", real, "v1.0-mini", "real_train", tmp_path)
    found = read_infos(info_path(tmp_path, "real_train"))
    assert found.metainfo["keyframes"] == len(found.keyframes) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no whole JSON"),
        (b"[1, 2]", "is no info file"),
        (b"[" * 100_000, "is no whole JSON"),
        (b'{"metainfo": {', "is no whole JSON"),
        (b"\x80\x04\x95", "is no whole JSON"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_info_file_is_named(tmp_path, content, message):
    path = tmp_path / "nuscenes_infos_val.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"nuscenes_infos_val.json: {message}"):
        read_infos(path)


def test_a_foreign_keyframe_is_not_scored(synthetic):
    from sparsevit3d.stages.scoring import Truth, open_root

    with pytest.raises(InputError, match="has no keyframe 1234"):
        Truth(open_root(str(synthetic), VERSION), ["1234"])
