"""How a detector learns which windows matter, beside all else or alone."""

import copy

import pytest
import torch
from mmdet3d.registry import MODELS
from mmengine.dataset import pseudo_collate

from sparsevit3d.stages.config import load_config, use_split
from tests.support.console import CONFIGS
from tests.support.round_trip import dataset_of


@pytest.fixture(scope="module")
def config(synthetic):
    return load_config(CONFIGS / "fcos3d_small_512x192_carry.py", synthetic)


@pytest.fixture(scope="module")
def batch(config):
    dataset = dataset_of(config, "val", False)
    return pseudo_collate([dataset[number] for number in range(4)])


def detector(config, importance, **options):
    model = copy.deepcopy(config.model) | options
    model.backbone |= {"importance": importance, "cameras": 6}
    torch.manual_seed(0)
    return MODELS.build(model).train()


def losses_of(model, batch):
    data = model.data_preprocessor(copy.deepcopy(batch), training=True)
    return model.loss(data["inputs"], data["data_samples"])


def gradients_of(model, batch):
    losses = losses_of(model, batch)
    sum(value for name, value in losses.items() if name.startswith("loss")).backward()
    return losses, {
        name: value.grad for name, value in model.named_parameters() if value.grad is not None
    }


def test_the_map_learns_beside_the_detector_and_changes_no_other_gradient(config, batch):
    losses, with_map = gradients_of(detector(config, "density"), batch)
    assert losses["loss_density"] > 0
    model = detector(config, "density")
    model.backbone.importance = "l2"
    without, truth = gradients_of(model, batch)
    assert "loss_density" not in without
    own = {name for name in with_map if name.startswith("backbone.density.")}
    assert with_map.keys() - own == truth.keys()
    assert own
    assert all(torch.equal(with_map[name], gradient) for name, gradient in truth.items())


def test_the_map_learns_alone(config, batch):
    losses, gradients = gradients_of(detector(config, "density", learns="density"), batch)
    assert losses.keys() == {"loss_density"}
    assert all(name.startswith("backbone.density.") for name in gradients)
    with pytest.raises(ValueError, match=r"needs backbone\.importance='density'"):
        detector(config, "l2", learns="density")
    with pytest.raises(ValueError, match="learns 'much': there are all, density"):
        detector(config, "density", learns="much")


def test_the_prior_counts_objects_by_camera(config, batch):
    model = detector(config, "place")
    losses_of(model, batch)
    counted = model.backbone.density
    assert counted.images.tolist() == [1, 1, 1, 1, 0, 0]
    objects = [len(one.gt_instances.bboxes) for one in batch["data_samples"]]
    assert torch.allclose(counted.objects.sum((1, 2))[:4], torch.tensor(objects).float())
    assert sum(objects) > 0
    batch["data_samples"][0].set_metainfo({"flip": True})
    with pytest.raises(ValueError, match="leave RandomFlip3D out"):
        losses_of(model, batch)


def test_where_images_share_a_budget_a_batch_of_an_evaluation_is_a_keyframe(config):
    own = copy.deepcopy(config)
    own.test_dataloader.batch_size = 4
    use_split(own, "val")
    assert own.test_dataloader.batch_size == 6
    own.test_dataloader.batch_size = 4
    own.model.backbone.budget = "image"
    use_split(own, "val")
    assert own.test_dataloader.batch_size == 4
