"""How the head's loss counts errors of depth."""

import pytest
import torch
from mmdet3d.models.dense_heads import FCOSMono3DHead

from sparsevit3d.detector.head import DEPTH, NEAREST, TowerNormHead


def head(depth_unit):
    return TowerNormHead(depth_unit=depth_unit, num_classes=2, in_channels=32, feat_channels=32)


def boxes(depths):
    found = torch.rand(len(depths), 9)
    found[:, DEPTH] = torch.tensor(depths)
    return found


def test_an_error_counts_as_a_share_of_the_true_depth():
    true = boxes([1.0, 6.0, 12.0, 48.0])
    found = true.clone()
    found[:, DEPTH] += 1  # metre
    one, other = head(12.0).add_sin_difference(found, true)
    errors = (one - other)[:, DEPTH]
    assert errors.tolist() == pytest.approx([12 / NEAREST, 2, 1, 0.25])
    plain = FCOSMono3DHead.add_sin_difference(found, true)
    rest = [place for place in range(9) if place != DEPTH]
    assert torch.equal(one[:, rest], plain[0][:, rest])
    assert torch.equal(other[:, rest], plain[1][:, rest])


def test_without_a_unit_boxes_are_those_of_fcos3d():
    pair = boxes([3.0, 30.0]), boxes([4.0, 20.0])
    for own, plain in zip(
        head(None).add_sin_difference(*pair),
        FCOSMono3DHead.add_sin_difference(*pair),
        strict=True,
    ):
        assert torch.equal(own, plain)
