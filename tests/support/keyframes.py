"""Keyframes made by hand: noise on the frames, a few boxes, and the windows of a small network of
fresh weights.
"""

import numpy as np
import torch

from sparsevit3d import SparseSwin, record_windows
from sparsevit3d.stages.views import Boxes, CameraView, Keyframe

# Where the cameras of a rig look, in degrees left of ahead, by name.
NUSCENES = {
    "CAM_FRONT_LEFT": 55,
    "CAM_FRONT": 0,
    "CAM_FRONT_RIGHT": -55,
    "CAM_BACK_LEFT": 110,
    "CAM_BACK": 180,
    "CAM_BACK_RIGHT": -110,
}


def cube(depth, size=1.0, x=0.0, y=0.0):
    """(8, 3) corners in a camera's frame of a box that faces it: its front, left upper corner
    first, then the rear.
    """
    across = x + np.array([1, -1, -1, 1]) * size
    down = y + np.array([-1, -1, 1, 1]) * size
    return np.concatenate(
        [np.column_stack([across, down, np.full(4, z)]) for z in (depth - size, depth + size)]
    )


def view_of(image, network_size, scale=(1.0, 1.0), offset=(0.0, 0.0), channel="CAM_FRONT", **boxes):
    intrinsic = np.array(
        [[100.0, 0, image.shape[1] / 2], [0, 100.0, image.shape[0] / 2], [0, 0, 1]]
    )
    return CameraView(channel, image, intrinsic, scale, offset, network_size, **boxes)


def camera_to_ego(yaw):
    """(4, 4) of a camera over the origin that looks so many degrees to the left of ahead."""
    turn = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)
    (s, c) = np.array([np.sin(yaw), np.cos(yaw)])
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ turn
    matrix[2, 3] = 1.6
    return matrix


def keyframe(plan="0.5|0.7", seed=0, number=0, rig=NUSCENES):
    """Cameras of 160 x 90, of which a network of 128 x 64 saw all but the uppermost 10 rows."""
    torch.manual_seed(seed)
    net = SparseSwin(
        embed_dims=8, depths=(2, 2), num_heads=(1, 1), window_size=4, out_indices=(1,), plan=plan
    ).eval()
    random = np.random.default_rng(seed)
    truth = Boxes(
        np.stack([cube(8.0), cube(0.5), cube(25.0, 1.5, 6.0)]), ["car", "pedestrian", "truck"]
    )
    found = Boxes(np.stack([cube(9.0), cube(14.0)]), ["car", "bus"], np.array([0.9, 0.1]))
    views = []
    for channel, yaw in zip(rig, np.radians(list(rig.values())), strict=True):
        image = random.integers(0, 255, (90, 160, 3), dtype=np.uint8)
        view = view_of(
            image, (128, 64), (0.8, 0.8), (0.0, 8.0), channel, truth=truth, predictions=found
        )
        views.append(CameraView(**{**vars(view), "to_ego": camera_to_ego(yaw)}))
    with torch.no_grad(), record_windows(net) as trace:
        net(torch.randn(len(rig), 3, 64, 128))
    matrix = camera_to_ego(0.0)
    ahead = [
        Boxes(b.corners @ matrix[:3, :3].T + matrix[:3, 3], b.names, b.scores)
        for b in (truth, found)
    ]
    points = random.uniform([-40, -40, -0.1], [40, 40, 2], (3000, 3))
    return Keyframe(f"made {number}", 1.5e9 + 0.5 * number, plan, views, trace, points, *ahead)
