"""A keyframe in three dimensions: lidar points in the colours that the cameras saw, dark where the
network left them out, boxes, frusta and ground.

In a window where there is a display; as a picture anywhere, by casting rays: Open3D's own renderer
needs EGL, and without it aborts the process.
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
TARGET = np.array([11.0, 0.0, 0.0])  # ego frame, metres: from behind, over the roof
SIZE = (1600, 900)  # pixels
FIELD = 55.0  # degrees, across
DARK = 0.3  # share of its light that a pruned point keeps
POINT = 0.0016
LINE = 0.0008  # half widths, as a share of the distance from the eye
FRUSTUM = 1.6
REACH = 75.0
RING = 10.0  # metres: how deep a camera's is drawn, how far the ground, where its circles are
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
    """Points and lines of the ego frame, metres, each with a colour from 0 to 1."""

    points: Array  # (P, 3)
    point_colours: Array  # (P, 3)
    lines: Array  # (L, 2, 3)
    line_colours: Array  # (L, 3)


def make_scene(keyframe: Keyframe, stage: int = 0) -> Scene:
    """Truth is white, predictions are in the colours of their classes; points are dark where
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
    """Of each point the pixel that a camera has of it, darkened where its window was pruned; grey
    what the network saw nothing of.
    """
    colours = np.tile(UNSEEN, (len(points), 1)) * (0.6 + 0.4 * np.clip(points[:, 2:] / 3, 0, 1))
    trace = stage_block(keyframe.trace, stage)
    met = np.zeros(len(points), bool)
    for number, view in enumerate(keyframe.views):
        height, width = view.image.shape[:2]
        there = (points - view.to_ego[:3, 3]) @ view.to_ego[:3, :3]  # in the camera's frame
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
        seen = inside[np.isfinite(light)]  # by the network; what was cropped stays grey
        bright = 0.35 + 0.65 * view.image[rows[seen], columns[seen]] / 255
        found = light[np.isfinite(light), None] * bright
        # of two cameras the one that kept it
        colours[seen] = np.where(met[seen, None], np.maximum(colours[seen], found), found)
        met[seen] = True
    return colours


def show(scene: Scene, title: str) -> None:
    """In a window that can be turned. Raises InputError where there is no display."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    viewer = open3d.visualization.Visualizer()
    if not display or not viewer.create_window(title, *SIZE):
        raise InputError(
            "there is no display for --show; leave it out, and the scene is drawn to a file"
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
    """(L, 2, 3) around the ego, on the ground."""
    angles = np.linspace(0, 2 * np.pi, 97)
    circle = np.stack([np.cos(angles), np.sin(angles), np.zeros(97)], -1)
    rings = np.arange(RING, REACH, RING)[:, None, None] * circle
    return np.stack([rings[:, :-1], rings[:, 1:]], 2).reshape(-1, 2, 3)


def render(
    scene: Scene, size: tuple[int, int] = SIZE, eye: Array = EYE, target: Array = TARGET
) -> NDArray[np.uint8]:
    """(H, W, 3) of a view from ``eye`` towards ``target``; two rays a pixel each way."""
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
    """Rays meet solids alone: points as octahedra, lines as square bars, as thick as looks the same
    from wherever they are.
    """
    radius = POINT * np.linalg.norm(scene.points - eye, axis=1)
    dots = scene.points[:, None] + radius[:, None, None] * OCTAHEDRON
    dot_faces = FACES + 6 * np.arange(len(dots))[:, None, None]
    along = scene.lines[:, 1] - scene.lines[:, 0]
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    aside = np.cross(along, np.where(np.abs(along[:, 2:]) < 0.9, [0.0, 0, 1], [1.0, 0, 0]))
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    # (L, 4, 3)
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
    """Colour and distance of the plane z = 0, with circles around the ego, where a ray meets it
    before it fades into the sky.
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
