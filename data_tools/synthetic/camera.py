"""From the light on a sensor to a JPEG file.

The steps are exposure, motion blur, rain on the lens, noise and compression.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data_tools.synthetic.render import Photo
from data_tools.synthetic.rig import Camera

# libjpeg quality whose quantisation tables are those of nuScenes' files.
NUSCENES_QUALITY = 80
TAPS = 4  # moments of an exposure that are averaged

Array = NDArray[Any]  # float32, linear (OpenCV's types do not say so)


@dataclass(frozen=True)
class Look:
    """The quality of a camera. A camera with all zeros is perfect."""

    quality: int = 92  # JPEG quality
    grey: float = 0.0  # mean that the exposure aims at, linear (0: no exposure control)
    spread: float = 0.0  # how far the exposure misses its aim, in natural logarithm
    shutter: float = 0.0  # seconds of an exposure
    noise: float = 0.0  # deviation of a mid-grey pixel, on a scale of 1
    softness: float = 0.0  # blur in pixels of an image 800 wide
    vignette: float = 0.0  # how much darker the corners are
    drops: float = 0.0  # how many rain drops the lens has (1: 14 on average)


def develop(
    photo: Photo,
    camera: Camera,
    speed: float,
    light_name: str,
    look: Look,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Develop a photo to (H, W, 3) RGB.

    ``speed`` is the ego's, in metres per second. Only things that stand still are blurred
    correctly.
    """
    colour: Array = np.ascontiguousarray(photo.colour)
    height, width = colour.shape[:2]
    if look.shutter * speed:
        colour = _blur(colour, photo.depth, camera, speed * look.shutter)
    if look.drops and light_name == "rain":
        colour = _rain(colour, look.drops, rng)
    if look.softness:
        colour = cv2.GaussianBlur(colour, (0, 0), look.softness * width / 800)
    gain = 1.0
    if look.grey:
        low = height // 3  # Cameras look at the road, so exposure follows the lower two thirds.
        gain = float(np.clip(look.grey / max(float(colour[low:].mean()), 1e-3), 0.5, 4.0)) * float(
            np.exp(rng.normal(0, look.spread))
        )
    if look.vignette:
        colour *= _vignette(width, height, look.vignette)
    colour *= np.float32(gain)
    np.clip(colour, 0, 1, out=colour)
    if look.noise:
        # Photon noise: the deviation grows with the square root of the light. Amplified images are
        # noisier.
        colour += (
            _noise(colour.size, rng).reshape(colour.shape)
            * (np.sqrt(colour) + np.float32(0.08))
            * np.float32(look.noise * np.sqrt(gain))
        )
        np.clip(colour, 0, 1, out=colour)
    colour = cv2.pow(colour, 0.625)  # gamma 1.6
    return (colour * 255 + np.float32(0.5)).astype(np.uint8)


def encode(image: NDArray[np.uint8], quality: int) -> bytes:
    return bytes(cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def _blur(colour: Array, depth: Array, camera: Camera, way: float) -> Array:
    """Average over the exposure, in which the ego goes ``way`` metres.

    Pixels flow in proportion to how fast the things that they show come closer.
    """
    height, width = depth.shape
    matrix = camera.intrinsic((width, height))
    # The world's velocity in the camera's frame, multiplied by the exposure time.
    across, down, ahead = camera.rotation().rotation_matrix.T @ (-way, 0.0, 0.0)
    x = np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5)
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)
    near = 1 / np.maximum(depth, np.float32(0.5))
    flow_x = ((matrix[0, 0] * across) - (x - matrix[0, 2]) * ahead).astype(np.float32) * near
    flow_y = ((matrix[1, 1] * down) - (y - matrix[1, 2]) * ahead).astype(np.float32) * near
    if max(np.abs(flow_x).max(), np.abs(flow_y).max()) < 0.7:
        return colour
    total = np.zeros_like(colour)
    for moment in np.linspace(-0.5, 0.5, TAPS, dtype=np.float32):
        total += cv2.remap(
            colour,
            x - 0.5 + moment * flow_x,
            y - 0.5 + moment * flow_y,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return total / np.float32(TAPS)


def _rain(colour: Array, amount: float, rng: np.random.Generator) -> Array:
    """Add streaks in the air and drops on the lens.

    Through a drop the world is blurred and upside down.
    """
    height, width = colour.shape[:2]
    streaks = np.zeros((height, width), np.float32)
    for x, y, length in zip(
        rng.integers(0, width, 160),
        rng.integers(0, height, 160),
        rng.uniform(0.02, 0.07, 160),
        strict=True,
    ):
        cv2.line(
            streaks,
            (int(x), int(y)),
            (int(x + 0.1 * length * height), int(y + length * height)),
            (float(rng.uniform(0.02, 0.10)),),
            1,
        )
    colour = colour + cv2.GaussianBlur(streaks, (0, 0), 0.7)[:, :, None]
    mask: Array = np.zeros((height, width), np.float32)
    for _ in range(int(rng.poisson(14 * amount))):
        radius = float(rng.uniform(0.008, 0.03)) * height
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.ellipse(
            mask, centre, (int(radius), int(radius * rng.uniform(1.0, 1.5))), 0, 0, 360, (1.0,), -1
        )
    mask = cv2.GaussianBlur(mask, (0, 0), 0.004 * height)[:, :, None]
    blurred = cv2.GaussianBlur(colour, (0, 0), 0.02 * height)[::-1]
    return colour * (1 - 0.75 * mask) + blurred * (0.75 * mask)


@lru_cache(8)
def _vignette(width: int, height: int, amount: float) -> Array:
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    return (1 - np.float32(amount / 2) * (x * x + y * y))[:, :, None]


def _noise(count: int, rng: np.random.Generator) -> Array:
    """Return normal noise, cut from a long strip that is made once."""
    strip = _strip()
    start = int(rng.integers(0, len(strip)))
    return (
        np.resize(strip[start:], count)
        if len(strip) - start >= count
        else np.resize(np.roll(strip, -start), count)
    )


@lru_cache(1)
def _strip() -> Array:
    return np.random.default_rng(5).standard_normal(1 << 21).astype(np.float32)
