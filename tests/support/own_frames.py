"""A user's own recording: frames of a made rig, as ``data import frames`` takes them."""

import json

import numpy as np
from PIL import Image

INTRINSIC = [[260.0, 0, 160], [0, 260.0, 90], [0, 0, 1]]


def camera_to_ego(degrees):
    """4 x 4 of a camera 1.5 m above the ego's origin that looks so many degrees left of ahead."""
    ahead = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)
    turn = np.radians(degrees)
    spin = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = spin @ ahead
    matrix[2, 3] = 1.5
    return matrix.tolist()


def car(x=0.0, z=12.0, **more):
    return {"class": "car", "center": [x, 0.8, z], "size": [4.5, 1.8, 1.5], "yaw": 0.3, **more}


def write_frames(folder, headings=None, splits=("train", "train", "search", "val"), suffix=".jpg"):
    """Write images and frames.json for a rig of named cameras by their headings in degrees.

    Each camera has images of another size. Returns the document, to be changed and written anew.
    """
    headings = headings or {"front": 0}
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {name: (320 + 32 * place, 180) for place, name in enumerate(headings)}
    cameras = {
        name: {"intrinsic": INTRINSIC, "camera_to_ego": camera_to_ego(degrees)}
        for name, degrees in headings.items()
    }
    frames = []
    random = np.random.default_rng(0)
    for number, split in enumerate(splits):
        images = {}
        for name, (width, height) in sizes.items():
            pixels = random.integers(0, 255, (height, width, 3), dtype=np.uint8)
            images[name] = f"{name}_{number}{suffix}"
            Image.fromarray(pixels).save(folder / images[name])
        objects = [car(z=10.0 + place, camera=name) for place, name in enumerate(headings)]
        frames.append({"images": images, "split": split, "objects": objects})
    document = {"cameras": cameras, "frames": frames}
    (folder / "frames.json").write_text(json.dumps(document))
    return document
