"""Damage that tables show no sign of: values that make no sense, and files that are not what their
rows say.
"""

import json

import numpy as np
from PIL import Image

from data_tools.synthetic.dataset import VERSION
from tests.support.damage import annotation_of, damage, edit, keyframe_file, put, row_of
from tests.support.disk import huge_png


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
    return put(
        root, "calibrated_sensor", 0, camera_intrinsic=[[-50, 0, 48], [0, 50, 27], [0, 0, 1]]
    )


@damage("intrinsics of another size", "calibrated_sensor")
def a_matrix_is_of_the_native_size(root):
    return put(
        root, "calibrated_sensor", 0, camera_intrinsic=[[1266, 0, 816], [0, 1266, 491], [0, 0, 1]]
    )


@damage("stretched pixels", "calibrated_sensor", warning=True)
def a_matrix_is_scaled_one_way(root):
    return put(
        root, "calibrated_sensor", 0, camera_intrinsic=[[152, 0, 48], [0, 76, 27], [0, 0, 1]]
    )


@damage("camera of another name", "calibrated_sensor", warning=True)
def two_cameras_are_swapped(root):
    def swap(rows):
        rotation = rows[0]["rotation"]
        rows[0]["rotation"] = rows[3]["rotation"]
        rows[3]["rotation"] = rotation
        return rows[0]["token"]

    return edit(root, "calibrated_sensor", swap)


@damage("pose of another time", "sample_data")
def a_pose_is_of_another_time(root):
    pose = edit(
        root,
        "ego_pose",
        lambda rows: rows[1].update(timestamp=rows[1]["timestamp"] + 1_000_000) or rows[1]["token"],
    )
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
    return edit(
        root,
        "sample_data",
        lambda rows: rows[1].update(timestamp=rows[1]["timestamp"] + 200_000) or rows[1]["token"],
    )


@damage("empty box", "sample_annotation")
def a_box_has_no_height(root):
    return put(root, "sample_annotation", 0, size=[1.9, 4.5, 0.0])


@damage("width and length swapped", "sample_annotation", warning=True)
def a_car_is_wider_than_long(root):
    return put(root, "sample_annotation", annotation_of(root, "vehicle.car"), size=[4.6, 1.9, 1.7])


@damage("implausible size", "sample_annotation", warning=True)
def a_car_is_in_centimetres(root):
    return put(
        root, "sample_annotation", annotation_of(root, "vehicle.car"), size=[190.0, 460.0, 170.0]
    )


@damage("negative count", "sample_annotation")
def a_count_is_negative(root):
    return put(root, "sample_annotation", 0, num_lidar_pts=-1)


@damage("several attributes", "sample_annotation")
def a_car_moves_and_is_parked(root):
    attributes = json.loads((root / VERSION / "attribute.json").read_text())
    both = [
        row["token"] for row in attributes if row["name"] in ("vehicle.moving", "vehicle.parked")
    ]
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


@damage("image of another format", "sample_data")
def an_image_is_of_another_format(root):
    Image.new("RGB", (96, 54)).save(root / "frame.png")
    return keyframe_file(root, ".jpg", lambda old: (root / "frame.png").read_bytes())


@damage("image of another size", "sample_data")
def an_image_is_scaled(root):
    Image.new("RGB", (48, 27)).save(root / "small.jpg")
    return keyframe_file(root, ".jpg", lambda old: (root / "small.jpg").read_bytes())


@damage("image of another size", "sample_data")
def an_image_lies_on_its_side(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 54)).save(root / "turned.jpg", exif=exif)
    return keyframe_file(root, ".jpg", lambda old: (root / "turned.jpg").read_bytes())


@damage("undecodable image", "sample_data")
def an_image_is_larger_than_the_loader_takes(root):
    return keyframe_file(root, ".jpg", lambda old: huge_png(20_000, 20_000))


@damage("undecodable image", "sample_data")
def an_image_has_a_mode_that_the_loader_refuses(root):
    Image.new("F", (96, 54)).save(root / "float.tif")
    index = row_of(root, "sample_data", lambda row: row["filename"].endswith(".jpg"))
    put(root, "sample_data", index, fileformat="tif")
    return keyframe_file(root, ".jpg", lambda old: (root / "float.tif").read_bytes())


@damage("axis off the middle", "calibrated_sensor", warning=True)
def a_matrix_is_of_half_the_size(root):
    return put(root, "calibrated_sensor", 0, camera_intrinsic=[[38, 0, 24], [0, 38, 13], [0, 0, 1]])


@damage("truncated lidar", "sample_data")
def a_lidar_file_is_cut_off(root):
    return keyframe_file(root, ".pcd.bin", lambda old: old[:-7])


@damage("impossible lidar", "sample_data")
def a_lidar_file_has_no_numbers(root):
    return keyframe_file(
        root, ".pcd.bin", lambda old: np.full((9, 5), np.nan, np.float32).tobytes()
    )


@damage("missing map", "map", warning=True)
def the_map_is_missing(root):
    (root / "maps/blank.png").unlink()
    return json.loads((root / VERSION / "map.json").read_text())[0]["token"]
