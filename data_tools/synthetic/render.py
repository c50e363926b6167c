"""Render camera images and lidar returns by Open3D's ray casting, which needs no screen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from data_tools.synthetic.catalogue import CATALOGUE
from data_tools.synthetic.drives import GROUND_CLEARANCE, Drive
from data_tools.synthetic.ground import Paint, colour_of, noise, smooth_noise
from data_tools.synthetic.light import Light
from data_tools.synthetic.rig import CAMERAS, LIDAR_RANGE, Camera, lidar_directions
from data_tools.synthetic.shapes import Mesh, filling, mesh_of

GROUND = -1  # owner of a hit on the ground
SCENERY = -2  # owner of a hit on scenery
NOTHING = -3  # owner of a ray that hits only the sky
FAR = 400.0  # metres to the edge of the ground
PIECE = 48_000  # rays that go through all steps together, so that their data stays in the cache
SIGHT = 150.0  # metres from the ego within which scenery and things exist
# Visibility is counted on every fifth pixel, across and down, of an image of 800 x 450.
COARSE = 5

Array = NDArray[np.float32]


class Hits(NamedTuple):
    distance: Array  # (N,) metres (inf: the sky)
    owner: NDArray[np.int64]  # (N,) index of the thing, or GROUND, SCENERY, NOTHING
    triangle: NDArray[np.int64]  # (N,)
    normal: Array  # (N, 3) towards the viewer
    point: Array  # (N, 3)


@dataclass(frozen=True)
class World:
    """One moment of a drive, in the road frame, ready for rays."""

    caster: o3d.t.geometry.RaycastingScene
    colours: Array  # (T + 1, 3) colours by triangle, where the last row means no triangle
    glow: Array  # (T + 1,)
    owners: NDArray[np.int64]  # (T + 1,)
    paints: tuple[Paint, ...]
    light: Light
    ego: tuple[float, float]

    @classmethod
    def of(cls, drive: Drive, seconds: float) -> World:
        ego = drive.ego(seconds)
        meshes = [_ground_mesh(ego), _near(_scenery_mesh(drive), ego)]
        owners = [GROUND, SCENERY]
        for index, thing in enumerate(drive.things):
            if np.hypot(*np.subtract(thing.at(seconds), ego)) < SIGHT:
                meshes.append(_thing_mesh(drive, index, seconds))
                owners.append(index)
        counts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
        vertices = np.concatenate([mesh.vertices for mesh in meshes])
        triangles = np.concatenate(
            [mesh.triangles + np.uint32(count) for mesh, count in zip(meshes, counts, strict=True)]
        )
        caster = o3d.t.geometry.RaycastingScene()
        caster.add_triangles(o3d.core.Tensor(vertices), o3d.core.Tensor(triangles))
        return cls(
            caster,
            np.concatenate([*(mesh.colours for mesh in meshes), np.zeros((1, 3), np.float32)]),
            np.concatenate([*(mesh.glow for mesh in meshes), np.zeros(1, np.float32)]),
            np.append(np.repeat(owners, [len(mesh.triangles) for mesh in meshes]), NOTHING),
            drive.layout.paints,
            drive.light,
            ego,
        )

    def cast(self, origins: Array, directions: Array) -> Hits:
        """Return the first hits of rays.

        ``origins`` has shape (3,) or (N, 3). ``directions`` (N, 3) are unit vectors.
        """
        answer = self.caster.cast_rays(o3d.core.Tensor(_rays(origins, directions)))
        distance = answer["t_hit"].numpy()
        triangle = answer["primitive_ids"].numpy().astype(np.int64)
        # The last triangle means no hit.
        np.minimum(triangle, len(self.owners) - 1, out=triangle)
        with np.errstate(invalid="ignore"):
            point = directions * distance[:, None]
        point += origins
        return Hits(
            distance,
            self.owners.take(triangle),
            triangle,
            answer["primitive_normals"].numpy(),
            point,
        )

    def shade(self, hits: Hits, directions: Array) -> Array:
        """Return (N, 3) linear colours of hits as their rays see them.

        Hits are lit and hazy. Rays that hit nothing see the sky.
        """
        solid = hits.owner != NOTHING
        shaded = np.empty((len(directions), 3), np.float32)
        shaded[~solid] = self._sky(directions[~solid])
        where = np.flatnonzero(solid)
        hits = Hits(*(part.take(where, axis=0) for part in hits))  # type: ignore[arg-type]
        colour = self.colours.take(hits.triangle, axis=0)
        ground = np.flatnonzero(hits.owner == GROUND)
        colour[ground] = colour_of(hits.point[ground], self.paints)
        still = np.flatnonzero(hits.owner == SCENERY)
        place = hits.point[still]
        colour[still] *= (
            1 + np.float32(0.12) * noise(place[:, 0] + place[:, 1], place[:, 2], 0.13)[:, None]
        )
        sunlight = self._sunlight(hits)
        around = 1 + np.float32(0.25) * hits.normal[:, 2]
        if self.light.lamps:
            around += (
                self.glow[hits.triangle]
                * np.float32(self.light.lamps)
                / np.float32(np.mean(self.light.ambient))
            )
        clear = np.exp(hits.distance / np.float32(-self.light.haze))
        sunlight *= clear
        around *= clear
        for channel in range(3):
            lit = sunlight * np.float32(self.light.sunlight[channel]) + around * np.float32(
                self.light.ambient[channel]
            )
            lit *= colour[:, channel]
            shaded[where, channel] = lit + (1 - clear) * np.float32(self.light.sky_low[channel])
        return shaded

    def _sunlight(self, hits: Hits) -> Array:
        """Return (N,) how squarely the sun shines on each hit.

        The value is 0 in shadow and on the far side.
        """
        facing = np.clip(hits.normal @ self.light.sun, 0, 1)
        lit = np.flatnonzero(facing > 0)
        # Start off the surface, so that the surface does not shade itself.
        start = hits.point[lit] + np.float32(0.02) * hits.normal[lit]
        facing[lit] *= ~self.caster.test_occlusions(
            o3d.core.Tensor(_rays(start, self.light.sun))
        ).numpy()
        return facing

    def _sky(self, directions: Array) -> Array:
        low = np.array(self.light.sky_low, np.float32)
        high = np.array(self.light.sky_high, np.float32)
        up = directions[:, 2:]
        sky = low + (high - low) * np.clip(up * np.float32(2.2), 0, 1)
        if self.light.clouds:
            flat = directions[:, :2] / np.maximum(up, 0.05)
            thin, thick = (smooth_noise(flat[:, 0], flat[:, 1], scale) for scale in (0.45, 1.7))
            cover = np.clip(0.4 * thin + 0.7 * thick + 0.1, 0, 1) * np.clip(up[:, 0] * 5, 0, 1)
            sky += (
                cover[:, None]
                * np.float32(0.6 * self.light.clouds)
                * (np.float32(max(self.light.sky_low)) - sky)
            )
        return sky


class Photo(NamedTuple):
    colour: Array  # (H, W, 3) linear RGB
    owner: NDArray[np.int64]  # (H, W)
    depth: Array  # (H, W) metres along the optical axis (inf: the sky)


def take_photo(world: World, camera: Camera, size: tuple[int, int]) -> Photo:
    """Return the light that a lens throws on a sensor of ``size`` (width, height)."""
    directions, cosine = _directions(camera, size)
    width, height = size
    origin = _mounted(world.ego, camera.position)
    photo = Photo(
        np.empty((height * width, 3), np.float32),
        np.empty(height * width, np.int64),
        np.empty(height * width, np.float32),
    )
    for start in range(0, len(directions), PIECE):
        piece = slice(start, start + PIECE)
        hits = world.cast(origin, directions[piece])
        colour = world.shade(hits, directions[piece])
        if world.light.wet:
            _reflect(world, hits, directions[piece], colour)
        photo.colour[piece] = colour
        photo.owner[piece] = hits.owner
        photo.depth[piece] = hits.distance * cosine[piece]
    return Photo(
        photo.colour.reshape(height, width, 3),
        photo.owner.reshape(height, width),
        photo.depth.reshape(height, width),
    )


def _reflect(world: World, hits: Hits, directions: Array, colour: Array) -> None:
    """Add the reflections on wet ground to ``colour``.

    The flatter the view, the more the ground mirrors. Puddles mirror more than the rest of the
    ground.
    """
    wet = np.flatnonzero((hits.owner == GROUND) & (hits.distance < 60))
    if not len(wet):
        return
    place = hits.point[wet]
    puddle = np.clip(noise(place[:, 0], place[:, 1], 2.3) * 1.5 + 0.3, 0, 1)
    down = -directions[wet, 2]
    mirror = directions[wet] * np.array((1, 1, -1), np.float32)
    mirror[:, :2] += (0.03 * (1.2 - puddle) * noise(place[:, 0], place[:, 1], 0.03))[:, None]
    mirror /= np.linalg.norm(mirror, axis=1, keepdims=True)
    seen = world.cast(place + np.float32(0.02), mirror)
    share = (0.04 + 0.96 * (1 - down) ** 5) * (0.35 + 0.65 * puddle) * np.float32(world.light.wet)
    colour[wet] *= (1 - np.float32(0.35 * world.light.wet)) * (1 - share)[:, None]
    colour[wet] += share[:, None] * world.shade(seen, mirror)


class Sweep(NamedTuple):
    points: (
        Array  # (N, 5) x, y, z in the lidar frame, intensity, ring: the columns of nuScenes' files
    )
    owner: NDArray[np.int64]  # (N,)


def take_sweep(
    world: World, position: tuple[float, float, float], rotation: NDArray[np.float64]
) -> Sweep:
    """Take one turn of the lidar, mounted at ``position`` in the ego frame.

    ``rotation`` is the 3 x 3 matrix from lidar to ego.
    """
    directions = lidar_directions()
    hits = world.cast(
        _mounted(world.ego, position),
        np.ascontiguousarray(directions @ rotation.T.astype(np.float32)),
    )
    near = hits.distance < LIDAR_RANGE
    ring = np.repeat(np.arange(32, dtype=np.float32), len(directions) // 32)
    points = directions[near] * hits.distance[near, None]
    intensity = world.colours[hits.triangle[near]].mean(-1) * 255
    return Sweep(
        np.column_stack([points, intensity, ring[near]]).astype(np.float32), hits.owner[near]
    )


def visible_shares(world: World, things: int) -> Array:
    """Return (things,) the share of each thing that is not hidden, 0 .. 1.

    A thing counts as far as it lies within any of the six images.
    """
    seen = np.zeros(things)
    there = np.zeros(things)
    for camera in CAMERAS:
        directions, _ = _directions(camera, (800 // COARSE, 450 // COARSE))
        rays = _rays(_mounted(world.ego, camera.position), directions)
        answer = world.caster.list_intersections(o3d.core.Tensor(rays))
        ray = answer["ray_ids"].numpy().astype(np.int64)
        owner = world.owners[answer["primitive_ids"].numpy().astype(np.int64)]
        of_things = owner >= 0
        # A ray meets a thing in several triangles, so each pair of ray and thing counts once.
        pairs = np.unique(ray[of_things] * things + owner[of_things])
        there += np.bincount(pairs % things, minlength=things)
        first = (
            world.caster.cast_rays(o3d.core.Tensor(rays))["primitive_ids"].numpy().astype(np.int64)
        )
        first = world.owners[np.minimum(first, len(world.owners) - 1)]
        seen += np.bincount(first[first >= 0], minlength=things)
    return (
        np.divide(seen, there, out=np.zeros(things), where=there > 0).clip(0, 1).astype(np.float32)
    )


@lru_cache(32)
def _directions(camera: Camera, size: tuple[int, int]) -> tuple[Array, Array]:
    """Return the rays of an image's pixels, and the cosines of their angle to the optical axis.

    The rays are (H * W, 3) unit vectors in the ego frame. The cosines have shape (H * W,).
    """
    width, height = size
    matrix = camera.intrinsic(size)
    across = (np.arange(width, dtype=np.float32) + 0.5 - matrix[0, 2]) / matrix[0, 0]
    down = (np.arange(height, dtype=np.float32) + 0.5 - matrix[1, 2]) / matrix[1, 1]
    rays = np.stack(
        [*np.meshgrid(across, down), np.ones((height, width), np.float32)], axis=-1
    ).reshape(-1, 3)
    cosine = (1 / np.linalg.norm(rays, axis=-1)).astype(np.float32)
    rays = (rays @ camera.rotation().rotation_matrix.T).astype(np.float32)
    return np.ascontiguousarray(rays * cosine[:, None]), cosine


def _mounted(ego: tuple[float, float], position: tuple[float, float, float]) -> Array:
    return np.array((ego[0] + position[0], ego[1] + position[1], position[2]), np.float32)


def _rays(origins: Array, directions: Array) -> Array:
    rays = np.empty((len(origins) if origins.ndim == 2 else len(directions), 6), np.float32)
    rays[:, :3] = origins
    rays[:, 3:] = directions
    return rays


def _ground_mesh(ego: tuple[float, float]) -> Mesh:
    corners = np.array(
        [(-FAR, -FAR, 0), (FAR, -FAR, 0), (FAR, FAR, 0), (-FAR, FAR, 0)], np.float32
    ) + np.array((*ego, 0), np.float32)
    return Mesh(
        corners,
        np.array([(0, 1, 2), (0, 2, 3)], np.uint32),
        np.full((2, 3), 0.35, np.float32),
        np.zeros(2, np.float32),
    )


@lru_cache(1)
def _mesh_of_scenery(seed: tuple[int, int], parts: tuple) -> Mesh:
    return mesh_of(list(parts))


def _scenery_mesh(drive: Drive) -> Mesh:
    return _mesh_of_scenery(drive.seed, drive.layout.scenery)


def _near(mesh: Mesh, ego: tuple[float, float]) -> Mesh:
    """Return the triangles that have a corner within sight along the road."""
    close = np.abs(mesh.vertices[:, 0] - ego[0]) < SIGHT
    kept = close[mesh.triangles].any(axis=1)
    return Mesh(mesh.vertices, mesh.triangles[kept], mesh.colours[kept], mesh.glow[kept])


def _thing_mesh(drive: Drive, index: int, seconds: float) -> Mesh:
    thing = drive.things[index]
    shape = CATALOGUE[thing.name][thing.make].shape
    mesh = filling(mesh_of(shape(np.random.default_rng(thing.looks), thing.phase(seconds))))
    width, length, height = thing.size
    cosine = np.cos(thing.yaw)
    sine = np.sin(thing.yaw)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    # A thing fills its box but for half a percent. The box stands 1 cm clear of the ground. A count
    # of the points in a box therefore counts only hits on the thing.
    solid = (mesh.vertices - (0, 0, 0.5)) * 0.995 * (length, width, height)
    vertices = solid @ turn.T + (*thing.at(seconds), GROUND_CLEARANCE + height / 2)
    return mesh._replace(vertices=vertices.astype(np.float32))
