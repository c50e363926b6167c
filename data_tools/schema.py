"""The 13 tables of nuScenes (schema v1.0) with their fields, and the names that they may hold."""

from __future__ import annotations

from nuscenes.eval.detection.utils import category_to_detection_name

# Cameras in mmdet3d's order.
CAMERAS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_FRONT_LEFT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
)
LIDAR = "LIDAR_TOP"
# By the fileformat of a camera's file: the formats that Pillow may find in it.
IMAGE_FORMATS = {"jpg": ("JPEG", "MPO"), "png": ("PNG",)}
CLASSES = (
    "car",
    "truck",
    "trailer",
    "bus",
    "construction_vehicle",
    "bicycle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "barrier",
)
ATTRIBUTES = (  # in mmdet3d's order, where the last one means no attribute
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.moving",
    "pedestrian.standing",
    "pedestrian.sitting_lying_down",
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
    "None",
)
CATEGORIES = (
    "animal",
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.barrier",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    "movable_object.trafficcone",
    "static_object.bicycle_rack",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.car",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.motorcycle",
    "vehicle.trailer",
    "vehicle.truck",
)

# The kind of each field:
#
# text, count (a whole number), number, flag
# vector3, vector4 (a quaternion w, x, y, z)
# matrix3: 3 x 3, or [] if the sensor is not a camera
# "> table": the token of a row in that table
# "> table?": such a token, or ""
# "> table*": a list of such tokens
# A field of kind "vector3?" may be absent. nuScenes itself does not have it.
TABLES: dict[str, dict[str, str]] = {
    "log": {"logfile": "text", "vehicle": "text", "date_captured": "text", "location": "text"},
    "map": {"log_tokens": "> log*", "category": "text", "filename": "text"},
    "sensor": {"channel": "text", "modality": "text"},
    "category": {"name": "text", "description": "text"},
    "attribute": {"name": "text", "description": "text"},
    "visibility": {"level": "text", "description": "text"},
    "calibrated_sensor": {
        "sensor_token": "> sensor",
        "translation": "vector3",
        "rotation": "vector4",
        "camera_intrinsic": "matrix3",
    },
    "ego_pose": {"timestamp": "count", "translation": "vector3", "rotation": "vector4"},
    "scene": {
        "log_token": "> log",
        "nbr_samples": "count",
        "first_sample_token": "> sample",
        "last_sample_token": "> sample",
        "name": "text",
        "description": "text",
    },
    "sample": {
        "timestamp": "count",
        "scene_token": "> scene",
        "prev": "> sample?",
        "next": "> sample?",
    },
    "sample_data": {
        "sample_token": "> sample",
        "ego_pose_token": "> ego_pose",
        "calibrated_sensor_token": "> calibrated_sensor",
        "timestamp": "count",
        "fileformat": "text",
        "is_key_frame": "flag",
        "height": "count",
        "width": "count",
        "filename": "text",
        "prev": "> sample_data?",
        "next": "> sample_data?",
    },
    "instance": {
        "category_token": "> category",
        "nbr_annotations": "count",
        "first_annotation_token": "> sample_annotation",
        "last_annotation_token": "> sample_annotation",
    },
    "sample_annotation": {
        "sample_token": "> sample",
        "instance_token": "> instance",
        "visibility_token": "> visibility?",
        "attribute_tokens": "> attribute*",
        "translation": "vector3",
        "size": "vector3",
        "rotation": "vector4",
        # Metres per second in the global frame. It takes the place of the velocity that the devkit
        # computes from the boxes before and after.
        "velocity": "vector3?",
        "num_lidar_pts": "count",
        "num_radar_pts": "count",
        "prev": "> sample_annotation?",
        "next": "> sample_annotation?",
    },
}


def label_of(category: str) -> int:
    """Return the number of a category's detection class, as the devkit assigns classes.

    The result is -1 for a category that is not detected.
    """
    name = category_to_detection_name(category)
    return CLASSES.index(name) if name else -1
