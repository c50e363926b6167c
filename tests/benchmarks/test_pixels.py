"""What the renderer knows of every pixel, as truth beside the boxes."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet3d.registry import DATASETS, MODELS

from benchmarks.pixels import (
    CELL,
    SKY,
    WEIGHTS,
    Learner,
    LowConv,
    PixelHead,
    PixelHook,
    render_truth,
    truth_of,
)
from sparsevit3d.stages.config import load_config

CONFIG = Path(__file__).parents[2] / "configs/fcos3d_small_512x192_carry.py"
SIZE = (512, 192)


@pytest.fixture(scope="module")
def root(synthetic, tmp_path_factory):
    own = tmp_path_factory.mktemp("made")
    (own / "samples").symlink_to(synthetic / "samples")
    (own / "synthetic.json").write_text((synthetic / "synthetic.json").read_text())
    render_truth(own, SIZE, load_config(CONFIG, synthetic).classes)
    return own


@pytest.fixture(scope="module")
def samples(synthetic):
    dataset = DATASETS.build(load_config(CONFIG, synthetic).train_dataloader.dataset)
    return [dataset[number]["data_samples"] for number in range(len(dataset))]


def image_in(root, sample):
    path = Path(sample.metainfo["img_path"])
    return root / "samples" / path.parent.name / path.name


def test_cells_show_the_class_and_the_depth_of_the_objects_there(root, samples):
    near = []
    for sample in samples:
        classes, depths = truth_of(image_in(root, sample), mirrored=False)
        assert classes.shape == depths.shape == (SIZE[1] // CELL, SIZE[0] // CELL)
        truth = sample.gt_instances_3d
        for box, label, depth in zip(
            sample.gt_instances.bboxes, truth.labels_3d, truth.depths, strict=True
        ):
            left, top, right, bottom = (box / CELL).round().int().tolist()
            if right - left < 10 or bottom - top < 10:
                continue
            inside = classes[top:bottom, left:right] == label
            if inside.float().mean() < 0.3:
                continue  # something nearer hides the object
            seen = depths[top:bottom, left:right][inside].float().median()
            near.append(abs(seen - depth) < 0.5 * truth.bboxes_3d.dims.max() + 1)
    assert len(near) > 5
    assert np.mean(near) > 0.8  # a nearer object of the same class may stand in the box


def test_sky_is_above_and_ground_below(root, samples):
    rows = [truth_of(image_in(root, sample), mirrored=False)[0] for sample in samples]
    share = np.array(
        [
            [(rows_of == kind).float().mean() for kind in (SKY, 10)]
            for rows_of in (torch.stack(rows)[:, :10], torch.stack(rows)[:, -10:])
        ]
    )
    assert share[0, 0] > 0 == share[1, 0]
    assert share[1, 1] > 0.7


def test_a_mirrored_image_has_mirrored_truth(root, samples):
    image = image_in(root, samples[0])
    for plain, mirrored in zip(truth_of(image, False), truth_of(image, True), strict=True):
        assert torch.equal(plain.flip(1), mirrored)


def test_the_truth_can_be_learnt_and_leaves_nothing_in_the_weights(root, samples, synthetic):
    pairs = [truth_of(image_in(root, sample), mirrored=False) for sample in samples[:2]]
    learner = Learner(len(WEIGHTS) + 1)
    given = torch.zeros(2, len(WEIGHTS) + 1, SIZE[1] // 8, SIZE[0] // 8)
    for number, (classes, depths) in enumerate(pairs):
        for kind in range(len(WEIGHTS)):
            given[number, kind] = (classes[::2, ::2] == kind).float()
        given[number, -1] = depths[::2, ::2].float().clamp(1).log()
    totals = []
    for _ in range(300):
        losses = learner.losses(given, pairs)
        total = sum(losses.values())
        total.backward()
        totals.append(float(total))
    assert totals[-1] < 0.5 * totals[0]


def test_a_detector_that_learns_pixels_keeps_its_weights_names(synthetic):
    model = MODELS.build(load_config(CONFIG, synthetic).model)
    before = set(model.state_dict())
    PixelHook().before_train(SimpleNamespace(model=model))
    assert set(model.state_dict()) == before
    assert isinstance(model.bbox_head, PixelHead)
    towers = model.bbox_head.cls_convs
    assert all(isinstance(layer.conv, LowConv) for layer in towers)
