"""Info files: equal to mmdet3d's own, the same bytes whatever happens on the way, and refused where
the root is not what it should be.
"""

import importlib.util
import json
import multiprocessing
import pickle
import resource
import shutil
import time
import warnings
from pathlib import Path

import mmdet3d
import numpy as np
import pytest
from nuscenes import NuScenes

from data_tools import convert, database
from data_tools.convert import from_mmdet3d, info_path, write_infos
from data_tools.schema import CAMERAS, CLASSES
from data_tools.splits import find_version, scenes_of_split, usual_splits
from data_tools.statistics import statistics
from data_tools.synthetic.dataset import VERSION, Settings, make_dataset
from sparsevit3d.errors import InputError
from sparsevit3d.files import sole_owner, write_sealed


def differences(theirs, ours, path=""):
    """Paths at which two nested documents differ, numbers by more than 1e-4, or in the seventh
    digit: theirs are float32 on the way.
    """
    if isinstance(theirs, dict):
        missing = [f"{path}/{key}: missing" for key in theirs.keys() - ours.keys()]
        return missing + [
            line
            for key in theirs.keys() & ours.keys()
            for line in differences(theirs[key], ours[key], f"{path}/{key}")
        ]
    if isinstance(theirs, list) and theirs and isinstance(theirs[0], dict):
        if len(theirs) != len(ours):
            return [f"{path}: {len(theirs)} and {len(ours)} entries"]
        pairs = enumerate(zip(theirs, ours, strict=True))
        return [
            line
            for index, (one, other) in pairs
            for line in differences(one, other, f"{path}[{index}]")
        ]
    if isinstance(theirs, str):
        return [] if theirs == ours else [f"{path}: {theirs} and {ours}"]
    close = np.allclose(
        np.array(theirs, float), np.array(ours, float), rtol=1e-6, atol=1e-4, equal_nan=True
    )
    return [] if close else [f"{path}: {theirs} and {ours}"]


def read(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def with_sweeps(tmp_path_factory):
    """A root of the native size (mmdet3d's converter believes in no other) with three keyframes and
    the lidar's sweeps between.
    """
    settings = Settings((1, 0, 1), 3, 1600, 900, seed=4, preset="standard", sweeps=True)
    return make_dataset(tmp_path_factory.mktemp("sweeps") / "root", settings)


def mmdet3ds_infos(root, version, scenes, scratch, monkeypatch, test=False):
    """What mmdet3d's own converter makes of the named scenes."""
    folder = Path(mmdet3d.__file__).parent / ".mim/tools/dataset_converters"
    modules = []
    for name in ("nuscenes_converter", "update_infos_to_v2"):
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        modules.append(importlib.util.module_from_spec(spec))
        spec.loader.exec_module(modules[-1])
    converter, update = modules
    (scratch / "data").mkdir(parents=True)
    (scratch / "out").mkdir()
    (scratch / "data/nuscenes").symlink_to(root)
    monkeypatch.chdir(scratch)
    nusc = NuScenes(version, "./data/nuscenes", verbose=False)
    tokens = {row["token"] for row in nusc.scene if row["name"] in scenes}
    found, _ = converter._fill_trainval_infos(nusc, tokens, set(), test)
    with Path("old.pkl").open("wb") as file:
        pickle.dump({"infos": found, "metadata": {"version": version}}, file)
    update.update_nuscenes_infos("old.pkl", "./out")
    with Path("out/old.pkl").open("rb") as file:
        return pickle.load(file)  # written a line ago


def test_equals_mmdet3ds_converter_field_by_field(with_sweeps, tmp_path, monkeypatch):
    write_infos(with_sweeps, VERSION, ["train", "val"], tmp_path / "ours")
    for split in ("train", "val"):
        scenes = scenes_of_split(with_sweeps, VERSION, split)
        theirs = mmdet3ds_infos(with_sweeps, VERSION, scenes, tmp_path / split, monkeypatch)
        ours = read(info_path(tmp_path / "ours", split))
        # By design: theirs is a path from where the converter was called, ours one from the root,
        # so that the root can be moved.
        for info in theirs["data_list"]:
            for sweep in info.get("lidar_sweeps", ()):
                sweep["lidar_points"]["lidar_path"] = sweep["lidar_points"][
                    "lidar_path"
                ].removeprefix("./data/nuscenes/")
                # By design: theirs leaves the number of a sweep's features open, None.
                assert sweep["lidar_points"].pop("num_pts_feats") is None
        assert differences(theirs, ours) == []
        assert [len(info.get("lidar_sweeps", ())) for info in ours["data_list"]] == [0, 5, 10]
        # By design: what ours has besides. The loader checks an image's size; the splits say whose
        # scenes they are.
        own = {"split", "scenes", "root", "keyframes"}
        assert ours["metainfo"].keys() - theirs["metainfo"].keys() == own
        for one, other in zip(theirs["data_list"], ours["data_list"], strict=True):
            assert other.keys() == one.keys()
            for name in CAMERAS:
                assert other["images"][name].keys() - one["images"][name].keys() == {
                    "height",
                    "width",
                }
        assert sum(len(info["instances"]) for info in ours["data_list"]) > 30


def test_the_test_split_equals_it_as_well(with_sweeps, tmp_path, monkeypatch):
    """v1.0-test: nobody has its boxes."""
    root = tmp_path / "root"
    shutil.copytree(with_sweeps / VERSION, root / "v1.0-test")
    (root / "samples").symlink_to(with_sweeps / "samples")
    (root / "sweeps").symlink_to(with_sweeps / "sweeps")
    (root / "maps").symlink_to(with_sweeps / "maps")
    for table in ("sample_annotation", "instance"):
        (root / f"v1.0-test/{table}.json").write_text("[]")
    (root / "v1.0-test/splits.json").write_text(
        json.dumps({"test": sorted(scenes_of_split(with_sweeps, VERSION, "val"))})
    )
    write_infos(root, "v1.0-test", ["test"], tmp_path)
    theirs = mmdet3ds_infos(
        root,
        "v1.0-test",
        scenes_of_split(root, "v1.0-test", "test"),
        tmp_path / "x",
        monkeypatch,
        test=True,
    )
    ours = read(info_path(tmp_path, "test"))
    for info in theirs["data_list"]:
        for sweep in info.get("lidar_sweeps", ()):
            sweep["lidar_points"]["lidar_path"] = sweep["lidar_points"]["lidar_path"].removeprefix(
                "./data/nuscenes/"
            )
            assert sweep["lidar_points"].pop("num_pts_feats") is None
    assert differences(theirs, ours) == []
    assert all(
        info["instances"] == [] and "cam_instances" not in info for info in ours["data_list"]
    )


def test_equals_mmdet3ds_own_infos_of_a_real_keyframe(real, tmp_path):
    assert write_infos(real, "v1.0-mini", ["real_train"], tmp_path) == {"real_train": 1}
    with (real / "mmdet3d_demo_infos.pkl").open("rb") as file:
        theirs = pickle.load(file)  # the project's own reference file, not a user's
    ours = read(info_path(tmp_path, "real_train"))
    found = differences(theirs, ours)
    # By design: velocities come from an object's neighbours in time, which a root of one keyframe
    # does not have.
    assert {line.split(":")[0].rpartition("/")[2] for line in found} == {"velocity"}
    assert len(ours["data_list"][0]["instances"]) == 69
    # By design: theirs was written before mmdet3d's converter listed categories that are not
    # detected.
    assert ours["metainfo"]["categories"].keys() - theirs["metainfo"]["categories"].keys() == {
        "movable_object.pushable_pullable"
    }


def test_velocities_of_a_real_keyframe_equal_mmdet3ds_once_it_has_neighbours(real, tmp_path):
    """Each box gets a neighbour half a second on, where its published velocity takes it; NaN stays
    where nuScenes has none.
    """
    root = tmp_path / "root"
    shutil.copytree(real / "v1.0-mini", root / "v1.0-mini")
    velocity = read(real / "annotation_velocity.json")
    tables = {
        name: read(root / f"v1.0-mini/{name}.json") for name in ("sample", "sample_annotation")
    }
    later = [
        row | {"token": f"later {row['token']}", "timestamp": row["timestamp"] + 500_000}
        for row in tables["sample"]
    ]
    boxes = []
    for row in tables["sample_annotation"]:
        if None not in (velocity.get(row["token"]) or [None]):
            row["next"] = f"later {row['token']}"
            x, y, z = row["translation"]
            vx, vy = velocity[row["token"]]
            sample = f"later {row['sample_token']}"
            place = [x + 0.5 * vx, y + 0.5 * vy, z]
            boxes.append(
                row
                | {
                    "token": row["next"],
                    "next": "",
                    "prev": row["token"],
                    "sample_token": sample,
                    "translation": place,
                }
            )
    (root / "v1.0-mini/sample.json").write_text(
        json.dumps(tables["sample"] + [row | {"scene_token": "none"} for row in later])
    )
    (root / "v1.0-mini/sample_annotation.json").write_text(
        json.dumps(tables["sample_annotation"] + boxes)
    )
    write_infos(root, "v1.0-mini", ["real_train"], tmp_path)
    with (real / "mmdet3d_demo_infos.pkl").open("rb") as file:
        theirs = pickle.load(file)
    assert (
        differences(theirs["data_list"], read(info_path(tmp_path, "real_train"))["data_list"]) == []
    )
    assert len(boxes) > 60


def test_real_images_show_the_boxes_that_the_devkit_sees(real, tmp_path):
    write_infos(real, "v1.0-mini", ["real_val"], tmp_path)
    (keyframe,) = read(info_path(tmp_path, "real_val"))["data_list"]
    assert [len(keyframe["cam_instances"][name]) for name in CAMERAS] == [10, 3, 3, 18, 12, 1]


def test_boxes_are_the_same_in_every_frame(synthetic):
    """lidar2cam takes each instance's centre to one of its camera's, and cam2img takes that to
    center_2d.
    """
    keyframe = read(synthetic / "nuscenes_infos_train.json")["data_list"][0]
    centres = np.array([row["bbox_3d"][:3] for row in keyframe["instances"]])
    seen = 0
    for name in CAMERAS:
        image = keyframe["images"][name]
        lidar2cam = np.array(image["lidar2cam"])
        cam2img = np.array(image["cam2img"])
        in_camera = centres @ lidar2cam[:3, :3].T + lidar2cam[:3, 3]
        for row in keyframe["cam_instances"][name]:
            distance = np.linalg.norm(in_camera - row["bbox_3d"][:3], axis=1)
            assert distance.min() < 1e-6
            source = keyframe["instances"][int(distance.argmin())]
            assert (source["bbox_label"], sorted(source["bbox_3d"][3:6])) == (
                row["bbox_label"],
                sorted(row["bbox_3d"][3:6]),
            )
            pixel = cam2img @ row["bbox_3d"][:3]
            assert np.allclose(pixel[:2] / pixel[2], row["center_2d"])
            assert pixel[2] == pytest.approx(row["depth"])
            left, top, right, bottom = row["bbox"]
            assert 0 <= left < right <= image["width"]
            assert 0 <= top < bottom <= image["height"]
            seen += 1
    assert seen > 20


def test_cameras_stand_in_the_order_that_the_metric_relies_on(synthetic):
    infos = read(synthetic / "nuscenes_infos_val.json")
    assert all(list(keyframe["images"]) == list(CAMERAS) for keyframe in infos["data_list"])
    assert [keyframe["sample_idx"] for keyframe in infos["data_list"]] == list(
        range(len(infos["data_list"]))
    )
    assert infos["metainfo"]["categories"] == {name: label for label, name in enumerate(CLASSES)}


def test_mmdet3d_reads_them(small_config):
    from mmdet3d.registry import DATASETS

    dataset = DATASETS.build(small_config.train_dataloader.dataset)
    assert len(dataset) == 2 * 2 * 6
    sample = dataset[0]["data_samples"]
    assert len(sample.gt_instances_3d.bboxes_3d) == len(sample.gt_instances_3d.centers_2d) > 0


def test_the_same_bytes_for_any_number_of_workers_and_after_a_kill(
    synthetic, tmp_path, monkeypatch
):
    monkeypatch.setattr(convert, "CHUNK", 1)
    write_infos(synthetic, VERSION, ["train", "val"], tmp_path / "one")
    write_infos(synthetic, VERSION, ["train", "val"], tmp_path / "two", workers=2)
    process = multiprocessing.get_context("fork").Process(
        target=write_infos, args=(synthetic, VERSION, ["train", "val"], tmp_path / "cut")
    )
    process.start()
    while process.is_alive() and not list((tmp_path / "cut").glob(".infos-*/train-00000.json")):
        time.sleep(0.001)
    process.kill()
    process.join()
    assert not list((tmp_path / "cut").glob("nuscenes_infos_val.json*"))
    steps = []
    write_infos(
        synthetic,
        VERSION,
        ["train", "val"],
        tmp_path / "cut",
        progress=lambda what, done, total: steps.append(what),
    )
    assert "reading tables" not in steps  # the killed call had
    for split in ("train", "val"):
        (content,) = {
            info_path(tmp_path / name, split).read_bytes() for name in ("one", "two", "cut")
        }
        assert content == (synthetic / f"nuscenes_infos_{split}.json").read_bytes()
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == [
        "nuscenes_infos_train.json",
        "nuscenes_infos_val.json",
    ]


def test_tables_that_changed_since_are_read_anew(synthetic, tmp_path, monkeypatch):
    root = tmp_path / "root"
    shutil.copytree(synthetic / VERSION, root / VERSION)
    with monkeypatch.context() as patch:
        patch.setattr(convert, "_write_split", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_infos(root, VERSION, ["val"])
    assert (root / f".infos-{VERSION}/tables.sqlite").exists()
    rows = read(root / VERSION / "sample_annotation.json")
    (root / VERSION / "sample_annotation.json").write_text(
        json.dumps([row | {"num_lidar_pts": 77} for row in rows])
    )
    write_infos(root, VERSION, ["val"])
    instances = [
        row for info in read(info_path(root, "val"))["data_list"] for row in info["instances"]
    ]
    assert {row["num_lidar_pts"] for row in instances} == {77}


def lose_a_keyframe(path):
    document = read(path)
    write_sealed(path, {"undetected": [], "keyframes": document["keyframes"][:-1]})


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("tables.txt", lambda path: path.write_bytes(b"\xff\xfe\x80"), None),
        ("val-00000.json", lambda path: path.write_bytes(path.read_bytes()[:900]), "made anew"),
        ("val-00000.json", lambda path: path.write_text("{}"), "made anew"),
        ("val-00000.json", lose_a_keyframe, "holds other keyframes"),
        ("tables.sqlite", lambda path: path.write_bytes(path.read_bytes()[:5000]), "read anew"),
        ("tables.sqlite", lambda path: path.write_bytes(b"garbage" * 999), "read anew"),
        ("tables.sqlite.sha256", Path.unlink, "read anew"),
    ],
)
def test_a_damaged_leftover_is_made_anew(synthetic, tmp_path, monkeypatch, name, damage, words):
    with monkeypatch.context() as patch:
        patch.setattr(convert.shutil, "copyfileobj", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_infos(synthetic, VERSION, ["val"], tmp_path)
    damage(tmp_path / f".infos-{VERSION}" / name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        assert write_infos(synthetic, VERSION, ["val"], tmp_path) == {"val": 4}
    told = [str(each.message) for each in caught if f"{tmp_path}" in str(each.message)]
    assert len(told) == (words is not None)
    assert all(f"{name.removesuffix('.sha256')}: is damaged" in line for line in told)
    assert all(words in line for line in told)
    wanted = info_path(synthetic, "val").read_bytes()
    assert info_path(tmp_path, "val").read_bytes() == wanted


def test_two_calls_do_not_write_into_one_folder(synthetic, tmp_path):
    with sole_owner(tmp_path), pytest.raises(InputError, match="another call is writing here"):
        write_infos(synthetic, VERSION, ["val"], tmp_path)


def test_a_full_disk_or_a_read_only_folder_leaves_the_old_file(synthetic, tmp_path):
    """A limit on the size of files stands in for a full disk: the write fails half way in the same
    place.
    """
    write_infos(synthetic, VERSION, ["val"], tmp_path)
    before = info_path(tmp_path, "val").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        with pytest.raises(OSError, match=str(tmp_path)):
            write_infos(synthetic, VERSION, ["train", "val"], tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert info_path(tmp_path, "val").read_bytes() == before
    assert not list(tmp_path.rglob("*partial*"))
    with pytest.raises(OSError, match="/proc"):
        write_infos(synthetic, VERSION, ["val"], Path("/proc/infos"))


@pytest.mark.parametrize(
    ("table", "change", "words"),
    [
        ("ego_pose", lambda rows: rows[1:], r"ego_pose\.json: has no row '.*'|has no row"),
        (
            "sample_data",
            lambda rows: [row for row in rows if "/CAM_BACK_" not in row["filename"]],
            "has no keyframe of CAM_BACK_LEFT, CAM_BACK_R",
        ),
        (
            "sample_data",
            lambda rows: [*rows, {"filename": "x"}],
            "a row without token, sample_token",
        ),
        (
            "calibrated_sensor",
            lambda rows: [row | {"rotation": [0, 0]} for row in rows],
            r"do not hold together at sample \w{32} ",
        ),
        (
            "sample_annotation",
            lambda rows: [row | {"translation": [float("nan")] * 3} for row in rows],
            r"at sample \w{32} ",
        ),
        (
            "sample_annotation",
            lambda rows: [row | {"size": None} for row in rows],
            r"at sample \w{32} ",
        ),
        (
            "attribute",
            lambda rows: [row | {"name": "asleep"} for row in rows],
            r"at sample \w{32} ",
        ),
        (
            "sample_annotation",
            lambda rows: [row | {"num_lidar_pts": 10**20} for row in rows],
            "value of the wrong kind",
        ),
        (
            "scene",
            lambda rows: [row | {"description": {}} for row in rows],
            "value of the wrong kind",
        ),
    ],
)
def test_damaged_tables_are_named_and_nothing_is_written(synthetic, tmp_path, table, change, words):
    shutil.copytree(synthetic / VERSION, tmp_path / VERSION)
    path = tmp_path / VERSION / f"{table}.json"
    path.write_text(json.dumps(change(read(path))))
    for work in (
        lambda: write_infos(tmp_path, VERSION, ["train", "search", "val"]),
        lambda: statistics(tmp_path, VERSION, 1),
    ):
        with pytest.raises(InputError, match=words) as caught:
            work()
        assert "sparsevit3d data check" in str(caught.value) or table == "sample_data"
    assert not list(tmp_path.glob("nuscenes_infos_train.json"))
    # mended, it is read anew in the same process
    shutil.copy(synthetic / VERSION / f"{table}.json", path)
    assert sum(write_infos(tmp_path, VERSION, ["train", "search", "val"]).values()) == 10


def test_splits_without_scenes_are_not_asked_for(tmp_path):
    make_dataset(tmp_path / "root", Settings((1, 0, 1), 1, 64, 36))
    assert usual_splits(tmp_path / "root", VERSION) == ["train", "val"]


def test_a_damaged_row_is_not_looked_for_to_the_end_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "LONGEST", 1000)
    monkeypatch.setattr(database, "CHUNK", 100)
    rows = ",".join(json.dumps({"token": f"{number:032}"}) for number in range(2000))
    (tmp_path / "sample.json").write_text("[" + rows.replace("0100", '01"00') + "]")
    found = []
    with pytest.raises(InputError, match=f"after the row of {99:032}"):
        found.extend(database.rows_of(tmp_path / "sample.json"))
    assert len(found) == 100


class Exploit:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_mmdet3ds_pickle_becomes_json_only_on_trust(real, tmp_path):
    assert (
        from_mmdet3d(
            real / "mmdet3d_demo_infos.pkl", real, "v1.0-mini", "real_train", tmp_path / "new"
        )
        == 1
    )
    write_infos(real, "v1.0-mini", ["real_train"], tmp_path)
    theirs = read(info_path(tmp_path / "new", "real_train"))
    ours = read(info_path(tmp_path, "real_train"))
    found = differences(theirs["data_list"], ours["data_list"])
    assert {line.split(":")[0].rpartition("/")[2] for line in found} == {"velocity"}
    assert theirs["data_list"][0]["images"]["CAM_BACK"]["width"] == 1600
    # by which it is scored
    assert theirs["metainfo"]["scenes"] == ours["metainfo"]["scenes"] == ["scene-0061"]


@pytest.mark.parametrize(
    "document", [{"infos": []}, {"metainfo": {"info_version": "1.0"}, "data_list": []}, [1]]
)
def test_another_schema_in_a_pickle_is_refused(document, tmp_path):
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(document))
    with pytest.raises(InputError, match=r"[Mm]ake info files anew"):
        from_mmdet3d(tmp_path / "old.pkl", tmp_path, VERSION, "train", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_no_stage_runs_a_pickle(synthetic, tmp_path):
    from sparsevit3d.files import InputError
    from sparsevit3d.stages.config import load_config

    (tmp_path / "infos").mkdir()
    (tmp_path / "infos/evil.pkl").write_bytes(pickle.dumps(Exploit(tmp_path / "it ran")))
    small = Path(__file__).parents[2] / "configs/fcos3d_small_synthetic.py"
    with pytest.raises(InputError, match="--trust-pickle"):
        load_config(
            small,
            synthetic,
            tmp_path / "infos",
            options=["train_dataloader.dataset.ann_file=evil.pkl"],
        )
    assert not (tmp_path / "it ran").exists()
    pickle.loads((tmp_path / "infos/evil.pkl").read_bytes())
    assert (tmp_path / "it ran").exists()  # whoever had read it would have run it


def test_a_wrong_version_or_split_is_refused_with_what_there_is(synthetic, tmp_path):
    with pytest.raises(InputError, match=rf"no tables of version v1\.0-mini. Found {VERSION}"):
        find_version(synthetic, "v1.0-mini")
    assert find_version(synthetic, None) == VERSION
    assert usual_splits(synthetic, VERSION) == ["train", "search", "val"]
    assert all(
        name.startswith("synthetic-val") for name in scenes_of_split(synthetic, VERSION, "val")
    )
    with pytest.raises(InputError, match=r"no split 'valid'. There are .*search.*val"):
        write_infos(synthetic, VERSION, ["valid"], tmp_path)
    with pytest.raises(InputError, match="'mini_val' has no scene"):
        write_infos(synthetic, VERSION, ["val", "mini_val"], tmp_path)
    assert not list(tmp_path.iterdir())
