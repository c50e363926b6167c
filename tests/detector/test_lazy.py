"""A head computed where a class may be found finds the boxes of the head computed everywhere."""

import pytest
import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import CameraInstance3DBoxes

from sparsevit3d.detector.decode import boxes_of
from sparsevit3d.detector.lazy import lazy_head, why_dense
from sparsevit3d.stages.config import read_config
from tests.support.console import CONFIGS

SIZES = [(24, 60), (13, 31), (6, 15)]
META = {
    "cam2img": [[500.0, 0, 240], [0, 500.0, 96], [0, 0, 1]],
    "scale_factor": (1.0, 1.0),
    "box_type_3d": CameraInstance3DBoxes,
}


def head_of(**options):
    """The small detector's head, with random weights large enough to find many things."""
    model = read_config(CONFIGS / "fcos3d_small_512x192_ln.py").model
    made = model.bbox_head | options | {"test_cfg": model.test_cfg, "train_cfg": model.train_cfg}
    torch.manual_seed(0)
    head = MODELS.build(made).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.nn.init.constant_(head.conv_cls.bias, -4.0)
    return head


def equal(mine, truth):
    assert len(mine) == len(truth)
    for one, other in zip(mine, truth, strict=True):
        assert torch.equal(one.labels_3d, other.labels_3d)
        assert torch.equal(one.attr_labels, other.attr_labels)
        assert torch.allclose(one.scores_3d, other.scores_3d, rtol=1e-5, atol=1e-6)
        assert torch.allclose(one.bboxes_3d.tensor, other.bboxes_3d.tensor, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("threshold", [0.03, 0.3, 0.9])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"centerness_on_reg": False},
        {"stacked_convs": 1},
        {"reg_branch": ((), (64, 32), (), (64,), ()), "centerness_branch": (48, 32)},
        {"bbox_coder": dict(base_dims=None, base_depths=None)},
    ],
    ids=["as configured", "centerness by class", "one layer", "deep branches", "no priors"],
)
def test_boxes_are_those_of_mmdet3ds_dense_head(options, threshold):
    head = head_of(**options)
    assert why_dense(head) == ""
    head.test_cfg.score_thr = threshold
    maps = [torch.randn(2, 64, *size) for size in SIZES]
    truth, _ = head.predict_by_feat(
        *head([one.clone() for one in maps]), batch_img_metas=[META] * 2, rescale=False
    )
    found = lazy_head(head, maps, most=1.1)
    equal(boxes_of(head, found, [META] * 2), truth)
