"""A map's tokens as windows: index tables for a size, a window and a shift.

Swin pads a map to whole windows, rolls the map by the shift and cuts the map up. Here all three are
one table of token indices. A window is gathered from where its tokens lie and written back there.
Padding is never stored.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

FOREIGN = -100.0  # Swin's attention logit between tokens that only the cyclic shift made neighbours


class WindowTable(NamedTuple):
    """The windows of an H x W map, row by row. A window has ``window ** 2`` places.

    A table of several images has the windows of one image after those of another, and so their
    tokens.

    Args:
        tokens (Tensor): (windows, places) row-major index into the map. ``padding`` marks padding.
        sizes (Tensor): (windows,) how many places of the window are on the map.
        offsets (Tensor): (places, places) index of the places' relative position in Swin's bias
            table.
        mask (Tensor or None): (windows, places, places), 0 or FOREIGN. None for plain windows.
        grid (tuple of int): Windows down, windows across.
        size (tuple of int): H, W, in tokens.
        window (int): Side of a window, in tokens.
        shift (int): Tokens by which the map is rolled up and left. 0 for plain windows.
        edge (Tensor): (windows,) whether the window holds padding, or tokens that only the cyclic
            shift made neighbours.
        images (int): How many images' windows these are. Default: 1.
    """

    tokens: Tensor
    sizes: Tensor
    offsets: Tensor
    mask: Tensor | None
    grid: tuple[int, int]
    size: tuple[int, int]
    window: int
    shift: int
    edge: Tensor
    images: int = 1

    @property
    def padded(self) -> bool:
        """Whether any place lies outside the map."""
        return bool(self.size[0] % self.window or self.size[1] % self.window)

    @property
    def padding(self) -> int:
        """The index of padding, which is how many tokens there are."""
        return self.images * self.size[0] * self.size[1]

    @property
    def per_image(self) -> int:
        """Count the windows of one image."""
        return self.grid[0] * self.grid[1]

    def most_tokens(self, kept: int) -> int:
        """Count the tokens of the ``kept`` fullest windows. No ``kept`` windows hold more.

        A table of several images counts as many windows of each.
        """
        of_image = _most_tokens(*self.size, self.window, self.shift, kept // self.images)
        return self.images * of_image

    def of_images(self, images: int) -> WindowTable:
        """Build the table of ``images`` images from this table of one."""
        if images == 1:
            return self
        with torch.inference_mode(False):
            first = torch.arange(images, device=self.tokens.device)[:, None, None] * self.padding
            real = self.tokens < self.padding
            tokens = torch.where(real, self.tokens + first, images * self.padding).flatten(0, 1)
            return self._replace(
                tokens=tokens,
                sizes=self.sizes.repeat(images),
                mask=None if self.mask is None else self.mask.repeat(images, 1, 1),
                edge=self.edge.repeat(images),
                images=images,
            )


def window_table(
    height: int,
    width: int,
    window: int,
    shift: int,
    device: torch.device | str = "cpu",
    images: int = 1,
) -> WindowTable:
    """Build the table for one map size, or take the cached one.

    ``shift`` is 0 for plain windows, else how many tokens Swin rolls the map by. ``images`` says
    how many images share the table.
    """
    # torch.export's stand-ins must not outlive the trace.
    traced = type(torch.empty(0, device="cpu")) is not Tensor
    build = _build_table if traced else _cached_table
    return build(height, width, window, shift, torch.device(device), images)


def _build_table(
    height: int, width: int, window: int, shift: int, device: torch.device, images: int
) -> WindowTable:
    # The table outlives this call, and must serve training too.
    with torch.inference_mode(False):
        down = -(-height // window)
        across = -(-width // window)
        rows = (torch.arange(down * window, device="cpu") + shift) % (down * window)
        columns = (torch.arange(across * window, device="cpu") + shift) % (across * window)
        inside = (rows < height)[:, None] & (columns < width)
        tokens = _partition(
            torch.where(inside, rows[:, None] * width + columns, height * width), window
        )
        mask = None
        if shift:
            region = 3 * _regions(len(rows), window, shift)[:, None] + _regions(
                len(columns), window, shift
            )
            region = _partition(region, window)
            mask = torch.where(region[:, :, None] == region[:, None, :], 0.0, FOREIGN).to(device)
        sizes = (tokens < height * width).sum(1)
        edge = sizes < window**2
        if mask is not None:
            edge = edge | (mask != 0).flatten(1).any(1).cpu()
        offsets = _relative_positions(window).to(device)
        grid = (down, across)
        size = (height, width)
        return WindowTable(
            tokens.to(device),
            sizes.to(device),
            offsets,
            mask,
            grid,
            size,
            window,
            shift,
            edge.to(device),
        ).of_images(images)


_cached_table = lru_cache(maxsize=64)(_build_table)


@torch.compiler.assume_constant_result
def _most_tokens(*sizes: int) -> int:
    return _cached_most_tokens(*sizes)


@lru_cache(maxsize=4096)
def _cached_most_tokens(height: int, width: int, window: int, shift: int, kept: int) -> int:
    down, across = (_real_places(length, window, shift) for length in (height, width))
    return sum(sorted((rows * columns for rows in down for columns in across), reverse=True)[:kept])


def _real_places(length: int, window: int, shift: int) -> list[int]:
    """Count, along one axis, the places of each window that are on the map."""
    padded = -(-length // window) * window
    real = [(place + shift) % padded < length for place in range(padded)]
    return [sum(real[start : start + window]) for start in range(0, padded, window)]


def _relative_positions(window: int) -> Tensor:
    """(places, places): the offset of one place from another, as a row of Swin's bias table.

    The table has (2 * window - 1) ** 2 rows, one for each row and column offset.
    """
    side = torch.arange(window, device="cpu")
    position = torch.stack(torch.meshgrid(side, side, indexing="ij")).flatten(1)
    offset = position[:, :, None] - position[:, None, :] + window - 1
    return offset[0] * (2 * window - 1) + offset[1]


def _regions(length: int, window: int, shift: int) -> Tensor:
    """Number the regions along one axis of the rolled map: 0, 1 or 2 for each position.

    0 is the untouched part. 1 and 2 share the last window after the roll.
    """
    position = torch.arange(length, device="cpu")
    return (position >= length - window).long() + (position >= length - shift).long()


def _partition(grid: Tensor, window: int) -> Tensor:
    """(H, W) to (windows, window ** 2)."""
    down = grid.shape[0] // window
    across = grid.shape[1] // window
    return (
        grid.view(down, window, across, window)
        .transpose(1, 2)
        .reshape(down * across, window * window)
    )


class WindowTokens(NamedTuple):
    """The windows that a block computes, image by image, and their real tokens.

    The maps of a batch are laid end to end. A token is a row of these maps.

    Args:
        windows (int): How many windows, of all images together.
        mask (Tensor or None): (windows, places, places), as in WindowTable.
        offsets (Tensor): (places, places), as in WindowTable.
        rows (Tensor): (tokens,) index into a (batch * H * W, C) map.
        places (Tensor or None): (tokens,) which of the windows' places each token fills. None: the
            tokens fill all places, in order.
        image (Tensor): (tokens,) which image each token belongs to.
    """

    windows: int
    mask: Tensor | None
    offsets: Tensor
    rows: Tensor
    places: Tensor | None
    image: Tensor


def window_tokens(
    table: WindowTable, windows: Tensor | None, batch: int, tokens: int
) -> WindowTokens:
    """Find the real tokens of the chosen windows in ``batch`` maps of ``tokens`` tokens.

    ``windows`` is (batch, kept), in the order wanted. None: all windows.
    """
    index = table.tokens.expand(batch, -1, -1)
    mask = table.mask
    if windows is not None:
        index = table.tokens[windows]
        mask = mask if mask is None else mask[windows.flatten()]
    elif mask is not None:
        mask = mask.repeat(batch, 1, 1)
    rows = index + torch.arange(batch, device=index.device)[:, None, None] * tokens
    rows = rows.flatten()
    image = rows // (tokens // table.images)
    count = batch * index.shape[1]
    if not table.padded:
        return WindowTokens(count, mask, table.offsets, rows, None, image)
    real = (index < tokens).flatten()
    if torch.compiler.is_compiling() and not torch.is_grad_enabled():
        # The shape has to follow from the plan alone: the most tokens that the windows can hold.
        # Rows beyond the real tokens repeat a token.
        places = real.argsort(descending=True, stable=True)[
            : batch * table.most_tokens(index.shape[1])
        ]
        places = torch.where(real[places], places, places[0])
    else:
        places = real.nonzero().squeeze(1)
    return WindowTokens(count, mask, table.offsets, rows[places], places, image[places])


def token_mask(table: WindowTable, windows: Tensor | None, batch: int) -> Tensor:
    """(batch, H, W) bool: whether a token lies in one of ``windows``. None: in all.

    ``windows`` is (batch, kept), or (batch / images of the table, kept of all of these).
    """
    rows = batch // table.images
    mask = torch.zeros(rows, table.padding + 1, dtype=torch.bool, device=table.tokens.device)
    if windows is None:
        mask.fill_(True)
    else:
        mask.scatter_(1, table.tokens[windows].flatten(1), True)
    return mask[:, :-1].reshape(batch, *table.size)
