"""A keyframe in three dimensions: lidar points, boxes, camera frusta and ground.

Lidar points have the colours that the cameras saw. Points are dark where the network pruned them.

The scene opens in a window if there is a display. Ray casting renders a picture on any machine.
Open3D's own renderer needs EGL and aborts the process without EGL.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open3d
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from sparsevit3d.errors import InputError
from sparsevit3d.files import whole_path
from sparsevit3d.stages.views import Boxes, CameraView, Keyframe
from visualize.frames import BACKGROUND, COLOURS, clear_boxes
from visualize.geometry import EDGES, NEAR, paint
from visualize.masks import stage_block

Array = NDArray[np.float64]

EYE = np.array([-24.0, 0.0, 19.0])
TARGET = np.array([11.0, 0.0, 0.0])  # ego frame, metres: seen from behind, over the roof
SIZE = (1600, 900)  # pixels
FIELD = 55.0  # degrees of view across
DARK = 0.3  # share of its brightness that a pruned point keeps
POINT = 0.0016  # half width of a point, as a share of the distance from the eye
LINE = 0.0008  # half width of a line, as a share of the distance from the eye
FRUSTUM = 1.6  # metres: how deep a camera's frustum is drawn
REACH = 75.0  # metres: how far the ground is drawn
RING = 10.0  # metres between the circles on the ground
GROUND = np.array([0.115, 0.13, 0.155])
CIRCLE = np.array([0.24, 0.27, 0.31])
SKY = np.array(to_rgb(BACKGROUND))
CAMERA = (0.5, 1.0, 0.83)
TRUTH = (1.0, 1.0, 1.0)
UNSEEN = (0.45, 0.48, 0.53)
OCTAHEDRON = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
FACES = np.array(
    [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
)


@dataclass(frozen=True)
class Scene:
    """Points and lines in the ego frame, in metres, each with a colour from 0 to 1."""

    points: Array  # (P, 3)
    point_colours: Array  # (P, 3)
    lines: Array  # (L, 2, 3)
    line_colours: Array  # (L, 3)


def make_scene(keyframe: Keyframe, stage: int = 0) -> Scene:
    """Make the scene of a keyframe.

    Truth is white, and predictions have the colours of their classes. Points are dark where
    ``stage`` computed no window.
    """
    parts = [_frustum(view) for view in keyframe.views]
    lines = [line for line, _ in parts]
    colours = [colour for _, colour in parts]
    for boxes in (keyframe.truth, clear_boxes(keyframe.predictions)):
        ends = boxes.corners[:, EDGES]  # (N, 12, 2, 3)
        heading = np.stack([boxes.centres, boxes.corners[:, :4].mean(1)], 1)[:, None]
        lines.append(np.concatenate([ends, heading], 1).reshape(-1, 2, 3))
        colours.append(np.repeat(_box_colours(boxes), len(EDGES) + 1, axis=0))
    points = keyframe.points.astype(float)
    return Scene(
        points,
        _seen_colours(keyframe, points, stage),
        np.concatenate(lines),
        np.concatenate(colours),
    )


def _box_colours(boxes: Boxes) -> Array:
    return np.array(
        [TRUTH if boxes.scores is None else to_rgb(COLOURS[name]) for name in boxes.names]
    ).reshape(-1, 3)


def _frustum(view: CameraView) -> tuple[Array, Array]:
    height, width = view.image.shape[:2]
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], float)
    ends = (
        FRUSTUM * corners @ np.linalg.inv(view.intrinsic).T @ view.to_ego[:3, :3].T
        + view.to_ego[:3, 3]
    )
    centre = np.broadcast_to(view.to_ego[:3, 3], ends.shape)
    lines = np.concatenate([np.stack([centre, ends], 1), np.stack([ends, np.roll(ends, -1, 0)], 1)])
    return lines, np.tile(CAMERA, (len(lines), 1))


def _seen_colours(keyframe: Keyframe, points: Array, stage: int) -> Array:
    """Return the colour that a camera sees at each point.

    A point is darkened if its window was pruned. A point is grey if the network did not see the
    point.
    """
    colours = np.tile(UNSEEN, (len(points), 1)) * (0.6 + 0.4 * np.clip(points[:, 2:] / 3, 0, 1))
    trace = stage_block(keyframe.trace, stage)
    met = np.zeros(len(points), bool)
    for number, view in enumerate(keyframe.views):
        height, width = view.image.shape[:2]
        there = (points - view.to_ego[:3, 3]) @ view.to_ego[:3, :3]  # camera frame
        pixels = there @ view.intrinsic.T
        columns, rows = np.floor(pixels[:, :2] / np.maximum(pixels[:, 2:], NEAR)).astype(int).T
        inside = np.flatnonzero(
            (there[:, 2] > NEAR)
            & (columns >= 0)
            & (columns < width)
            & (rows >= 0)
            & (rows < height)
        )
        light = paint(view, trace, np.where(trace.kept[number], 1.0, DARK), np.nan)[
            rows[inside], columns[inside]
        ]
        seen = inside[np.isfinite(light)]  # seen by the network: cropped points stay grey
        bright = 0.35 + 0.65 * view.image[rows[seen], columns[seen]] / 255
        found = light[np.isfinite(light), None] * bright
        # If two cameras see a point, the brighter colour wins: that of the camera that kept the
        # point.
        colours[seen] = np.where(met[seen, None], np.maximum(colours[seen], found), found)
        met[seen] = True
    return colours


def show(scene: Scene, title: str) -> None:
    """Show the scene in a window that can be turned.

    Raises InputError if there is no display.
    """
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    viewer = open3d.visualization.Visualizer()
    if not display or not viewer.create_window(title, *SIZE):
        raise InputError(
            "there is no display for --show. Leave it out, and the scene is drawn to a file."
        )
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(scene.points))
    cloud.colors = open3d.utility.Vector3dVector(scene.point_colours)
    circles = _circles()
    for geometry in (
        cloud,
        _edges(scene.lines, scene.line_colours),
        _edges(circles, np.tile(CIRCLE, (len(circles), 1))),
    ):
        viewer.add_geometry(geometry)
    viewer.get_render_option().background_color = SKY
    viewer.get_render_option().point_size = 2.0
    control = viewer.get_view_control()
    control.set_front(EYE - TARGET)
    control.set_lookat(TARGET)
    control.set_up([0, 0, 1])
    control.set_zoom(0.15)
    viewer.run()
    viewer.destroy_window()


def _edges(lines: Array, colours: Array) -> Any:
    ends = np.arange(2 * len(lines)).reshape(-1, 2)
    edges = open3d.geometry.LineSet(
        open3d.utility.Vector3dVector(lines.reshape(-1, 3)), open3d.utility.Vector2iVector(ends)
    )
    edges.colors = open3d.utility.Vector3dVector(colours)
    return edges


def _circles() -> Array:
    """Return circles around the ego on the ground as (L, 2, 3) lines."""
    angles = np.linspace(0, 2 * np.pi, 97)
    circle = np.stack([np.cos(angles), np.sin(angles), np.zeros(97)], -1)
    rings = np.arange(RING, REACH, RING)[:, None, None] * circle
    return np.stack([rings[:, :-1], rings[:, 1:]], 2).reshape(-1, 2, 3)


def render(
    scene: Scene, size: tuple[int, int] = SIZE, eye: Array = EYE, target: Array = TARGET
) -> NDArray[np.uint8]:
    """Render (H, W, 3) pixels of the view from ``eye`` towards ``target``.

    Each pixel takes two rays in each direction, across and down.
    """
    vertices, faces, colours = _solids(scene, eye)
    caster = open3d.t.geometry.RaycastingScene()
    caster.add_triangles(
        open3d.core.Tensor(vertices.astype(np.float32)), open3d.core.Tensor(faces.astype(np.uint32))
    )
    rays = caster.create_rays_pinhole(
        FIELD, target.tolist(), eye.tolist(), [0.0, 0.0, -1.0], 2 * size[0], 2 * size[1]
    )
    hit = caster.cast_rays(rays)
    distance = hit["t_hit"].numpy()
    face = hit["primitive_ids"].numpy()
    directions = rays.numpy()[..., 3:].astype(float)
    image, ground = _ground(eye, directions)
    near = distance < ground
    image[near] = colours[face[near]]
    image = image.reshape(size[1], 2, size[0], 2, 3).mean((1, 3))
    return np.asarray((255 * image.clip(0, 1)).astype(np.uint8))


def _solids(scene: Scene, eye: Array) -> tuple[Array, NDArray[np.int64], Array]:
    """Convert points to octahedra and lines to square bars, because rays meet only solids.

    Their thickness grows with the distance from the eye, so that they look equally thick
    everywhere.
    """
    radius = POINT * np.linalg.norm(scene.points - eye, axis=1)
    dots = scene.points[:, None] + radius[:, None, None] * OCTAHEDRON
    dot_faces = FACES + 6 * np.arange(len(dots))[:, None, None]
    along = scene.lines[:, 1] - scene.lines[:, 0]
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    aside = np.cross(along, np.where(np.abs(along[:, 2:]) < 0.9, [0.0, 0, 1], [1.0, 0, 0]))
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    # Directions across each line, (L, 4, 3).
    across = np.stack([aside, np.cross(along, aside), -aside, -np.cross(along, aside)], 1)
    thick = LINE * np.linalg.norm(scene.lines - eye, axis=2)  # (L, 2)
    bars = scene.lines[:, :, None] + thick[:, :, None, None] * across[:, None]  # (L, 2, 4, 3)
    sides = [[[n, (n + 1) % 4, 4 + n], [(n + 1) % 4, 4 + (n + 1) % 4, 4 + n]] for n in range(4)]
    bar_faces = (
        np.array(sides).reshape(-1, 3) + 8 * np.arange(len(bars))[:, None, None] + 6 * len(dots)
    )
    vertices = np.concatenate([dots.reshape(-1, 3), bars.reshape(-1, 3)])
    faces = np.concatenate([dot_faces.reshape(-1, 3), bar_faces.reshape(-1, 3)])
    colours = np.concatenate([scene.point_colours.repeat(8, 0), scene.line_colours.repeat(8, 0)])
    return vertices, faces, colours


def _ground(eye: Array, directions: Array) -> tuple[Array, Array]:
    """Return colour and distance of the plane z = 0 where rays meet it.

    The ground has circles around the ego and fades into the sky with distance.
    """
    down = np.minimum(directions[..., 2], -1e-6)
    distance = np.where(directions[..., 2] < 0, -eye[2] / down, np.inf)
    radius = np.linalg.norm(
        eye[:2] + np.where(np.isfinite(distance), distance, 0.0)[..., None] * directions[..., :2],
        axis=-1,
    )
    off = np.abs(radius - RING * np.round(radius / RING))
    ring = (off < 0.0012 * np.minimum(distance, 200)) & (radius > RING / 2)
    fade = np.clip(1.2 * (1 - radius / REACH), 0, 1)[..., None] * np.isfinite(distance)[..., None]
    return SKY + fade * (np.where(ring[..., None], CIRCLE, GROUND) - SKY), distance


def save_scene(keyframe: Keyframe, path: Path, stage: int = 0) -> Path:
    with whole_path(path) as partial:
        Image.fromarray(render(make_scene(keyframe, stage))).save(partial)
    return path
