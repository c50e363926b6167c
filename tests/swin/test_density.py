"""The learned map of objects, and one budget of windows for all images of a batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from sparsevit3d import SparseSwin, SparsityPlan, count_macs, record_windows
from sparsevit3d.cost.macs import count_traced_macs
from sparsevit3d.swin.density import CELL, DensityMap, density_loss, true_density, window_density
from sparsevit3d.swin.windows import window_table
from tests.support.networks import SHAPE, randomised

PLAN = "0.3|0.5|0.5,0.6|0.5"
CELL_PIXELS = 16


def net_of(**choices):
    torch.manual_seed(0)
    return randomised(SparseSwin(**SHAPE, window_size=4, plan=PLAN, **choices))


def kept_of(net, images):
    with torch.no_grad(), record_windows(net) as trace:
        net(images)
    return trace


@given(st.lists(st.tuples(*[st.integers(-20, 120)] * 2, *[st.integers(1, 90)] * 2), max_size=5))
def test_true_density_equals_counting_pixels(boxes):
    counted = torch.zeros(64, 96)
    whole = []
    for left, top, width, height in boxes:
        inside = torch.zeros(64, 96)
        inside[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)] = 1
        if inside.sum():
            counted += inside / inside.sum()
            whole.append([left, top, left + width, top + height])
    cells = counted.view(4, 16, 6, 16).sum((1, 3))
    found = true_density(torch.tensor(whole).float().view(-1, 4), (4, 6), (16, 16))
    assert torch.allclose(found, cells, atol=1e-5)


def test_a_box_beside_the_image_counts_at_its_edge():
    boxes = torch.tensor([[-50.0, 10.0, -10.0, 20.0], [5.0, 3.0, 5.0, 3.0]])
    found = true_density(boxes, (4, 6), (16, 16))
    assert found.sum() == pytest.approx(2)
    assert found[:, 1:].sum() == 0


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_windows_of_every_stage_share_out_the_objects_of_the_map(stage, shift):
    density = torch.rand(2, 8, 16)
    height = (8 * CELL) >> stage
    width = (16 * CELL) >> stage
    table = window_table(height, width, 4, shift)
    worth = window_density(density, table) * CELL**-2 * 4**stage
    assert torch.allclose(worth.sum(1), density.sum((1, 2)))
    if stage == 0 and not shift:
        assert torch.allclose(worth.view(2, 8, 16), density)


def test_the_map_learns_where_objects_are():
    torch.manual_seed(0)
    net = SparseSwin(**SHAPE, window_size=4, importance="density")
    optimizer = torch.optim.AdamW(net.density.parameters(), 1e-2)
    for _ in range(60):
        images = torch.randn(4, 3, 64, 96)
        boxes = [torch.randint(0, 40, (2, 2)).float() for _ in images]
        boxes = [torch.cat([one, one + 16], 1) for one in boxes]
        for image, own in zip(images, boxes, strict=True):
            for left, top, right, bottom in own.int().tolist():
                image[:, top:bottom, left:right] += 3
        density = net.log_density(images)
        loss = density_loss(density, boxes, CELL_PIXELS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    truth = torch.stack([true_density(one, (4, 6), (16, 16)) for one in boxes])
    correlation = torch.corrcoef(torch.stack([density.exp().flatten(), truth.flatten()]))[0, 1]
    assert correlation > 0.8


def test_of_a_large_object_the_middle_counts():
    """A bus weighs in its middle as much as one of 4 x 4 cells there, and a cone as before."""
    bus = torch.tensor([[0.0, 0.0, 160.0, 96.0]])
    cut = torch.tensor([[48.0, 16.0, 112.0, 80.0]])
    cone = torch.tensor([[18.0, 20.0, 25.0, 40.0]])
    density = torch.randn(1, 6, 12)
    loss, truth = (density_loss(density, [torch.cat([one, cone])], 16) for one in (bus, cut))
    assert torch.equal(loss, truth)
    wanted = true_density(torch.cat([cut, cone]), (6, 12), (16, 16))
    assert torch.allclose(loss, (density[0].exp() - wanted * density[0]).sum())


def test_autocast_leaves_the_map_and_its_gradients_alone():
    net = DensityMap(32)
    x = torch.randn(2, 48 * 128, 32)

    def gradients(autocast):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            boxes = [torch.tensor([[10.0, 20.0, 60.0, 70.0]])] * 2
            loss = density_loss(net(x, 48, 128), boxes, CELL_PIXELS)
        loss.backward()
        return [parameter.grad.clone() for parameter in net.parameters()]

    for found, truth in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(found, truth)


def test_the_map_leaves_the_networks_gradients_alone():
    net = net_of(importance="density").train()
    net.log_density(torch.randn(2, 3, 64, 96)).sum().backward()
    learnt = {name for name, value in net.named_parameters() if value.grad is not None}
    assert learnt == {f"density.{name}" for name, _ in net.density.named_parameters()}


def test_windows_with_most_objects_are_kept():
    net = net_of(importance="density")
    images = torch.randn(2, 3, 96, 128)
    with torch.no_grad():
        density = net.log_density(images).exp()
    for one in kept_of(net, images):
        table = window_table(*one.map_size, one.window, one.shift)
        worth = window_density(density, table)
        count = int(one.kept[0].sum())
        best = worth.argsort(dim=1, descending=True, stable=True)[:, :count]
        assert torch.equal(
            torch.zeros_like(worth, dtype=torch.bool).scatter(1, best, True),
            torch.from_numpy(one.kept),
        )


def test_without_a_map_density_is_refused():
    net = net_of()
    net.importance = "density"
    with pytest.raises(ValueError, match="build SparseSwin with it"):
        net(torch.randn(1, 3, 64, 64))


def test_weights_with_and_without_a_map_load_into_networks_with_and_without():
    with_map = net_of(importance="density")
    without = net_of()
    own = {name: value.clone() for name, value in with_map.density.state_dict().items()}
    with_map.load_state_dict(without.state_dict())
    assert all(torch.equal(with_map.density.state_dict()[name], own[name]) for name in own)
    without.load_state_dict(with_map.state_dict())
    assert without.density is None
    other = net_of(importance="density")
    torch.nn.init.ones_(other.density.exit.weight)
    with_map.load_state_dict(other.state_dict())
    assert (with_map.density.exit.weight == 1).all()


@pytest.mark.parametrize("size", [(64, 96), (77, 101)])
def test_the_map_is_part_of_the_macs(size):
    net = net_of(importance="density")
    net.fast = False
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.log_density(torch.randn(1, 3, *size))
    embedding = -(-size[0] // 4) * -(-size[1] // 4) * net.patch_embed.projection.weight.numel()
    own = counter.get_total_flops() // 2 - embedding
    plain = net_of()
    assert count_macs(net, size) - count_macs(plain, size) == own
    dense = SparsityPlan.uniform(0, net.depths)
    assert count_macs(net, size, dense) == count_macs(plain, size, dense)
    trace = kept_of(net, torch.randn(2, 3, *size))
    assert (count_traced_macs(net, trace) <= count_macs(net, size)).all()


@pytest.mark.parametrize("importance", ["l2", "density"])
@pytest.mark.parametrize("size", [(64, 96), (77, 101)])
def test_images_that_share_a_budget_keep_the_best_windows_of_all(importance, size):
    net = net_of(importance=importance, budget="batch")
    images = torch.randn(3, 3, *size) * torch.tensor([1.0, 2.0, 3.0])[:, None, None, None]
    own = kept_of(net_of(importance=importance), images)
    for one, other in zip(kept_of(net, images), own, strict=True):
        assert one.kept.shape == other.kept.shape
        assert one.kept.sum() == other.kept.sum()
        scores = torch.from_numpy(one.scores)
        kept = torch.from_numpy(one.kept)
        assert kept.all() or scores[kept].min() >= scores[~kept].max()


def test_a_single_image_has_the_budget_of_its_batch():
    images = torch.randn(1, 3, 77, 101)
    with torch.no_grad():
        for one, other in zip(net_of()(images), net_of(budget="batch")(images), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("size", [(64, 96), (77, 101)])
def test_the_fast_path_equals_the_plain_one_under_one_budget(size):
    net = net_of(importance="density", budget="batch")
    images = torch.randn(3, 3, *size)
    with torch.no_grad():
        fast, where = net.forward_computed(images)
        net.fast = False
        plain, truth = net.forward_computed(images)
    for one, other in zip((*fast, *where), (*plain, *truth), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_training_drops_the_residuals_of_one_image_at_a_time():
    net = net_of(budget="batch", drop_path_rate=0.7).train()
    block = net.stages[-1].blocks[-1]
    table = window_table(4, 4, 4, 0, images=16)
    x = torch.randn(1, 16 * 16, block.norm1.normalized_shape[0])
    torch.manual_seed(0)
    changed = (block(x, table, None) != x).view(16, -1).any(1)
    assert 0 < changed.sum() < 16


def test_the_prior_is_where_objects_were_camera_by_camera():
    net = net_of(importance="place", cameras=2)
    net.density.objects.zero_()
    net.density.images.zero_()
    left = torch.tensor([[0.0, 0, 16, 16]])
    right = torch.tensor([[112.0, 48, 128, 64]])
    for _ in range(2):
        net.density.count([left, right], torch.tensor([0, 1]), (64, 128))
    images = torch.randn(4, 3, 64, 128)
    density = net.log_density(images).exp()
    assert density[0, 0, 0] == pytest.approx(1, abs=1e-3)
    assert density[1, 3, 7] == pytest.approx(1, abs=1e-3)
    assert torch.equal(density[0], density[2])
    assert density[0].sum() == pytest.approx(1, abs=1e-3)
    swapped = net.log_density(images, torch.tensor([1, 0, 1, 0])).exp()
    assert torch.equal(swapped[0], density[1])
    with pytest.raises(ValueError, match="3 images of 2 cameras"):
        net.log_density(images[:3])
    copy = net_of(importance="place", cameras=2)
    copy.load_state_dict(net.state_dict())
    assert torch.equal(copy.log_density(images), net.log_density(images))


@pytest.mark.slow
@pytest.mark.parametrize("width", [96, 90], ids=["whole windows", "padding"])
@pytest.mark.parametrize("how", ["compiled", "exported"])
def test_a_map_and_one_budget_go_through_torchs_compiler(how, width):
    net = net_of(importance="density", budget="batch")
    images = torch.randn(2, 3, 64, width)
    with torch.no_grad():
        truth = net(images)
        if how == "compiled":
            other = torch.compile(net, fullgraph=True, dynamic=False, backend="aot_eager")
        else:
            other = torch.export.export(net, (images,)).module()
        for one, expected in zip(other(images), truth, strict=True):
            assert torch.allclose(one, expected, atol=1e-4)
