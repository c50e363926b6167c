"""Deformable convolutions equal mmcv's own on the channels-first memory that those need, whatever the memory format."""

import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet3d.registry import MODELS
from mmengine.config import Config

from sparsevit3d.deform import DeformConv, use_any_memory_format


def mmcv_conv(*shape, **options):
    conv = ModulatedDeformConv2dPack(*shape, **options)
    torch.nn.init.normal_(conv.conv_offset.weight, std=0.3)
    torch.nn.init.normal_(conv.conv_offset.bias, std=2)  # far enough to leave the map
    return conv


@pytest.mark.parametrize("options", [dict(padding=1), dict(padding=1, stride=2), dict(padding=2, dilation=2, bias=False)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("gradients", [False, True])
def test_it_equals_mmcv(options, memory_format, gradients):
    truth = mmcv_conv(6, 8, 3, **options)
    mine = DeformConv.like(truth)
    x = torch.randn(2, 6, 23, 31)  # more pixels than a tile
    with torch.set_grad_enabled(gradients):
        assert torch.allclose(mine(x.to(memory_format=memory_format)), truth(x), rtol=1e-4, atol=1e-5)


def test_groups_are_left_to_mmcv():
    truth = mmcv_conv(8, 8, 3, padding=1, deform_groups=2)
    x = torch.randn(1, 8, 9, 9)
    with torch.no_grad():
        mine = DeformConv.like(truth)(x.to(memory_format=torch.channels_last))
        assert torch.allclose(mine, truth(x), rtol=1e-4, atol=1e-5)


def test_a_head_does_not_care_how_its_features_lie():
    """mmdet3d's FCOS3D head has two; mmcv's read channels-last features as if they were channels-first."""
    base = Config.fromfile("configs/_base_/fcos3d_sparse_swin-t.py")
    head = MODELS.build(base.model.bbox_head | {"test_cfg": base.model.test_cfg, "train_cfg": base.model.train_cfg}).eval()
    use_any_memory_format(head)
    assert sum(isinstance(module, DeformConv) for module in head.modules()) == 2
    features = [torch.randn(1, 256, 16 >> level, 24 >> level) for level in range(5)]
    with torch.no_grad():
        first = head(features)
        last = head([feature.to(memory_format=torch.channels_last) for feature in features])
    for one, other in zip(first, last, strict=True):
        assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(one, other, strict=True))
