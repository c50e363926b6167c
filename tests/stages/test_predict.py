"""Boxes for images of one's own cameras, by command line and Python, and what is refused."""

import json
import shutil

import cv2
import matplotlib.image
import numpy as np
import pytest

from data_tools.images import ImageError
from sparsevit3d.cli.predict import _picture_name
from sparsevit3d.errors import InputError
from sparsevit3d.files import sole_owner, write_bytes
from sparsevit3d.stages.calibration import Camera, read_calibration
from sparsevit3d.stages.look import open_keyframes
from sparsevit3d.stages.predict import Detector
from sparsevit3d.stages.views import Boxes, CameraView
from sparsevit3d.swin.plan import PlanError
from tests.support.console import run, run_here
from visualize.frames import LEAST_SCORE, save_frame


def rows_of(folder):
    """What predictions.jsonl says of all images, and of those that cannot be used."""
    about, *rows = map(json.loads, (folder / "predictions.jsonl").read_text().splitlines())
    good = [row for row in rows if "error" not in row]
    return about | {"images": good, "unreadable": [row for row in rows if "error" in row]}


MATRIX = [[500.0, 0, 320], [0, 500.0, 180], [0, 0, 1]]


def calibration_of(root, path):
    """A root's cameras as a user would write them down."""
    (keyframe, *_) = json.loads((root / "nuscenes_infos_val.json").read_text())["data_list"]
    cameras = {
        name: {
            "intrinsic": image["cam2img"],
            "width": image["width"],
            "height": image["height"],
            "images": f"*__{name}__*",
        }
        for name, image in keyframe["images"].items()
    }
    path.write_text(json.dumps(cameras))
    return path


def test_the_same_boxes_as_on_the_dataset(synthetic, small_config, untrained, tmp_path):
    """One image without any dataset, and as the dataset's own camera: the same picture, boxes and
    scores.
    """
    views = open_keyframes(small_config, untrained, "val").look(0).views
    (keyframe, *_) = json.loads((synthetic / "nuscenes_infos_val.json").read_text())["data_list"]
    paths = [
        synthetic / "samples" / name / image["img_path"]
        for name, image in keyframe["images"].items()
    ]
    detector = Detector(untrained)
    detector.model.bbox_head.test_cfg.score_thr = small_config.model.test_cfg.score_thr
    predictions = list(
        detector.predict(
            paths, read_calibration(calibration_of(synthetic, tmp_path / "calibration.json"))
        )
    )
    assert [prediction.camera for prediction in predictions] == [view.channel for view in views]
    for prediction, view in zip(predictions, views, strict=True):
        assert np.allclose(prediction.view.predictions.corners, view.predictions.corners, atol=1e-4)
        assert np.allclose(prediction.view.predictions.scores, view.predictions.scores, atol=1e-5)
        assert np.array_equal(prediction.view.image, view.image)
        scores = [detection.score for detection in prediction.detections]
        assert scores == sorted(scores, reverse=True)
        for detection in prediction.detections:
            assert any(
                np.allclose(corners.mean(0), detection.centre, atol=1e-3)
                for corners in view.predictions.corners
            )


def test_a_box_is_described_in_its_cameras_frame(synthetic, untrained, tmp_path):
    """Centre, sides and yaw give the corners that are drawn."""
    image = next((synthetic / "samples/CAM_FRONT").glob("*-val-*"))
    (prediction,) = Detector(untrained).predict(
        [image], read_calibration(calibration_of(synthetic, tmp_path / "c.json"))
    )
    order = np.argsort(-prediction.view.predictions.scores, kind="stable")
    for detection, corners in zip(
        prediction.detections, prediction.view.predictions.corners[order], strict=True
    ):
        along = np.array([np.cos(detection.yaw), 0, -np.sin(detection.yaw)])
        across = np.array([np.sin(detection.yaw), 0, np.cos(detection.yaw)])
        offsets = corners - np.array(detection.centre)
        assert np.allclose(np.abs(offsets @ along), detection.length / 2, atol=1e-3)
        assert np.allclose(np.abs(offsets @ across), detection.width / 2, atol=1e-3)
        assert np.allclose(np.abs(offsets[:, 1]), detection.height / 2, atol=1e-3)


def test_predict_writes_json_and_pictures_of_real_images(real, untrained, tmp_path):
    tables = {
        name: json.loads((real / f"v1.0-mini/{name}.json").read_text())
        for name in ("sample_data", "calibrated_sensor")
    }
    matrices = {row["token"]: row["camera_intrinsic"] for row in tables["calibrated_sensor"]}
    cameras = {
        row["filename"].split("/")[1]: {
            "intrinsic": matrices[row["calibrated_sensor_token"]],
            "width": row["width"],
            "height": row["height"],
            "images": f"*{row['filename'].split('/')[-1]}",
        }
        for row in tables["sample_data"]
        if row["filename"].endswith("jpg") and "n015-2018-07-24" in row["filename"]
    }
    (tmp_path / "calibration.json").write_text(json.dumps(cameras))
    images = sorted(path for path in (real / "samples").glob("CAM_*/n015-2018-07-24*.jpg"))
    arguments = (
        "--calibration",
        tmp_path / "calibration.json",
        "--checkpoint",
        untrained,
        "--plan",
        "0|0|0.5|0",
    )
    run("predict", *images, *arguments, "--out", tmp_path / "out")
    document = rows_of(tmp_path / "out")
    assert document["plan"] == "0|0|0.5|0"
    assert [row["image"] for row in document["images"]] == [str(path) for path in images]
    assert {row["camera"] for row in document["images"]} == set(cameras)
    for row in document["images"]:
        assert row["detections"][0].keys() >= {
            "name",
            "score",
            "centre",
            "length",
            "height",
            "width",
            "yaw",
            "velocity",
            "attribute",
        }
        assert matplotlib.image.imread(tmp_path / "out" / row["picture"]).shape == (900, 1600, 3)


def test_a_folder_of_one_camera_needs_no_pattern(synthetic, untrained, tmp_path):
    (tmp_path / "photos").mkdir()
    for path in sorted((synthetic / "samples/CAM_FRONT").iterdir())[:3]:
        shutil.copy(path, tmp_path / "photos")
    (tmp_path / "photos/notes.txt").touch()
    (tmp_path / "calibration.json").write_text(
        json.dumps({"front": {"intrinsic": MATRIX, "width": 640, "height": 360}})
    )
    arguments = ("--calibration", tmp_path / "calibration.json", "--checkpoint", untrained)
    run("predict", tmp_path / "photos", *arguments, "--out", tmp_path / "out")
    assert len(rows_of(tmp_path / "out")["images"]) == 3


LONG = {"plain": "n" * 248, "accented": "\u00e9" * 120, "pictures": "a" + "\U0001f697" * 61}


@pytest.mark.parametrize("stem", LONG.values(), ids=LONG)
def test_a_picture_of_an_image_with_a_long_name_can_be_written(stem, tmp_path):
    image = tmp_path / f"{stem}.jpg"
    image.touch()
    name = _picture_name(123_456, image)
    write_bytes(tmp_path / name, b"")
    assert len(name.encode()) <= 143 - len(".partial.")
    assert stem.startswith(name.removeprefix("123456_").removesuffix(".jpg"))


def test_an_image_that_cannot_be_used_is_named_and_the_others_are_done(
    synthetic, untrained, tmp_path
):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, path in enumerate(sorted((synthetic / "samples/CAM_FRONT").iterdir())[:8]):
        shutil.copy(path, photos / f"{number}.jpg")
    (photos / "1.jpg").write_bytes(b"torn")
    cv2.imwrite(str(photos / "3.jpg"), np.zeros((90, 160, 3), np.uint8))
    (tmp_path / "calibration.json").write_text(
        json.dumps({"front": {"intrinsic": MATRIX, "width": 640, "height": 360}})
    )
    arguments = ("--calibration", tmp_path / "calibration.json", "--checkpoint", untrained)
    out = tmp_path / "out"
    done = run_here("predict", photos, *arguments, "--out", out, check=False)
    assert done.returncode == 1
    told = " ".join(done.stdout.split())
    assert "1.jpg: not a readable image" in told
    assert "3.jpg: is 160 x 90, but its camera is calibrated for 640 x 360" in told
    assert "2 of 8 images could not be used" in told
    document = rows_of(out)
    wanted = [str(photos / f"{number}.jpg") for number in (0, 2, 4, 5, 6, 7)]
    assert [row["image"] for row in document["images"]] == wanted
    assert [row["image"] for row in document["unreadable"]] == [
        str(photos / "1.jpg"),
        str(photos / "3.jpg"),
    ]
    assert "not a readable image" in document["unreadable"][0]["error"]
    assert len(list(out.glob("*.jpg"))) == 6


def test_two_calls_do_not_write_into_one_folder(synthetic, untrained, tmp_path):
    image = next((synthetic / "samples/CAM_FRONT").iterdir())
    (tmp_path / "calibration.json").write_text(
        json.dumps({"front": {"intrinsic": MATRIX, "width": 640, "height": 360}})
    )
    arguments = ("--calibration", tmp_path / "calibration.json", "--checkpoint", untrained)
    (tmp_path / "out").mkdir()
    with sole_owner(tmp_path / "out"):
        done = run_here("predict", image, *arguments, "--out", tmp_path / "out", check=False)
    assert done.returncode == 1
    assert "out: another call is writing here" in " ".join(done.stdout.split())
    assert not list((tmp_path / "out").iterdir())


def test_a_checkpoint_without_a_config_asks_for_it(synthetic, untrained, tmp_path):
    (tmp_path / "alone.pth").write_bytes(untrained.read_bytes())
    with pytest.raises(
        InputError, match=r"alone\.pth: has no config\.py beside it\. Name its exp.*--config"
    ):
        Detector(tmp_path / "alone.pth")


def test_a_picture_is_no_larger_than_is_told_and_its_boxes_stay_in_place(
    synthetic, untrained, tmp_path
):
    """The same frame, five times as large, by a camera of as many pixels more."""
    source = next((synthetic / "samples/CAM_FRONT").glob("*-val-*"))
    large = cv2.resize(cv2.imread(str(source)), (3200, 1800), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "large.png"), large)
    detector = Detector(untrained)
    detector.model.bbox_head.test_cfg.score_thr = 0.0
    views = []
    for path, factor in ((source, 1), (tmp_path / "large.png", 5)):
        matrix = np.diag([factor, factor, 1]) @ np.array(MATRIX)
        camera = Camera(matrix, 640 * factor, 360 * factor)
        (prediction,) = detector.predict([path], {"front": camera})
        views.append(prediction.view)
    small, shrunk = views
    assert small.image.shape == (360, 640, 3)
    assert shrunk.image.shape == (900, 1600, 3)
    assert np.allclose(shrunk.intrinsic, np.diag([2.5, 2.5, 1]) @ small.intrinsic)
    assert np.allclose(
        shrunk.to_frame((7, 5, 90, 40)), np.multiply(2.5, small.to_frame((7, 5, 90, 40)))
    )
    again = cv2.resize(shrunk.image, (640, 360), interpolation=cv2.INTER_AREA)
    assert np.abs(again.astype(int) - small.image).mean() < 4
    save_frame(shrunk, tmp_path / "frame.jpg")
    assert matplotlib.image.imread(tmp_path / "frame.jpg").shape == (900, 1600, 3)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", r"is no calibration \("),
        ("[]", r"is no calibration \(it is no JSON object\)\. A calibration is \{"),
        ("{}", r"names no camera\. A calibration is \{"),
        (
            {"front": {"intrinsic": MATRIX}},
            r"camera 'front' has \['intrinsic'\]\. A calibration is",
        ),
        (
            {"front": {"intrinsic": MATRIX, "width": 640, "height": 360, "pattern": "*"}},
            "'pattern'",
        ),
        (
            {"front": {"intrinsic": MATRIX[:2], "width": 640, "height": 360}},
            r"camera 'front': intrinsic is \[\[500\.0, 0, 320\]",
        ),
        (
            {
                "front": {
                    "intrinsic": [[-1, 0, 0], [0, 1, 0], [0, 0, 1]],
                    "width": 640,
                    "height": 360,
                }
            },
            r"intrinsic is \[\[-1",
        ),
        (
            {"front": {"intrinsic": MATRIX, "width": "640", "height": 360}},
            "width is '640', not a number of pixels",
        ),
        (
            {name: {"intrinsic": MATRIX, "width": 640, "height": 360} for name in "ab"},
            r"camera 'a' has .*\. A calibration is",
        ),
    ],
)
def test_a_calibration_that_cannot_be_is_refused_with_the_form(tmp_path, document, words):
    path = tmp_path / "calibration.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(
        InputError, match=rf"calibration\.json: .*{words}|calibration\.json: {words}"
    ):
        read_calibration(path)


def test_images_that_do_not_belong_to_one_camera_of_their_size_are_refused(untrained, tmp_path):
    cv2.imwrite(str(tmp_path / "front.png"), np.zeros((90, 160, 3), np.uint8))
    entry = {"intrinsic": MATRIX, "width": 640, "height": 360}
    (tmp_path / "c.json").write_text(
        json.dumps({"front": entry | {"images": "*front*"}, "any": entry | {"images": "*.jpg"}})
    )
    cameras = read_calibration(tmp_path / "c.json")
    detector = Detector(untrained)
    with pytest.raises(
        InputError, match=r"back\.png: matches no camera in the calibration \(front: \*front"
    ):
        next(detector.predict([tmp_path / "back.png"], cameras))
    with pytest.raises(InputError, match=r"front\.jpg: matches several cameras \(front, any\)"):
        next(detector.predict([tmp_path / "front.jpg"], cameras))
    with pytest.raises(
        ImageError, match=r"front\.png: is 160 x 90, but its camera is calibrated for 640 x 360"
    ):
        next(detector.predict([tmp_path / "front.png"], cameras))
    with pytest.raises(PlanError):
        detector.plan = "0.5|0.5"


def test_a_frame_shows_the_boxes_that_are_worth_it(tmp_path):
    corners = np.array(
        [[x, y, z] for z in (9.0, 11.0) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    )
    image = np.full((180, 320, 3), 90, np.uint8)
    pictures = []
    for score in (LEAST_SCORE + 0.1, LEAST_SCORE - 0.1):
        found = Boxes(corners[None], ["car"], np.array([score]))
        view = CameraView(
            "front",
            image,
            np.array([[300.0, 0, 160], [0, 300, 90], [0, 0, 1]]),
            (1, 1),
            (0, 0),
            (320, 180),
            predictions=found,
        )
        save_frame(view, tmp_path / "frame.png")
        pictures.append(matplotlib.image.imread(tmp_path / "frame.png")[..., :3])
    drawn, plain = pictures
    assert drawn.shape == plain.shape == (180, 320, 3)
    assert np.allclose(plain, 90 / 255, atol=0.01)
    changed = np.abs(drawn - plain).sum(-1) > 0.1
    assert changed[90 - 33 : 90 + 34, 160 - 35 : 160 + 36].sum() > 100
    assert not changed[140:].any()
    assert [path.name for path in tmp_path.iterdir()] == ["frame.png"]
