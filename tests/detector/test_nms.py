"""Suppression keeps, index by index, what mmcv's operator keeps class by class."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import nms_rotated

from sparsevit3d.detector import nms

# Multiples of a quarter: many boxes share centres, edges, sizes and scores, or have no size.
quarters = st.integers(-16, 16).map(lambda number: number / 4)
sizes = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 4.0])
angles = st.sampled_from([0.0, np.pi / 2, np.pi, -np.pi / 4, 0.3, -2.9])
box = st.tuples(quarters, quarters, sizes, sizes, angles)
scores = st.sampled_from([0.1, 0.2, 0.5, 0.5, 0.9])


def mmcvs(boxes, scores, groups, threshold):
    """Its operator orders equal scores at will, so it is given ranks: the first one is better."""
    kept = []
    for group in groups.unique().tolist():
        own = (groups == group).nonzero().squeeze(1)
        own = own[scores[own].sort(descending=True, stable=True)[1]]
        ranks = torch.arange(len(own), 0, -1).float()
        kept.append(own[nms_rotated(boxes[own], ranks, threshold)[1]])
    return torch.cat(kept) if kept else groups


def rotated_nms(boxes, scores, groups, threshold):
    return suppressed(nms.rotated_nms, boxes, scores, groups, threshold)


def circle_nms(boxes, scores, groups, radius):
    return suppressed(nms.circle_nms, boxes, scores, groups, radius)


def suppressed(rule, boxes, scores, groups, limit):
    """Each box counts for the class of its group."""
    count = int(groups.max()) + 1 if len(groups) else 1
    wanted = torch.nn.functional.one_hot(groups, count).bool()
    images = torch.zeros_like(groups)
    rows, labels = rule(boxes, scores[:, None].expand(-1, count), wanted, images, limit)
    assert torch.equal(labels, groups[rows])
    return rows


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(box, scores, st.integers(0, 2)), max_size=40))
@pytest.mark.parametrize("threshold", [0.05, 0.8])
def test_ties_and_boxes_without_size_are_mmcvs(threshold, drawn):
    boxes = torch.tensor([one for one, _, _ in drawn]).reshape(-1, 5)
    score = torch.tensor([one for _, one, _ in drawn])
    groups = torch.tensor([one for _, _, one in drawn], dtype=torch.long)
    found = rotated_nms(boxes, score, groups, threshold)
    assert found.tolist() == mmcvs(boxes, score, groups, threshold).tolist()


@pytest.mark.parametrize("spread", [3.0, 10.0, 100.0])
@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.8])
@pytest.mark.parametrize("smallest", [0.02, 0.4])
def test_random_boxes_are_mmcvs(spread, threshold, smallest):
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(600, 5, generator=generator)
    boxes[:, :2] = boxes[:, :2] * spread + 40
    boxes[:, 2:4] = smallest * 20 ** boxes[:, 2:4]
    boxes[:, 4] = boxes[:, 4] * 12 - 6
    boxes[::3] = boxes[1::3] + 0.01  # much alike
    score = torch.rand(600, generator=generator)
    groups = torch.randint(0, 5, (600,), generator=generator)
    found = rotated_nms(boxes, score, groups, threshold)
    assert found.tolist() == mmcvs(boxes, score, groups, threshold).tolist()
    assert len(found) < 600


def test_a_group_of_many_boxes_takes_little_memory_at_once(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(500, 5, generator=generator) * 5
    score = torch.rand(500, generator=generator)
    groups = torch.zeros(500, dtype=torch.long)
    whole = rotated_nms(boxes, score, groups, 0.3)
    monkeypatch.setattr("sparsevit3d.detector.nms.PAIRS_AT_ONCE", 700)
    assert torch.equal(rotated_nms(boxes, score, groups, 0.3), whole)


def test_a_box_that_is_not_finite_suppresses_none():
    boxes = torch.tensor([[0.0, 0, 2, 2, 0], [0.0, 0, 2, 2, 0]])
    for value in (torch.nan, torch.inf):
        for column in range(4):
            broken = boxes.clone()
            broken[0, column] = value
            found = rotated_nms(broken, torch.tensor([0.9, 0.5]), torch.zeros(2).long(), 0.5)
            assert found.tolist() == [0, 1]


def test_circles_keep_the_best_of_a_place():
    boxes = torch.tensor(
        [[0.0, 0, 1, 1, 0], [0.9, 0, 1, 1, 0], [1.8, 0, 1, 1, 0], [0.0, 0, 9, 9, 0]]
    )
    score = torch.tensor([0.9, 0.8, 0.7, 0.6])
    groups = torch.tensor([0, 0, 0, 1])
    assert circle_nms(boxes, score, groups, torch.ones(2)).tolist() == [0, 2, 3]
    assert circle_nms(boxes, score, groups, torch.full((2,), 0.5)).tolist() == [0, 1, 2, 3]
    assert circle_nms(boxes, score, groups, torch.full((2,), 2.0)).tolist() == [0, 3]


@pytest.mark.parametrize("radius", [0.3, 1.0, 4.0])
def test_circles_are_a_plain_loops(radius):
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(300, 5, generator=generator) * 20
    score = torch.rand(300, generator=generator)
    groups = torch.randint(0, 3, (300,), generator=generator)
    kept = []
    for group in range(3):
        own = [n for n in score.argsort(descending=True).tolist() if groups[n] == group]
        stays = []
        for one in own:
            if all(torch.dist(boxes[one, :2], boxes[other, :2]) > radius for other in stays):
                stays.append(one)
        kept += stays
    assert circle_nms(boxes, score, groups, torch.full((3,), radius)).tolist() == kept


@pytest.mark.parametrize("threshold", [0.05, 0.5])
def test_a_box_counts_for_each_of_its_classes_and_in_its_image_alone(threshold):
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(200, 5, generator=generator) * 4
    scores = torch.rand(200, 3, generator=generator)
    wanted = torch.rand(200, 3, generator=generator) < 0.6
    images = torch.randint(0, 2, (200,), generator=generator)
    rows, labels = nms.rotated_nms(boxes, scores, wanted, images, threshold)
    expected = []
    for image in range(2):
        for label in range(3):
            own = ((images == image) & wanted[:, label]).nonzero().squeeze(1)
            kept = mmcvs(boxes[own], scores[own, label], torch.zeros(len(own)), threshold)
            expected += [(row, label) for row in own[kept].tolist()]
    assert list(zip(rows.tolist(), labels.tolist(), strict=True)) == expected
    assert len(expected) < int(wanted.sum())
