"""Boxes are those that mmdet3d's own head decodes, however many locations may hold one."""

import pytest
import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import CameraInstance3DBoxes

from sparsevit3d.detector import decode as decode_module
from sparsevit3d.detector.decode import candidates_of, decode, packed, unpacked
from sparsevit3d.stages.config import read_config
from tests.support.console import CONFIGS


def head_of(**options):
    model = read_config(CONFIGS / "fcos3d_swin-t_704x256.py").model
    made = model.bbox_head | options | {"test_cfg": model.test_cfg, "train_cfg": model.train_cfg}
    return MODELS.build(made).eval()


@pytest.fixture(scope="module")
def head():
    return head_of()


def random_maps(scores_around):
    sizes = [(24, 60), (12, 30), (6, 15)]  # the first has more locations than nms_pre
    kinds = [(10, scores_around), (9, 2.0), (2, 0.0), (9, 0.0), (1, 0.0)]
    return [
        [torch.randn(2, channels, *size) * 2 + mean for size in sizes] for channels, mean in kinds
    ]


def assert_mmdet3ds(head, maps):
    """Return how many boxes each image has, after a comparison with mmdet3d's."""
    camera = [[1000.0, 0, 240], [0, 1000.0, 96], [0, 0, 1]]
    metas = [
        {"cam2img": camera, "scale_factor": (1.0, 1.0), "box_type_3d": CameraInstance3DBoxes}
    ] * 2
    head.strides = [8, 16, 32]
    truth, _ = head.predict_by_feat(
        *[[level.clone() for level in kind] for kind in maps], batch_img_metas=metas, rescale=False
    )
    mine, _ = decode(head, maps, metas)
    for one, other in zip(mine, truth, strict=True):
        assert torch.equal(one.labels_3d, other.labels_3d)
        assert torch.equal(one.scores_3d, other.scores_3d)
        assert torch.equal(one.attr_labels, other.attr_labels)
        assert torch.allclose(one.bboxes_3d.tensor, other.bboxes_3d.tensor, rtol=1e-5, atol=1e-5)
    return [len(one.scores_3d) for one in truth]


@pytest.mark.parametrize("scores_around", [-3.0, -8.0, -20.0])  # more than nms_pre, some, none
def test_boxes_are_mmdet3ds(head, scores_around):
    counts = assert_mmdet3ds(head, random_maps(scores_around))
    assert all(counts) if scores_around > -20 else not any(counts)


@pytest.mark.parametrize(("ahead", "overlap", "times"), [(1, 0.01, 2), (3, 0.01, 1), (1, 0.99, 1)])
def test_the_worst_are_looked_at_if_too_few_of_the_best_stay(ahead, overlap, times, monkeypatch):
    head = head_of()
    head.test_cfg.update(max_per_img=30, nms_thr=overlap)
    calls = []
    suppressed = decode_module._suppressed
    monkeypatch.setattr(
        decode_module, "_suppressed", lambda *given: (calls.append(1), suppressed(*given))[1]
    )
    monkeypatch.setattr(decode_module, "AHEAD", ahead)
    assert assert_mmdet3ds(head, random_maps(-6.0)) == [30, 30]
    assert len(calls) == times


def test_candidates_are_what_they_were_before_their_journey(head):
    """An accelerator's candidates travel to the processor in one table."""
    candidates = candidates_of(head, random_maps(-6.0))
    assert len(candidates.level) > 100
    table = packed(candidates)
    assert table.dtype == torch.float32
    for one, other in zip(unpacked(table, candidates), candidates, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_a_head_without_attributes_decodes_as_it_is():
    other = head_of(pred_attrs=False)
    meta = {
        "cam2img": [[1000.0, 0, 240], [0, 1000.0, 96], [0, 0, 1]],
        "scale_factor": (1.0, 1.0),
        "box_type_3d": CameraInstance3DBoxes,
    }
    other.strides = [8, 16, 32]
    maps = random_maps(-6.0)
    maps[3] = [None] * 3
    found, _ = decode(other, maps, [meta])
    assert len(found[0].scores_3d)


def test_circles_are_chosen_by_the_config():
    """No two boxes of a class are nearer than its radius, and the best box stays."""
    head = head_of()
    head.strides = [8, 16, 32]
    maps = random_maps(-6.0)
    meta = {
        "cam2img": [[1000.0, 0, 240], [0, 1000.0, 96], [0, 0, 1]],
        "scale_factor": (1.0, 1.0),
        "box_type_3d": CameraInstance3DBoxes,
    }
    every, _ = decode(head, maps, [meta] * 2)
    head.test_cfg.nms_type = "circle"
    head.test_cfg.min_radius = [4.0] * 10
    found, _ = decode(head, maps, [meta] * 2)
    for one, other in zip(found, every, strict=True):
        assert 0 < len(one.scores_3d) < len(other.scores_3d)
        assert one.scores_3d.max() == other.scores_3d.max()
        for label in one.labels_3d.unique():
            centres = one.bboxes_3d.tensor[one.labels_3d == label][:, [0, 2]]
            apart = torch.cdist(centres, centres) + 9 * torch.eye(len(centres))
            assert apart.min() > 4.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"nms_type": "square"}, "nms_type 'square'.*'rotate' and 'circle'"),
        ({"nms_type": "circle"}, "min_radius has 0 values.*10 classes"),
        ({"nms_type": "circle", "min_radius": [1.0, 2.0]}, "min_radius has 2 values"),
    ],
)
def test_an_unknown_suppression_is_refused(settings, words):
    model = read_config(CONFIGS / "fcos3d_small_512x192.py").model
    model.test_cfg.update(settings)
    with pytest.raises(ValueError, match=words):
        MODELS.build(model)
