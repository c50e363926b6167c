"""The best possible importance: windows that true objects cover, by the ground truth.

No detector has the ground truth.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from data_tools.schema import CAMERAS
from sparsevit3d.backbone import backbone_of
from sparsevit3d.swin.importance import score_windows
from sparsevit3d.swin.windows import WindowTable


class Oracle:
    """An importance function that uses the ground truth.

    First come the windows with the largest share of their tokens on true objects, as seen in the
    image. Windows without objects follow by L2 norm.
    """

    def __init__(self, info_file: Path) -> None:
        self.boxes = _boxes(info_file)
        # Images of the batch: boxes (N, 4) in network pixels, and the height and width of the
        # image.
        self.images: list[tuple[Tensor, int, int]] = []

    def look(self, module: Any, arguments: Any, named: dict[str, Any]) -> None:
        """Note which images the detector sees, before its forward pass."""
        shape = named["inputs"]["imgs"].shape[-2:]
        self.images = []
        for sample in named["data_samples"]:
            scale, offset = (
                torch.tensor(sample.metainfo[key]).float().repeat(2)
                for key in ("scale_factor", "img_crop_offset")
            )
            self.images.append((self.boxes[sample.metainfo["sample_idx"]] * scale - offset, *shape))

    def __call__(self, x: Tensor, table: WindowTable) -> Tensor:
        height, width = table.size
        objects = torch.stack(
            [covered(boxes, height, width, across / width) for boxes, _, across in self.images]
        ).sign()
        padded = torch.nn.functional.pad(objects.flatten(1), (0, 1))
        share = padded[:, table.tokens].sum(-1) / table.sizes
        (norms,) = score_windows(x, [table])
        return share.to(norms) + 1e-4 * norms / norms.amax(1, keepdim=True)


def covered(boxes: Tensor, height: int, width: int, stride: float) -> Tensor:
    """Return (height, width): each token's largest weight over the boxes, or 0 if none covers it.

    ``boxes`` are (N, 4) in network pixels. A box spreads a weight of 1 evenly over its tokens. A
    token belongs to a box if the token's middle lies in the box. Next to the middle of a smaller
    box, a token belongs to that box as well.
    """
    x, y = (torch.arange(count) * stride + stride / 2 for count in (width, height))
    left, top, right, bottom = (side[:, None] for side in boxes.unbind(1))
    wide = (x >= torch.minimum(left, (left + right - stride) / 2)) & (
        x <= torch.maximum(right, (left + right + stride) / 2)
    )
    high = (y >= torch.minimum(top, (top + bottom - stride) / 2)) & (
        y <= torch.maximum(bottom, (top + bottom + stride) / 2)
    )
    inside = (wide[:, None, :] & high[:, :, None]).float()
    parts = inside / inside.sum((1, 2), keepdim=True).clamp(min=1)
    return parts.amax(0) if len(boxes) else parts.new_zeros(height, width)


def _boxes(info_file: Path) -> dict[int, Tensor]:
    """Return the boxes of each image by the image's place in the split.

    Boxes are (N, 4) left, top, right, bottom in pixels of the camera's own image.
    """
    found = {}
    for number, info in enumerate(json.loads(info_file.read_text())["data_list"]):
        for place, camera in enumerate(CAMERAS):
            rows = info.get("cam_instances", {}).get(camera, [])
            found[number * len(CAMERAS) + place] = torch.tensor(
                [row["bbox"] for row in rows], dtype=torch.float32
            ).reshape(-1, 4)
    return found


def attach(model: Any, oracle: Oracle) -> None:
    """Make the detector choose its windows by the ground truth of the oracle's split."""
    backbone_of(model).importance = oracle
    model.register_forward_pre_hook(oracle.look, with_kwargs=True)


@HOOKS.register_module()
class OracleHook(Hook):
    """Train under the oracle."""

    kind = Oracle

    def before_run(self, runner: Any) -> None:
        attach(runner.model, self.kind(Path(runner.cfg.train_dataloader.dataset.ann_file)))
