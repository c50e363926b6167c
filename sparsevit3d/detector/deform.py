"""mmcv's modulated deformable convolution, for any memory format and faster on a processor.

mmcv's operator takes its inputs' memory to be channels-first without looking. Given SparseSwin's
channels-last features, the operator computes nonsense on a CPU and refuses on a GPU. On a CPU it
also samples one value after another, on one core.
"""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.nn.functional as F
from mmcv.ops import ModulatedDeformConv2dPack, modulated_deform_conv2d
from torch import Tensor, nn

TILE = 512  # output pixels. The samples of 3 x 3 places and 256 channels then fill a few MB


class DeformConv(ModulatedDeformConv2dPack):
    """``ModulatedDeformConv2dPack`` (DCNv2) for any memory format of its input.

    Weights, names, results and arguments are mmcv's.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        kernel_size (int or tuple of int): Sides of the kernel, in pixels.
        stride (int or tuple of int): Input pixels between two places of the kernel. Default: 1.
        padding (int or tuple of int): Zeros around the input, in pixels. Default: 0.
        dilation (int or tuple of int): Pixels between two points of the kernel. Default: 1.
        groups (int): Groups of channels that are convolved apart. Default: 1.
        deform_groups (int): Groups of channels with offsets of their own. Default: 1.
        bias (bool or str): Whether there is a bias. Default: True.
    """

    @classmethod
    def like(cls, conv: ModulatedDeformConv2dPack) -> Self:
        """Make one with the shape and the weights of ``conv``."""
        return _remade(conv, cls)

    def to_mmcv(self) -> ModulatedDeformConv2dPack:
        """Make mmcv's own module with this one's shape and weights."""
        return _remade(self, ModulatedDeformConv2dPack)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        places = self.deform_groups * self.kernel_size[0] * self.kernel_size[1]
        offset, mask = self.conv_offset(x).split((2 * places, places), 1)
        mask = mask.sigmoid()
        simple = (
            self.groups == self.deform_groups == 1
            and x.dtype == offset.dtype == self.weight.dtype == torch.float32
        )
        if simple and x.device.type == "cpu" and not torch.is_grad_enabled():
            return self._sample(x, offset, mask)
        shape = self.stride, self.padding, self.dilation, self.groups, self.deform_groups
        return modulated_deform_conv2d(
            x.contiguous(), offset.contiguous(), mask.contiguous(), self.weight, self.bias, *shape
        )

    def _sample(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Convolve by embedding bags.

        A sample is a weighted sum of four pixels' rows of channels. An embedding bag computes such
        sums.
        """
        images, channels = x.shape[:2]
        height, width = offset.shape[-2:]
        pixels, weights = self._corners(offset, mask, x.shape[-2], x.shape[-1])
        table = x.permute(0, 2, 3, 1).reshape(-1, channels)
        matrix = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1)
        places = matrix.shape[1] // channels
        parts = [
            F.linear(
                F.embedding_bag(
                    at.flatten(0, 1), table, mode="sum", per_sample_weights=by.flatten(0, 1)
                ).view(len(at), -1),
                matrix,
                self.bias,
            )
            for at, by in zip(
                pixels.view(-1, places, 4).split(TILE),
                weights.view(-1, places, 4).split(TILE),
                strict=True,
            )
        ]
        return torch.cat(parts).view(images, height, width, -1).permute(0, 3, 1, 2)

    def _corners(
        self, offset: Tensor, mask: Tensor, height: int, width: int
    ) -> tuple[Tensor, Tensor]:
        """Find the four pixels around each sample, and their weights, (N, H', W', places, 4) both.

        Pixels are rows of the maps laid end to end. ``offset`` is (N, 2 * places, H', W'), a row
        and a column for each place. Pixels outside the map weigh nothing.
        """
        offset = offset.unflatten(1, (-1, 2)).permute(0, 3, 4, 1, 2)  # (N, H', W', places, 2)
        row, column = (offset + self._regular_places(*offset.shape[1:3])).unbind(-1)
        row = row.nan_to_num(height)
        column = column.nan_to_num(width)  # NaN lies outside the map, as for mmcv
        top = row.floor()
        left = column.floor()
        mask = mask.permute(0, 2, 3, 1)
        image = torch.arange(len(offset)).view(-1, 1, 1, 1) * height * width
        pixels = []
        weights = []
        for y, by_row in ((top, top + 1 - row), (top + 1, row - top)):
            for x, by_column in ((left, left + 1 - column), (left + 1, column - left)):
                inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
                pixels.append(
                    image + y.clamp(0, height - 1).long() * width + x.clamp(0, width - 1).long()
                )
                weights.append(by_row * by_column * mask * inside)
        return torch.stack(pixels, -1), torch.stack(weights, -1)

    def _regular_places(self, height: int, width: int) -> Tensor:
        """List where an ordinary convolution looks: (height, width, places, 2), row and column."""
        across = [
            (torch.arange(length) * stride - padding)[:, None] + torch.arange(kernel) * dilation
            for length, stride, padding, kernel, dilation in zip(
                (height, width),
                self.stride,
                self.padding,
                self.kernel_size,
                self.dilation,
                strict=True,
            )
        ]
        rows = across[0][:, None, :, None]
        columns = across[1][None, :, None, :]
        return torch.stack(torch.broadcast_tensors(rows, columns), -1).flatten(2, 3)


def _remade(conv: ModulatedDeformConv2dPack, kind: type[Any]) -> Any:
    shape = (
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
    )
    made = kind(*shape, conv.deform_groups, bias=conv.bias is not None).to(conv.weight)
    made.load_state_dict(conv.state_dict())
    for mine, given in zip(made.parameters(), conv.parameters(), strict=True):
        mine.requires_grad_(given.requires_grad)
    return made.train(conv.training)


def use_any_memory_format(module: nn.Module) -> None:
    """Put a :class:`DeformConv` in the place of each of mmcv's within ``module``."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is ModulatedDeformConv2dPack:
                setattr(parent, name, DeformConv.like(child))
