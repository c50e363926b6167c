"""Other people's data become roots: what goes in comes out, and what is not said stays unknown."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.check.run import check
from data_tools.convert import info_path, write_infos
from data_tools.imports.frames import parse_frames, read_frames
from data_tools.imports.kitti import read_kitti
from data_tools.imports.root import VERSION, write_root
from sparsevit3d.errors import InputError
from tests.support.console import ROOT, run_here
from tests.support.own_frames import INTRINSIC, camera_to_ego, car, write_frames

SHARED = ROOT.parent / "shared" / "data"


def make_root(folder, document=None, **how):
    found = write_frames(folder, **how)
    if document is not None:
        found = document(found)
        (folder / "frames.json").write_text(json.dumps(found))
    root = folder / "root"
    done = write_root(read_frames(folder / "frames.json"), root)
    report = check(root, VERSION, True, 1)
    assert not report.counts, report.examples
    return root, done


def infos_of(root, split):
    write_infos(root, VERSION, [split])
    return json.loads(info_path(root, split).read_text())["data_list"]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_boxes_come_out_as_they_went_in(tmp_path, suffix):
    headings = {"left": 60, "ahead": 0, "behind": 180}

    def moved(document):
        for frame in document["frames"]:
            pose = np.eye(4)
            pose[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
            pose[:3, 3] = [700, 900, 3]
            frame["ego_to_global"] = pose.tolist()
        return document

    root, done = make_root(tmp_path, moved, headings=headings, suffix=suffix)
    assert (done.images, done.objects, done.unseen) == (12, 12, 0)
    for keyframe in infos_of(root, "train"):
        assert list(keyframe["images"]) == list(headings)
        for place, name in enumerate(headings):
            (shown,) = keyframe["cam_instances"][name]
            expected = [0.0, 0.8, 10.0 + place, 4.5, 1.5, 1.8, 0.3]
            assert np.allclose(shown["bbox_3d"], expected, atol=1e-6)
            assert np.isnan(shown["velocity"]).all()
            assert keyframe["images"][name]["width"] == 320 + 32 * place


def test_the_example_of_the_docs_works(tmp_path):
    page = (ROOT / "docs" / "your-data.md").read_text()
    (tmp_path / "frames.json").write_text(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])
    (tmp_path / "images").mkdir()
    for name in ("0001.jpg", "0002.jpg"):
        Image.new("RGB", (1600, 900)).save(tmp_path / "images" / name)
    out = run_here("data", "import", "frames", tmp_path / "frames.json", tmp_path / "mine").stdout
    assert "2 images, 3 boxes" in out
    assert "velocities" in out
    for verb in page.split("```")[1].splitlines():
        if "data/mine" in verb and "import" not in verb:
            command = verb.partition("#")[0].split()[1:]
            run_here(*(tmp_path / "mine" if word == "data/mine" else word for word in command))
    assert (tmp_path / "mine" / "nuscenes_infos_val.json").is_file()


def test_velocities_come_from_the_file_or_from_tracks_with_times_and_poses(tmp_path):
    def with_tracks(document):
        for number, frame in enumerate(document["frames"]):
            pose = np.eye(4)
            pose[0, 3] = 5.0 * number
            frame |= {"scene": "drive", "split": "train", "time": 0.5 * number}
            frame["ego_to_global"] = pose.tolist()
            frame["objects"] = [car(z=12.0, track="t"), car(x=2.0, velocity=[0.5, -3.0])]
        return document

    root, done = make_root(tmp_path, with_tracks)
    assert done.lacks == ["attributes", "visibility"]
    for keyframe in infos_of(root, "train"):
        followed, stated = keyframe["cam_instances"]["front"]
        assert np.allclose(followed["velocity"], [0, 10])  # as fast as the ego
        assert np.allclose(stated["velocity"], [0.5, -3.0])


def test_tracks_without_poses_say_nothing_of_velocities(tmp_path):
    def with_tracks(document):
        for number, frame in enumerate(document["frames"]):
            frame |= {"scene": "drive", "split": "train", "time": 0.5 * number}
            frame["objects"] = [car(z=12.0 + number, track="t")]
        return document

    root, done = make_root(tmp_path, with_tracks)
    assert "velocities" in done.lacks
    shown = [row["cam_instances"]["front"][0]["velocity"] for row in infos_of(root, "train")]
    assert np.isnan(shown).all()


def test_boxes_that_no_image_shows_are_left_out(tmp_path):
    def more(document):
        document["frames"][0]["objects"] += [car(z=-12.0), car(x=80.0)]
        return document

    _, done = make_root(tmp_path, more)
    assert (done.objects, done.unseen) == (4, 2)


def test_frames_without_splits_are_for_training_search_and_val(tmp_path):
    _, done = make_root(tmp_path, splits=[None] * 12)
    assert {name: len(scenes) for name, scenes in done.splits.items()} == {
        "train": 9,
        "val": 2,
        "search": 1,
    }
    assert not set(done.splits["train"]) & set(done.splits["search"])


def test_an_interrupted_import_begins_anew_with_what_the_images_are_now(tmp_path):
    write_frames(tmp_path)
    frames = read_frames(tmp_path / "frames.json")

    def stop(done, total, note=""):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_root(frames, tmp_path / "root", stop)
    Image.new("RGB", (320, 180), "red").save(tmp_path / "front_0.jpg")
    write_root(frames, tmp_path / "root")
    assert not check(tmp_path / "root", VERSION, True, 1).counts
    (image,) = (tmp_path / "root" / "samples" / "front").glob("000000_*")
    assert image.read_bytes() == (tmp_path / "front_0.jpg").read_bytes()
    with pytest.raises(InputError, match="holds an imported root already"):
        write_root(frames, tmp_path / "root")
    with pytest.raises(InputError, match="is not empty"):
        write_root(frames, tmp_path)


def test_drives_far_apart_in_time_and_place_are_no_jumps(tmp_path):
    def two_drives(document):
        for number, frame in enumerate(document["frames"]):
            pose = np.eye(4)
            pose[:2, 3] = 5000.0 * (number // 2)
            # both drives count their seconds from 0, and the first one is scene 0
            frame |= {"scene": number // 2, "split": "train", "time": 0.5 * (number % 2)}
            frame["ego_to_global"] = pose.tolist()
        return document

    _, done = make_root(tmp_path, two_drives)
    assert {name: len(scenes) for name, scenes in done.splits.items()} == {"train": 2}


def test_a_velocity_is_along_the_ground_for_a_camera_that_looks_down(tmp_path):
    down = np.radians(30)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(down), -np.sin(down)], [np.sin(down), np.cos(down)]]

    def looking_down(document):
        upright = np.array(document["cameras"]["front"]["camera_to_ego"])
        document["cameras"]["front"]["camera_to_ego"] = (upright @ np.linalg.inv(tilt)).tolist()
        for frame in document["frames"]:
            frame["objects"] = [car(velocity=[3.0, 10.0])]
        return document

    root, _ = make_root(tmp_path, looking_down)
    rows = json.loads((root / VERSION / "sample_annotation.json").read_text())
    assert all(np.allclose(row["velocity"], [10.0, -3.0, 0.0]) for row in rows)


def set_in_object(**values):
    def change(document):
        document["frames"][1]["objects"][0] |= values

    return change


def set_in_frame(**values):
    def change(document):
        document["frames"][1] |= values

    return change


BAD = {
    "frame 1: object 0: class is ['car']": set_in_object(**{"class": ["car"]}),
    "frame 1: object 0: yaw is inf": set_in_object(yaw=float("inf")),
    "frame 1: object 0: track is []": set_in_object(track=[]),
    "frame 1: front: file is 5": set_in_frame(images={"front": {"file": 5}}),
    "frame 1: front: file is 'a\\x00b'": set_in_frame(images={"front": "a\0b"}),
    "frame 1: scene is []": set_in_frame(scene=[]),
    "frame 1: scene is 'frame-000000'": set_in_frame(scene="frame-000000"),
    "frame 1: split is '../up'": set_in_frame(split="../up"),
    "frame 1: split is 'imported_val'": set_in_frame(split="imported_val"),
    "frame 1: two objects have the track 't'": set_in_frame(
        objects=[car(track="t"), car(x=3.0, track="t")]
    ),
    "frame 1: the track 't' is human.pedestrian.adult, before it was vehicle.car": (
        lambda document: [
            frame.update(scene="a", split="train", objects=[car(track="t") | {"class": name}])
            for frame, name in zip(
                document["frames"], ["car", "pedestrian", "car", "car"], strict=True
            )
        ]
    ),
    "a camera is named 'LIDAR_TOP'": lambda document: document["cameras"].update({"LIDAR_TOP": {}}),
    "frames.json: has more": lambda document: document.update(more=1),
    "frame 1: object 0: class is 'tram'": set_in_object(**{"class": "tram"}),
    "frame 1: object 0: center is": set_in_object(center=[1, 2]),
    "frame 1: object 0: size is": set_in_object(size=[4.5, 0, 1.5]),
    "frame 1: object 0: yaw is": set_in_object(yaw="north"),
    "frame 1: object 0: velocity is": set_in_object(velocity=[1, 2, 3]),
    "frame 1: object 0: attribute is": set_in_object(attribute="driving"),
    "frame 1: object 0: visibility is 80": set_in_object(visibility=80),
    "frame 1: object 0: lidar_points is": set_in_object(lidar_points=1.5),
    "frame 1: object 0: has colour": set_in_object(colour="red"),
    "frame 1: object 0: camera is 'rear'": set_in_object(camera="rear"),
    "frame 1: images is": set_in_frame(images={"rear": "1.jpg"}),
    "frame 1: objects is": set_in_frame(objects="none"),
    "frame 1: time is": set_in_frame(time="noon"),
    "frame 1: ego_to_global is": set_in_frame(ego_to_global=np.ones((4, 4)).tolist()),
    "frame 1: has speed": set_in_frame(speed=3),
    "frame 1: split is 3": set_in_frame(split=3),
    "frame 1, scene 'a': split is 'val', but 'train'": lambda document: [
        frame.update(scene="a", split=split)
        for frame, split in zip(document["frames"], ["train", "val", "train", "train"], strict=True)
    ],
    "frame 1, scene 'a': time is 2, not later": lambda document: [
        frame.update(scene="a", split="train", time=time)
        for frame, time in zip(document["frames"], [2, 2, 3, 4], strict=True)
    ],
    "frame 0: front: intrinsic is": lambda document: document["cameras"]["front"].pop("intrinsic"),
    "a camera is named '../up'": lambda document: document["cameras"].update({"../up": {}}),
    "frames.json: has no cameras": lambda document: document.pop("cameras"),
    "and neither is empty": lambda document: document["frames"].clear(),
}


@pytest.mark.parametrize("message", BAD)
def test_a_mistake_in_the_file_is_named_by_frame_and_value(tmp_path, message):
    document = write_frames(tmp_path)
    BAD[message](document)
    with pytest.raises(InputError, match=re.escape(message)):
        parse_frames(document, tmp_path, "frames.json")


def test_a_rig_of_several_cameras_needs_to_know_where_they_stand(tmp_path):
    document = write_frames(tmp_path, {"a": 0, "b": 90})
    document["cameras"]["b"].pop("camera_to_ego")
    with pytest.raises(InputError, match="frame 0: b: has no camera_to_ego"):
        parse_frames(document, tmp_path, "frames.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not a readable image"), (None, "cannot be read"), ("GIF", "is neither JPEG nor")],
)
def test_an_image_that_cannot_be_used_is_named(tmp_path, content, message):
    write_frames(tmp_path)
    image = tmp_path / "front_1.jpg"
    image.unlink()
    if content == "GIF":
        Image.new("P", (320, 180)).save(image, "GIF")
    elif content is not None:
        image.write_bytes(content)
    with pytest.raises(InputError, match=f"front_1.jpg: {message}"):
        write_root(read_frames(tmp_path / "frames.json"), tmp_path / "root")


def test_an_image_that_lies_on_its_side_is_turned_as_the_loader_turns_it(tmp_path):
    write_frames(tmp_path)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (180, 320)).save(tmp_path / "front_1.jpg", exif=turned)
    root = tmp_path / "root"
    write_root(read_frames(tmp_path / "frames.json"), root)
    assert not check(root, VERSION, True, 1).counts
    assert infos_of(root, "train")[1]["images"]["front"]["width"] == 320


def kitti(folder, frames=6):
    """A folder of KITTI's layout, with one car that stands 15 m ahead of the reference camera."""
    for name in ("image_2", "label_2", "calib"):
        (folder / name).mkdir(parents=True)
    for number in range(frames):
        Image.new("RGB", (1242, 375)).save(folder / "image_2" / f"{number:06d}.png")
        (folder / "label_2" / f"{number:06d}.txt").write_text(
            "Car 0.00 1 -1.57 500 150 700 250 1.50 1.60 4.00 0.50 1.65 15.00 -1.57\n"
            "DontCare -1 -1 -10 503 169 590 190 -1 -1 -1 -1000 -1000 -1000 -10\n"
            "Tram 0.00 0 -1.57 500 150 700 250 3.50 2.60 14.00 5.50 1.65 35.00 -1.57\n"
        )
        (folder / "calib" / f"{number:06d}.txt").write_text(
            "P0: 700 0 600 0 0 700 180 0 0 0 1 0\nP2: 700 0 600 42 0 700 180 0 0 0 1 0\n"
        )
    return folder


def test_kitti_is_moved_to_its_second_camera_and_split_by_drive(tmp_path):
    drives = tmp_path / "drives.json"
    drives.write_text(json.dumps({f"{number:06d}": str(number) for number in range(6)}))
    out = run_here(
        *("data", "import", "kitti", kitti(tmp_path / "kitti"), tmp_path / "root"),
        *("--drives", drives),
    ).stdout
    assert "6 DontCare, 6 Tram" in out
    assert not check(tmp_path / "root", VERSION, True, 1).counts
    (keyframe,) = infos_of(tmp_path / "root", "val")
    (shown,) = keyframe["cam_instances"]["CAM_2"]
    # the centre is half a height above the bottom, and the camera stands 6 cm to the left
    assert np.allclose(shown["bbox_3d"], [0.56, 0.9, 15.0, 4.0, 1.5, 1.6, -1.57], atol=1e-6)
    assert len(infos_of(tmp_path / "root", "train")) == 4
    assert len(infos_of(tmp_path / "root", "search")) == 1


def test_frames_of_one_drive_are_in_one_split(tmp_path):
    drive_of = {f"{number:06d}": f"drive {number // 2}" for number in range(24)}
    (tmp_path / "drives.json").write_text(json.dumps(drive_of))
    (tmp_path / "train.txt").write_text("\n".join(list(drive_of)[:20]))
    (tmp_path / "val.txt").write_text("\n".join(list(drive_of)[20:]))
    lists = {name: tmp_path / f"{name}.txt" for name in ("train", "val")}
    for splits in (None, lists):
        found = read_kitti(
            kitti(tmp_path / str(splits is None), 24), splits, tmp_path / "drives.json"
        )
        split_of = {}
        for frame in found.document["frames"]:
            drive = drive_of[frame["scene"].removeprefix("kitti-")]
            assert split_of.setdefault(drive, frame["split"]) == frame["split"]
        assert set(split_of.values()) == {"train", "search", "val"}


def test_kitti_is_split_by_its_own_lists(tmp_path):
    folder = kitti(tmp_path / "kitti")
    (tmp_path / "a.txt").write_text("000000\n000001\n")
    (tmp_path / "b.txt").write_text("000005\n")
    lists = [word for name in "ab" for word in ("--split", f"{name}={tmp_path / name}.txt")]
    out = run_here("data", "import", "kitti", folder, tmp_path / "root", *lists).stdout
    assert "Scenes: a 2, b 1." in out
    (tmp_path / "b.txt").write_text("000001\n")
    done = run_here("data", "import", "kitti", folder, tmp_path / "r", *lists, check=False)
    assert "frame 000001, which is in a as well" in done.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("calib/000000.txt", "P0: 1 2 3\n", "has no P2"),
        ("calib/000000.txt", "P2: 1 2 3\n", "Give 12 numbers"),
        ("label_2/000000.txt", "Car 0 0\n", "line 1 is not KITTI's"),
    ],
)
def test_a_damaged_file_of_kitti_is_named(tmp_path, file, text, message):
    folder = kitti(tmp_path / "kitti", 1)
    (folder / file).write_text(text)
    done = run_here("data", "import", "kitti", folder, tmp_path / "root", check=False)
    assert done.returncode == 1
    assert Path(file).name in done.stdout
    assert message in done.stdout.replace("\n", " ")


def test_real_kitti_boxes_project_onto_their_labels(tmp_path):
    source = SHARED / "kitti_75"
    if not source.is_dir():
        pytest.skip(f"no frames of KITTI in {source}")
    drives = source / "drive_of_frame.json"
    run_here("data", "import", "kitti", source, tmp_path / "root", "--drives", drives)
    scenes = json.loads((tmp_path / "root" / VERSION / "scene.json").read_text())
    samples = json.loads((tmp_path / "root" / VERSION / "sample.json").read_text())
    names = {row["token"]: row["name"].removeprefix("kitti-") for row in scenes}
    frame_of = {row["token"]: names[row["scene_token"]] for row in samples}
    errors = []
    for keyframe in infos_of(tmp_path / "root", "val"):
        labels = source / "training" / "label_2" / f"{frame_of[keyframe['token']]}.txt"
        shown = np.array([row["bbox"] for row in keyframe["cam_instances"]["CAM_2"]])
        for name, *values in map(str.split, labels.read_text().splitlines()):
            if name in ("Car", "Pedestrian") and float(values[0]) == 0:
                box = np.array(values[3:7], float)
                errors.append(np.abs(shown - box).max(1).min())
    assert len(errors) > 20
    assert np.median(errors) < 2  # pixels


def test_astyx_comes_from_the_radars_frame(tmp_path):
    source = tmp_path / "astyx"
    for name in ("camera_front", "calibration", "groundtruth_obj3d"):
        (source / name).mkdir(parents=True)
    Image.new("RGB", (320, 180)).save(source / "camera_front" / "000000.jpg")
    radar = {"sensor_uid": "radar_6455", "calib_data": {"T_to_ref_COS": np.eye(4).tolist()}}
    lens = {"T_to_ref_COS": camera_to_ego(0), "K": INTRINSIC}
    sensors = [radar, {"sensor_uid": "camera_front", "calib_data": lens}]
    (source / "calibration" / "000000.json").write_text(json.dumps({"sensors": sensors}))
    box = {"center3d": [20.0, -3.0, 0.7], "dimension3d": [4.0, 1.8, 1.5]}
    half_turn = {"orientation_quat": [0.0, 0.0, 0.0, 1.0]}
    objects = [box | half_turn | {"classname": name} for name in ("Car", "Towed Object")]
    labels = source / "groundtruth_obj3d" / "000000.json"
    labels.write_text(json.dumps({"objects": objects}))
    out = run_here("data", "import", "astyx", source, tmp_path / "root").stdout
    assert "1 Towed Object" in out
    (keyframe,) = infos_of(tmp_path / "root", "train")
    (shown,) = keyframe["cam_instances"]["CAM_FRONT"]
    # the car looks back at the camera, which stands 1.5 m high
    expected = [3.0, 0.8, 20.0, 4.0, 1.5, 1.8, np.pi / 2]
    assert np.allclose(shown["bbox_3d"], expected, atol=1e-6)
    labels.write_text(json.dumps({"objects": [{"classname": "Car"}]}))
    done = run_here("data", "import", "astyx", source, tmp_path / "other", check=False)
    assert "has an object that is not Astyx'" in done.stdout.replace("\n", " ")
