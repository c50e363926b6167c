"""Importance that knows objects: a map of how many of them lie where.

The paper scores a window by the magnitude of its features (section 3.2), which does not know
objects. Here a small network looks once at the tokens that enter the first stage and says how many
objects each cell of 4 x 4 tokens holds. A window of any stage is worth the objects within it.

Beside it is a map without computation: where objects were so far, camera by camera.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsevit3d.swin.windows import WindowTable

CELL = 4  # tokens of the first stage, both ways
HIDDEN = 32
DILATIONS = (1, 2, 4)
WAVES = (0.5, 1, 2, 4)  # periods of a place's waves across the map
MIDDLE = 4  # cells, both ways: the part of an object that counts in training
SELDOM = -4.0  # log of an untrained map's objects of a cell
PLACES = (24, 64)  # down and across, at which past objects are counted


class DensityMap(nn.Module):
    """Tokens of the first stage to the logarithm of how many objects each cell holds.

    Each cell has the mean and the largest value of every channel, and waves that say where the
    cell lies. Three depthwise-separable convolutions see its surroundings. The features of the
    whole image come in once.

    Args:
        channels (int): Channels of a token.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.entry = nn.Linear(2 * channels + 4 * len(WAVES), HIDDEN)
        self.whole = nn.Linear(HIDDEN, HIDDEN)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(HIDDEN, HIDDEN, 3, padding=dilation, dilation=dilation, groups=HIDDEN)
            for dilation in DILATIONS
        )
        self.pointwise = nn.ModuleList(nn.Linear(HIDDEN, HIDDEN) for _ in DILATIONS)
        self.exit = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor, height: int, width: int, camera: Tensor | None = None) -> Tensor:
        """(B, height * width, C) to (B, height / 4, width / 4), rounded up.

        ``camera`` is not asked for. Autocast leaves the map alone: on a processor, the gradient of
        a dilated depthwise convolution in bfloat16 is now and then infinite (torch 2.13).
        """
        with torch.autocast(x.device.type, enabled=False):
            return self._map(x.to(self.entry.weight.dtype), height, width)

    def _map(self, x: Tensor, height: int, width: int) -> Tensor:
        cells = _cells(x.view(len(x), height, width, -1))
        down, across = cells.shape[1:3]
        place = _waves(down, across, cells.device).to(cells.dtype)
        cells = torch.cat([cells, place.expand(len(x), -1, -1, -1)], -1)
        x = F.relu(self.entry(cells))
        x = x + self.whole(x.mean((1, 2), keepdim=True))
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            seen = depthwise(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            x = x + F.relu(pointwise(seen))
        return self.exit(x).squeeze(-1).float() + SELDOM

    def macs(self, height: int, width: int) -> int:
        """Count the multiply-accumulates of a map of ``height`` x ``width`` tokens."""
        layers = (self.entry, *self.depthwise, *self.pointwise, self.exit)
        of_cell = sum(layer.weight.numel() for layer in layers)
        return -(-height // CELL) * -(-width // CELL) * of_cell + self.whole.weight.numel()


class PlaceMap(nn.Module):
    """Where objects were so far: a prior for cameras that do not move. It costs no computation.

    Args:
        cameras (int): How many cameras there are, each with a map of its own.
    """

    objects: Tensor  # (cameras, PLACES) of an image, on average
    images: Tensor  # (cameras,) how many images were counted

    def __init__(self, cameras: int) -> None:
        super().__init__()
        self.cameras = cameras
        self.register_buffer("objects", torch.zeros(cameras, *PLACES))
        self.register_buffer("images", torch.zeros(cameras, dtype=torch.long))

    def forward(self, x: Tensor, height: int, width: int, camera: Tensor | None = None) -> Tensor:
        """The logarithm of the objects of each cell, (B, height / 4, width / 4), rounded up.

        Of ``x``, (B, height * width, C), the number of images alone counts. ``camera`` is (B,) the
        number of each image's camera. None: images come keyframe by keyframe, the cameras in order.
        """
        if camera is None:
            if len(x) % self.cameras:
                raise ValueError(
                    f"{len(x)} images of {self.cameras} cameras are no whole keyframes: say which "
                    "camera each image is of."
                )
            camera = torch.arange(len(x), device=self.images.device) % self.cameras
        size = (-(-height // CELL), -(-width // CELL))
        of_cell = PLACES[0] * PLACES[1] / (size[0] * size[1])
        found = F.adaptive_avg_pool2d(self.objects.float()[:, None], size)[:, 0] * of_cell
        return (found + 1e-9).log()[camera]

    @torch.no_grad()
    def count(self, boxes: Sequence[Tensor], camera: Tensor, size: tuple[int, int]) -> None:
        """Add the objects of images of ``size`` (height, width). ``boxes``: see true_density."""
        cell = (size[0] / PLACES[0], size[1] / PLACES[1])
        for own, place in zip(boxes, camera.tolist(), strict=True):
            self.images[place] += 1
            change = true_density(own, PLACES, cell) - self.objects[place]
            self.objects[place] += change / self.images[place]


def fit_state(own: nn.Module | None, state: dict[str, Tensor], prefix: str) -> None:
    """Make ``state``, a state dict to be loaded, fit ``own``, the map of a network, or None.

    A map that ``state`` lacks begins anew. One that the network lacks is left out.
    """
    wanted = {} if own is None else own.state_dict(prefix=prefix)
    found = {name for name in state if name.startswith(prefix)}
    if found != wanted.keys():
        for name in found:
            del state[name]
        state.update(wanted)


def _cells(x: Tensor) -> Tensor:
    """(B, H, W, C) tokens to (B, H / 4, W / 4, 2 * C): mean and maximum of each cell."""
    height, width = x.shape[1:3]
    if height % CELL or width % CELL:
        x = F.pad(x, (0, 0, 0, -width % CELL, 0, -height % CELL))
    x = x.permute(0, 3, 1, 2)  # channels-last, which pooling reads in order
    pooled = torch.cat([F.avg_pool2d(x, CELL), F.max_pool2d(x, CELL)], 1)
    return pooled.permute(0, 2, 3, 1)


def _waves(down: int, across: int, device: torch.device) -> Tensor:
    """(down, across, 4 * waves): sine and cosine of each cell's row and column."""
    turns = []
    for count in (down, across):
        side = (torch.arange(count, device=device) + 0.5) * (2 * math.pi / count)
        turns.append(torch.stack([side * wave for wave in WAVES], 1))
    rows, columns = (torch.cat([one.sin(), one.cos()], 1) for one in turns)
    return torch.cat([rows[:, None].expand(-1, across, -1), columns[None].expand(down, -1, -1)], -1)


def window_density(density: Tensor, table: WindowTable) -> Tensor:
    """(B, h, w) objects of each cell to (B, windows): the objects of each window of one image.

    A cell's objects are spread evenly over its tokens. All windows share an unknown factor. Where
    a side is not divisible by the cell, cells are stretched to fill it.
    """
    tokens = F.adaptive_avg_pool2d(density[:, None], table.size).flatten(1)
    return F.pad(tokens, (0, 1))[:, table.tokens].sum(-1)


def true_density(boxes: Tensor, size: tuple[int, int], cell: tuple[float, float]) -> Tensor:
    """Spread a weight of 1 evenly over each of ``boxes`` and sum it up in cells: (h, w).

    Args:
        boxes (Tensor): (N, 4) left, top, right, bottom in pixels.
        size (tuple of int): h, w of the map, in cells.
        cell (tuple of float): Height and width of a cell in pixels. Boxes count as far as they lie
            on the map.
    """
    rows = _shares(boxes[:, 1], boxes[:, 3], size[0], cell[0])
    columns = _shares(boxes[:, 0], boxes[:, 2], size[1], cell[1])
    with torch.autocast(boxes.device.type, enabled=False):  # which would round the shares
        return torch.einsum("nh,nw->hw", rows, columns)


def _shares(first: Tensor, last: Tensor, count: int, cell: float) -> Tensor:
    """(N,) ends of intervals to (N, count): the share of each that lies in each cell."""
    edges = torch.arange(count + 1, device=first.device) * cell
    first = first.clamp(0, count * cell - 1)[:, None]
    last = torch.maximum(last.clamp(0, count * cell)[:, None], first + 1)
    inside = (torch.minimum(last, edges[1:]) - torch.maximum(first, edges[:-1])).clamp(min=0)
    return inside / inside.sum(1, keepdim=True)


def density_loss(density: Tensor, boxes: Sequence[Tensor], cell: float) -> Tensor:
    """Poisson loss of a map's logarithm (B, h, w) against the true boxes of each image.

    Of a large object its middle counts, up to MIDDLE cells. A detector looks for centres. Spread
    over a whole bus, a weight of 1 would be too thin for any window to be chosen.

    For ``boxes`` see :func:`true_density`. ``cell`` is the side of a cell in pixels. The result is
    the mean of the images' sums.
    """
    height, width = density.shape[1:]
    wanted = torch.stack(
        [true_density(middle(one, MIDDLE * cell), (height, width), (cell, cell)) for one in boxes]
    )
    return (density.exp() - wanted * density).sum() / len(density)


def middle(boxes: Tensor, most: float) -> Tensor:
    """Cut (N, 4) boxes down to ``most`` pixels both ways about their centres."""
    first, last = boxes.unflatten(1, (2, 2)).unbind(1)
    centre = (first + last) / 2
    half = ((last - first) / 2).clamp(max=most / 2)
    return torch.cat([centre - half, centre + half], 1)
