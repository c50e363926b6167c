"""What the sensors see: camera images and lidar returns by Open3D's ray casting, which needs no screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from data_tools.synthetic.drives import GROUND_CLEARANCE, ROAD_EDGE, Drive
from data_tools.synthetic.rig import LIDAR_RANGE, Camera, lidar_directions
from data_tools.synthetic.shapes import SHAPES, Mesh, mesh_of

GROUND, SCENERY = -1, -2  # owners of a hit that is no thing's; NOTHING is the sky
NOTHING = -3
FAR = 400.0  # metres: the edge of the ground
AMBIENT, SUNLIGHT, HAZE_METRES = 0.42, 0.68, 260.0
SKY_LOW, SKY_HIGH = np.array((0.80, 0.86, 0.92), np.float32), np.array((0.38, 0.58, 0.86), np.float32)

Array = NDArray[np.float32]


class Hits(NamedTuple):
    distance: Array  # (N,) metres; inf for the sky
    owner: NDArray[np.int64]  # (N,) index of the thing, or GROUND, SCENERY, NOTHING
    colour: Array  # (N, 3) unlit
    normal: Array  # (N, 3) towards the viewer
    point: Array  # (N, 3)


@dataclass(frozen=True)
class World:
    """One moment of a drive, in the road frame, ready for rays."""

    caster: o3d.t.geometry.RaycastingScene
    colours: Array  # (T, 3) by triangle
    owners: NDArray[np.int64]  # (T,) by triangle
    sun: Array

    @classmethod
    def of(cls, drive: Drive, seconds: float) -> World:
        meshes, owners = [_ground_mesh(), mesh_of(list(drive.scenery))], [GROUND, SCENERY]
        for index in range(len(drive.things)):
            meshes.append(_thing_mesh(drive, index, seconds))
            owners.append(index)
        counts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
        vertices = np.concatenate([mesh.vertices for mesh in meshes])
        triangles = np.concatenate([mesh.triangles + np.uint32(count) for mesh, count in zip(meshes, counts, strict=True)])
        caster = o3d.t.geometry.RaycastingScene()
        caster.add_triangles(o3d.core.Tensor(vertices), o3d.core.Tensor(triangles))
        return cls(
            caster,
            np.concatenate([mesh.colours for mesh in meshes]),
            np.repeat(owners, [len(mesh.triangles) for mesh in meshes]),
            drive.sun.astype(np.float32),
        )

    def cast(self, origin: Array, directions: Array) -> Hits:
        """First hits of rays from one ``origin`` along unit ``directions`` (N, 3)."""
        answer = self.caster.cast_rays(o3d.core.Tensor(_rays(origin, directions)))
        distance = answer["t_hit"].numpy()
        triangle = answer["primitive_ids"].numpy().astype(np.int64)
        hit = np.isfinite(distance)
        triangle[~hit] = 0
        normal = answer["primitive_normals"].numpy()
        normal = np.where((normal * directions).sum(-1, keepdims=True) > 0, -normal, normal)
        point = origin + directions * np.where(hit, distance, 0)[:, None]
        return Hits(distance, np.where(hit, self.owners[triangle], NOTHING), self.colours[triangle], normal, point)

    def sunlight(self, hits: Hits) -> Array:
        """(N,) how squarely the sun shines on each hit: 0 in shadow and on the far side."""
        facing = np.clip(hits.normal @ self.sun, 0, 1)
        lit = np.flatnonzero((facing > 0) & (hits.owner != NOTHING))
        start = hits.point[lit] + np.float32(0.02) * hits.normal[lit]  # off the surface, so that it does not shade itself
        rays = _rays(start, np.broadcast_to(self.sun, start.shape))
        facing[lit] *= ~self.caster.test_occlusions(o3d.core.Tensor(rays)).numpy()
        return facing


class Photo(NamedTuple):
    image: NDArray[np.uint8]  # (H, W, 3) RGB
    owner: NDArray[np.int64]  # (H, W)


def take_photo(world: World, camera: Camera, ego: tuple[float, float], size: tuple[int, int]) -> Photo:
    """An image of ``size`` (width, height) with the ego at ``ego`` (x, y) in the road frame, heading along x."""
    width, height = size
    matrix = camera.intrinsic(size)
    across = (np.arange(width, dtype=np.float32) + 0.5 - matrix[0, 2]) / matrix[0, 0]
    down = (np.arange(height, dtype=np.float32) + 0.5 - matrix[1, 2]) / matrix[1, 1]
    rays = np.stack([*np.meshgrid(across, down), np.ones((height, width), np.float32)], axis=-1).reshape(-1, 3)
    rays = (rays @ camera.rotation().rotation_matrix.T).astype(np.float32)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    origin = np.array((ego[0] + camera.position[0], ego[1] + camera.position[1], camera.position[2]), np.float32)

    hits = world.cast(origin, rays)
    ground = hits.owner == GROUND
    colour = hits.colour
    colour[ground] = _ground_colour(hits.point[ground])
    colour *= (AMBIENT + 0.12 * hits.normal[:, 2] + SUNLIGHT * world.sunlight(hits))[:, None]
    sky = SKY_LOW + (SKY_HIGH - SKY_LOW) * np.clip(rays[:, 2:] * np.float32(2.2), 0, 1)
    clear = np.exp(hits.distance / np.float32(-HAZE_METRES))[:, None]  # 0 where nothing was hit
    colour = np.sqrt(np.clip(colour * clear + sky * (1 - clear), 0, 1)) ** np.float32(1.25)  # gamma 1.6
    image = (colour * 255 + np.float32(0.5)).astype(np.uint8).reshape(height, width, 3)
    return Photo(image, hits.owner.reshape(height, width))


class Sweep(NamedTuple):
    points: Array  # (N, 5) x, y, z in the lidar frame, intensity, ring: the columns of nuScenes' files
    owner: NDArray[np.int64]  # (N,)


def take_sweep(world: World, origin: Array, rotation: NDArray[np.float64]) -> Sweep:
    """One turn of the lidar at ``origin`` in the road frame; ``rotation``: 3 x 3, lidar to road."""
    directions = lidar_directions()
    hits = world.cast(origin, np.ascontiguousarray(directions @ rotation.T.astype(np.float32)))
    near = hits.distance < LIDAR_RANGE
    ring = np.repeat(np.arange(32, dtype=np.float32), len(directions) // 32)
    points = directions * np.where(near, hits.distance, 0)[:, None]
    intensity = hits.colour.mean(-1) * 255
    return Sweep(np.column_stack([points, intensity, ring]).astype(np.float32)[near], hits.owner[near])


def _rays(origins: Array, directions: Array) -> Array:
    return np.concatenate([np.broadcast_to(origins, directions.shape), directions], axis=-1).astype(np.float32)


def _ground_mesh() -> Mesh:
    corners = np.array([(-FAR, -FAR, 0), (FAR, -FAR, 0), (FAR, FAR, 0), (-FAR, FAR, 0)], np.float32)
    return Mesh(corners, np.array([(0, 1, 2), (0, 2, 3)], np.uint32), np.full((2, 3), 0.35, np.float32))


def _thing_mesh(drive: Drive, index: int, seconds: float) -> Mesh:
    thing = drive.things[index]
    mesh = mesh_of(SHAPES[thing.name](np.random.default_rng(thing.looks)))
    width, length, height = thing.size
    cosine, sine = np.cos(thing.yaw), np.sin(thing.yaw)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    # Half a percent inside its box, which stands 1 cm clear of the ground: whoever counts points in boxes counts its hits alone.
    solid = (mesh.vertices - (0, 0, 0.5)) * 0.995 * (length, width, height)
    vertices = solid @ turn.T + (*thing.at(seconds), GROUND_CLEARANCE + height / 2)
    return mesh._replace(vertices=vertices.astype(np.float32))


def _ground_colour(point: Array) -> Array:
    """Asphalt with lane markings, kerbs, pavement and grass, by place: (N, 3) points to (N, 3) colours."""
    x, y = point[:, 0], point[:, 1]
    side = np.abs(y)
    grain = 0.025 * np.sin(x * 7.3 + np.sin(y * 5.1) * 2) + 0.02 * np.sin(y * 11.7 + np.sin(x * 3.7) * 3)
    colour = np.full((len(x), 3), 0.27, np.float32) + grain[:, None]
    dashes = (np.mod(x, 6.0) < 3.0) & (np.abs(side - 3.5) < 0.08)
    colour[dashes | (np.abs(side - 7.0) < 0.07)] = 0.85
    colour[np.abs(y) < 0.1] = (0.85, 0.68, 0.15)
    colour[side > ROAD_EDGE + 3.1] = 0.52
    paved = side > ROAD_EDGE + 3.1
    colour[paved] += grain[paved, None]
    colour[paved & ((np.mod(x, 1.5) < 0.06) | (np.mod(y, 1.5) < 0.06))] = 0.42
    colour[np.abs(side - ROAD_EDGE - 3.1) < 0.12] = 0.66
    grass = side > 14.2
    colour[grass] = np.array((0.24, 0.36, 0.15), np.float32) + 1.5 * grain[grass, None]
    return colour
