"""Frames as they come: videos, bent lenses, arrays, and what is left when a stream is killed."""

import json
import os
import signal
import subprocess
import time

import cv2
import numpy as np
import pytest

from data_tools.images import ImageError, read_image
from sparsevit3d.errors import InputError
from sparsevit3d.stages.calibration import Camera, read_calibration
from sparsevit3d.stages.frames import frames_in, list_images
from sparsevit3d.stages.predict import Detector
from tests.support.console import CONSOLE, run_here

MATRIX = [[500.0, 0, 320], [0, 500.0, 180], [0, 0, 1]]
BENT = [-0.3, 0.1, 0.001, -0.002]
FISHEYE = [0.05, -0.01, 0.002, 0.0]


@pytest.fixture(scope="module")
def photos(synthetic):
    return sorted((synthetic / "samples/CAM_FRONT").iterdir())


@pytest.fixture
def calibration(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"front": {"intrinsic": MATRIX, "width": 640, "height": 360}}))
    return path


def write_video(path, photos, count):
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (640, 360))
    for number in range(count):
        video.write(cv2.imread(str(photos[number % len(photos)])))
    video.release()
    return path


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_arrays_are_found_in_as_files_are(untrained, photos, calibration):
    detector = Detector(untrained)
    detector.model.bbox_head.test_cfg.score_thr = 0.0
    cameras = read_calibration(calibration)
    files = [found.detections for found in detector.predict(photos[:2], cameras)]
    assert files[0]
    arrays = [read_image(photo)[0] for photo in photos[:2]]
    assert detector.find(arrays, [cameras["front"]] * 2) == files
    with pytest.raises(ImageError, match="is 320 x 180, but its camera is calibrated for 640 x"):
        detector.find([arrays[0][::2, ::2]], [cameras["front"]])


@pytest.mark.parametrize(("lens", "bent"), [("pinhole", BENT), ("fisheye", FISHEYE)])
def test_a_straightened_image_has_points_where_the_matrix_says(lens, bent):
    """Points of a scene, bent as the lens bends them, land where a pinhole camera sees them."""
    camera = Camera(np.array(MATRIX), 640, 360, distortion=tuple(bent), lens=lens)
    points = np.array([[x, y, 5.0] for x in (-2.0, 0, 2) for y in (-1.0, 0, 1)])
    image = np.zeros((360, 640, 3), np.uint8)
    still = np.zeros(3)
    if lens == "fisheye":
        seen, _ = cv2.fisheye.projectPoints(
            points[:, None], still, still, camera.intrinsic, np.array(bent)
        )
    else:
        seen, _ = cv2.projectPoints(points, still, still, camera.intrinsic, np.array(bent))
    for place in seen.reshape(-1, 2):
        cv2.circle(image, tuple(place.round().astype(int).tolist()), 3, (255, 255, 255), -1)
    straight = camera.straight(image)
    for x, y, z in points:
        column = round(500 * x / z + 320)
        row = round(500 * y / z + 180)
        assert straight[row, column].max() > 128
    assert Camera(np.array(MATRIX), 640, 360).straight(image) is image


def test_images_of_a_bent_lens_are_straightened_before_the_network(untrained, photos, calibration):
    detector = Detector(untrained)
    detector.model.bbox_head.test_cfg.score_thr = 0.0
    bent = Camera(np.array(MATRIX), 640, 360, distortion=tuple(BENT))
    (found,) = detector.predict(photos[:1], {"front": bent})
    straight = bent.straight(read_image(photos[0])[0])
    plain = Camera(np.array(MATRIX), 640, 360)
    assert detector.find([straight], [plain]) == [found.detections]
    assert np.array_equal(found.view.image, straight[..., ::-1])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"lens": "wide"}, "lens is 'wide'. There are pinhole and fisheye"),
        ({"distortion": [1, 2]}, r"distortion is \[1, 2\], .* Give 4 or 5 or 8 or 12 or 14 numb"),
        ({"lens": "fisheye", "distortion": [0.1] * 5}, "of a fisheye lens. Give 4 numbers"),
        ({"distortion": "k1"}, "distortion is 'k1'"),
    ],
)
def test_a_lens_that_cannot_be_is_refused(tmp_path, changed, words):
    path = tmp_path / "c.json"
    entry = {"intrinsic": MATRIX, "width": 640, "height": 360} | changed
    path.write_text(json.dumps({"front": entry}))
    with pytest.raises(InputError, match=words):
        read_calibration(path)


def test_videos_of_a_rig_come_side_by_side(tmp_path, photos, untrained):
    write_video(tmp_path / "front.avi", photos, 5)
    write_video(tmp_path / "left.avi", photos, 4)
    entry = {"intrinsic": MATRIX, "width": 640, "height": 360}
    (tmp_path / "c.json").write_text(
        json.dumps({name: entry | {"images": f"*{name}*"} for name in ("front", "left")})
    )
    paths = list_images([tmp_path])
    frames, total = frames_in(paths, read_calibration(tmp_path / "c.json"))
    names = [(frame.camera, frame.name.name) for frame in frames]
    assert total == len(names) == 8
    assert names[:3] == [
        ("front", "front.avi#000000"),
        ("left", "left.avi#000000"),
        ("front", "front.avi#000001"),
    ]
    done = run_here(
        *("predict", tmp_path, "--calibration", tmp_path / "c.json", "--fps-report"),
        *("--checkpoint", untrained, "--out", tmp_path / "out"),
    )
    about, *rows = lines_of(tmp_path / "out/predictions.jsonl")
    assert about["plan"] == "0.5|0.5|0.4|0.3"
    assert [row["image"] for row in rows] == [str(tmp_path / name) for _, name in names]
    assert (tmp_path / "out" / rows[0]["picture"]).name == "0000_front.avi_000000.jpg"
    assert all((tmp_path / "out" / row["picture"]).is_file() for row in rows)
    told = " ".join(done.stdout.split())
    assert "frames a second. Of a frame:" in told
    assert {"reading", "network", "drawing"} <= set(told.split())


def test_a_video_that_breaks_off_is_told_and_two_of_one_camera_are_refused(
    tmp_path, photos, calibration
):
    video = write_video(tmp_path / "drive.avi", photos, 40)
    cameras = read_calibration(calibration)
    assert len(list(frames_in([video], cameras)[0])) == 40
    content = bytearray(video.read_bytes())
    content[len(content) // 2 : -2000] = bytes(len(content) - 2000 - len(content) // 2)
    video.write_bytes(content)
    with pytest.warns(UserWarning, match=r"drive.avi: breaks off at frame \d+ of 40"):
        assert len(list(frames_in([video], cameras)[0])) < 30
    other = write_video(tmp_path / "later.avi", photos, 3)
    with pytest.raises(InputError, match=r"later.avi: is of camera 'front', and so is .*drive.avi"):
        frames_in([video, other], cameras)


def test_a_file_that_is_no_video_and_an_empty_folder_are_named(tmp_path, calibration):
    (tmp_path / "torn.mp4").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"torn.mp4: is no video that OpenCV can read"):
        frames_in([tmp_path / "torn.mp4"], read_calibration(calibration))
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"none: holds no .jpg, .jpeg or .png file and no video"):
        list_images([tmp_path / "none"])


def test_a_stream_that_is_killed_leaves_every_line_that_was_done(
    tmp_path, photos, untrained, calibration
):
    video = write_video(tmp_path / "drive.avi", photos, 400)
    out = tmp_path / "out"
    words = (CONSOLE, "predict", video, "--calibration", calibration, "--checkpoint", untrained)
    process = subprocess.Popen(
        [*words, "--out", out, "--no-pictures"], stdout=subprocess.DEVNULL, start_new_session=True
    )
    file = out / "predictions.jsonl"
    end = time.monotonic() + 120
    while time.monotonic() < end and (not file.exists() or file.read_text().count("\n") < 13):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _, *rows = lines_of(file)
    assert 12 <= len(rows) < 400
    assert [row["image"] for row in rows] == [
        f"{video}#{number:06d}" for number in range(len(rows))
    ]
    assert not list(out.glob("*.jpg"))
