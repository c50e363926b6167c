"""Count what carrying the windows into the head could save. The idea is not built.

    python benchmarks/windows_in_head.py CONFIG CHECKPOINT --data ROOT

The head should be right on the tokens that the backbone's last block pair computed. The head then
needs correct inputs around these tokens: one pixel more for every 3 x 3 convolution that still
follows. Each convolution therefore needs only the share of its MACs at pixels that near to a
computed window.

The count uses the six images of the first keyframe of ``val``, under the checkpoint's plan or
another. Levels that the neck adds are counted whole. A deformable convolution is counted as if it
looked where an ordinary convolution does. The last line is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsevit3d.backbone import backbone_of
from sparsevit3d.detector.deform import DeformConv
from sparsevit3d.stages.benchmark import trained_subject
from sparsevit3d.stages.config import load_config
from sparsevit3d.swin.trace import BlockTrace, record_windows
from sparsevit3d.swin.windows import window_table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, help="the nuScenes root, if not the config's own")
    parser.add_argument("--plan", help="another plan than the checkpoint's")
    options = parser.parse_args()
    subject = trained_subject(
        load_config(options.config, options.data, None, ()), options.checkpoint, "val"
    )
    net = backbone_of(subject.model)
    net.plan = options.plan or net.plan
    with torch.no_grad(), record_windows(net) as trace:
        features = net(subject.images)
        levels = subject.model.neck(features)
    layers = macs_by_distance(subject.model.bbox_head)
    total = 0.0
    needed = 0.0
    rows = []
    for level, feature in enumerate(levels):
        kept = torch.ones(len(feature), *feature.shape[-2:])
        if level < len(features):
            stage = net.out_indices[level]
            kept = torch.stack(
                [computed_tokens(one) for one in trace if one.stage == stage][-2:]
            ).amax(0)
        pixels = kept.numel()
        whole = sum(layers.values()) * pixels
        near = sum(macs * float(widened(kept, distance).sum()) for distance, macs in layers.items())
        rows.append(
            {
                "stride": subject.model.bbox_head.strides[level],
                "computed": float(kept.mean()),
                "share_of_head_macs": near / whole,
            }
        )
        total = total + whole
        needed = needed + near
    result = {"plan": str(net.plan), "levels": rows, "share_of_head_macs": needed / total}
    for row in rows:
        print(
            f"stride {row['stride']:3}: {row['computed']:.0%} of its tokens computed; "
            f"{row['share_of_head_macs']:.0%} of the head's MACs needed"
        )
    print(json.dumps(result))


def computed_tokens(block: BlockTrace) -> Tensor:
    """Return (B, H, W): 1 where the block computed."""
    (height, width) = block.map_size
    found = torch.zeros(len(block.kept), block.map_size[0] * block.map_size[1] + 1)
    table = window_table(height, width, block.window, block.shift).tokens
    for image, kept in enumerate(torch.from_numpy(block.kept)):
        found[image, table[kept].flatten()] = 1
    return found[:, :-1].view(-1, height, width)


def widened(kept: Tensor, distance: int) -> Tensor:
    """Mark what lies within ``distance`` pixels of the computed tokens."""
    return F.max_pool2d(kept[:, None], 2 * distance + 1, 1, distance)[:, 0]


def macs_by_distance(head: Any) -> dict[int, int]:
    """Return MACs at one pixel, by how many 3 x 3 convolutions still follow."""
    found: dict[int, int] = {}
    for name, module in head.named_modules():
        if not isinstance(module, (torch.nn.Conv2d, DeformConv)):
            continue
        branch, _, place = name.partition(".")
        follow = 0
        if branch in ("cls_convs", "reg_convs"):
            follow = head.stacked_convs - int(place.split(".")[0])
        found[follow] = found.get(follow, 0) + module.weight.numel()
    return found


if __name__ == "__main__":
    main()
