"""Deformable convolutions equal mmcv's own on the channels-first memory that those need, whatever
the memory format.
"""

from copy import deepcopy

import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet3d.registry import MODELS
from mmengine.config import Config

import sparsevit3d.detector.losses  # noqa: F401  registers what configs name
from sparsevit3d.detector.deform import DeformConv, use_any_memory_format


def mmcv_conv(*shape, **options):
    conv = ModulatedDeformConv2dPack(*shape, **options)
    torch.nn.init.normal_(conv.conv_offset.weight, std=0.3)
    torch.nn.init.normal_(conv.conv_offset.bias, std=2)  # far enough to leave the map
    return conv


@pytest.mark.parametrize(
    "options", [dict(padding=1), dict(padding=1, stride=2), dict(padding=2, dilation=2, bias=False)]
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("gradients", [False, True])
def test_it_equals_mmcv(options, memory_format, gradients):
    truth = mmcv_conv(6, 8, 3, **options)
    mine = DeformConv.like(truth)
    x = torch.randn(2, 6, 23, 31)  # more pixels than a tile
    with torch.set_grad_enabled(gradients):
        assert torch.allclose(
            mine(x.to(memory_format=memory_format)), truth(x), rtol=1e-4, atol=1e-5
        )


def test_groups_are_left_to_mmcv():
    truth = mmcv_conv(8, 8, 3, padding=1, deform_groups=2)
    x = torch.randn(1, 8, 9, 9)
    with torch.no_grad():
        mine = DeformConv.like(truth)(x.to(memory_format=torch.channels_last))
        assert torch.allclose(mine, truth(x), rtol=1e-4, atol=1e-5)


def test_a_head_equals_mmdet3ds_however_its_features_lie():
    """mmdet3d's FCOS3D head has two; mmcv's read channels-last features as if they were
    channels-first.
    """
    base = Config.fromfile("configs/_base_/fcos3d_sparse_swin-t.py").model
    truth = MODELS.build(
        base.bbox_head | {"test_cfg": base.test_cfg, "train_cfg": base.train_cfg}
    ).eval()
    for module in truth.modules():
        if isinstance(module, ModulatedDeformConv2dPack):
            torch.nn.init.normal_(module.conv_offset.bias, std=2)
    head = deepcopy(truth)
    use_any_memory_format(head)
    assert sum(isinstance(module, DeformConv) for module in head.modules()) == 2
    features = [torch.randn(1, 256, 16 >> level, 24 >> level) for level in range(5)]
    with torch.no_grad():
        pairs = zip(
            truth(features),
            head([one.to(memory_format=torch.channels_last) for one in features]),
            strict=True,
        )
        for one, other in pairs:
            assert all(
                torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(one, other, strict=True)
            )


def test_it_keeps_what_is_frozen_and_the_dtype():
    conv = mmcv_conv(6, 8, 3).double().eval()
    conv.weight.requires_grad_(False)
    made = DeformConv.like(conv)
    assert made.weight.dtype == torch.float64
    assert not made.training
    assert [one.requires_grad for one in made.parameters()] == [
        one.requires_grad for one in conv.parameters()
    ]
    assert type(made.to_mmcv()) is ModulatedDeformConv2dPack
