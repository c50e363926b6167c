"""Fail unless mmcv's compiled operators run on this torch and give the right answers."""

import torch
import torch.nn.functional as F
from mmcv.ops import modulated_deform_conv2d, nms_rotated

boxes = torch.tensor([[0, 0, 2, 2, 0], [0.1, 0, 2, 2, 0], [9, 9, 2, 2, 0.5]])
_, kept = nms_rotated(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
if kept.tolist() != [0, 2]:
    raise SystemExit(f"mmcv's rotated NMS keeps boxes {kept.tolist()}, not [0, 2]")

images = torch.arange(75.0).view(1, 3, 5, 5)
weight = torch.arange(54.0).view(2, 3, 3, 3)
offset = torch.zeros(1, 18, 5, 5)  # nothing is deformed
mask = torch.ones(1, 9, 5, 5)
found = modulated_deform_conv2d(images, offset, mask, weight, None, 1, 1, 1, 1, 1)
if not torch.allclose(found, F.conv2d(images, weight, padding=1)):
    raise SystemExit("mmcv's deformable convolution without offsets is no convolution")
