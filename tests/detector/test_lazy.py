"""A head computed in parts says what the head computed everywhere says in these parts."""

import copy

import pytest
import torch
from mmdet3d.registry import MODELS

from sparsevit3d.detector.carried import carried_head, carried_neck, head_where, loss_where
from sparsevit3d.detector.decode import candidates_of
from sparsevit3d.detector.lazy import lazy_head, why_dense
from sparsevit3d.stages.benchmark import trained_subject
from sparsevit3d.stages.config import load_config, read_config
from sparsevit3d.stages.look import load_keyframe
from tests.support.console import CONFIGS, ROOT
from tests.support.round_trip import dataset_of

ZOO = ROOT / "zoo"
SIZES = [(12, 30), (7, 16), (3, 8)]
LAYER_NORM = {"type": "mmdet3d.FCOSMono3DHead", "norm_cfg": {"type": "LN2d"}}


@pytest.fixture(autouse=True)
def _one_thread():
    """Several threads sum a map in another order, which random weights make much of."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def model_of(**options):
    """The small detector's config, of colours alone, with a head of any type."""
    model = read_config(CONFIGS / "fcos3d_small_512x192_carry.py").model
    model.data_preprocessor.type = "mmdet3d.Det3DDataPreprocessor"
    model.backbone.in_channels = 3
    del model.bbox_head["depth_unit"]
    torch.manual_seed(0)
    return model | options


def head_of(**options):
    """The small detector's head, with random weights so large that it finds many things."""
    model = model_of()
    head = MODELS.build(
        model.bbox_head | options | {"test_cfg": model.test_cfg, "train_cfg": model.train_cfg}
    )
    find_much(head)
    return head.eval()


def find_much(head):
    for module in head.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=0.1)
    torch.nn.init.constant_(head.conv_cls.bias, -3.0)


def check_equal(found, truth, at_least=20):
    """Both hold the same candidates, in an order of their own."""
    assert len(found.level) >= len(truth.level) >= at_least
    places = {
        (level, image, tuple(point)): row
        for row, (level, image, point) in enumerate(
            zip(found.level.tolist(), found.image.tolist(), found.points.tolist(), strict=True)
        )
    }
    rows = [
        places[level, image, tuple(point)]
        for level, image, point in zip(
            truth.level.tolist(), truth.image.tolist(), truth.points.tolist(), strict=True
        )
    ]
    for name in ("directions", "attributes"):
        assert torch.equal(getattr(found, name)[rows], getattr(truth, name))
    for name in ("scores", "boxes", "centerness"):
        assert torch.allclose(getattr(found, name)[rows], getattr(truth, name), 1e-4, 1e-4)


@torch.no_grad()
@pytest.mark.parametrize("threshold", [0.03, 0.05])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"centerness_on_reg": False},
        {"stacked_convs": 1},
        {"reg_branch": ((), (64, 32), (), (64,), ()), "centerness_branch": (48, 32)},
        {"bbox_coder": {"base_dims": None, "base_depths": None}},
        LAYER_NORM,
        LAYER_NORM | {"centerness_on_reg": False},
        {"norm_cfg": None},
    ],
    ids=[
        "as configured",
        "centerness by class",
        "one layer",
        "deep branches",
        "no priors",
        "layer norm",
        "layer norm, centerness by class",
        "no norm",
    ],
)
def test_nothing_that_may_be_a_box_is_lost_or_changed(options, threshold):
    head = head_of(**options)
    assert why_dense(head) == ""
    head.test_cfg.score_thr = threshold
    maps = [torch.randn(2, 64, *size) for size in SIZES]
    truth = candidates_of(head, head([one.clone() for one in maps]))
    check_equal(lazy_head(head, maps), truth)


@torch.no_grad()
@pytest.mark.parametrize("plan", [None, "0.7|0.8|0.5|0.3"])
def test_a_trained_detector_finds_on_a_street_what_its_dense_head_finds(plan, synthetic):
    config = load_config(ZOO / "config.py", synthetic)
    name = "pruned" if plan else "dense"
    model = trained_subject(config, ZOO / f"{name}.safetensors", "val").model
    assert str(model.backbone.plan) == str(plan)
    batch, _ = load_keyframe(config, 0)
    images = model.data_preprocessor(batch)["inputs"]["imgs"]
    features, computed = model.backbone_maps(images)
    maps = [one.float() for one in model.neck(features)]
    head = model.bbox_head
    truth = candidates_of(head, head_where(head, maps, computed) if computed else head(maps))
    found = model.head_outputs(model.neck_maps(features, computed), computed)
    check_equal(found, truth)


@torch.no_grad()
def test_where_no_class_is_found_nothing_else_is_computed():
    head = head_of()
    head.test_cfg.score_thr = 0.999
    found = lazy_head(head, [torch.randn(2, 64, *size) for size in SIZES])
    assert found.boxes.shape == (0, 9)
    assert len(found.attributes) == len(found.image) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"type": "mmdet3d.FCOSMono3DHead"}, "TowerNormHead"),
        ({"norm_cfg": {"type": "BN"}}, "norm_cfg"),
        ({"dcn_on_last_conv": True}, "dcn_on_last_conv"),
        ({"pred_attrs": False}, "pred_attrs"),
    ],
)
def test_a_head_that_sees_farther_is_told_by_name(options, words):
    assert words in why_dense(head_of(**options))
    with pytest.raises(ValueError, match=f"not support carry=True here: .*{words}"):
        MODELS.build(model_of(carry=True, bbox_head=model_of().bbox_head | options))
    assert not MODELS.build(model_of(carry=False, bbox_head=model_of().bbox_head | options)).carry


def detector(plan, levels, options):
    strides = [8, 16, 32, 64, 128][:levels]
    model = model_of(carry=True)
    model.neck |= {"num_outs": levels, "add_extra_convs": "on_output"}
    model.bbox_head |= options | {"strides": strides, "regress_ranges": ((-1, 1e8),) * levels}
    made = MODELS.build(model)
    find_much(made.bbox_head)
    made.backbone.plan = plan
    return made.eval()


@torch.no_grad()
@pytest.mark.parametrize("plan", ["0.5|0.6|0.7|0.5", "0|0|0|0", "0.8|0.8|0.8|0.8"])
@pytest.mark.parametrize("size", [(96, 160), (64, 104)], ids=["whole windows", "padding"])
@pytest.mark.parametrize("levels", [3, 5])
@pytest.mark.parametrize("options", [{}, LAYER_NORM], ids=["as configured", "layer norm"])
def test_carried_windows_are_the_dense_head_where_windows_were_computed(
    plan, size, levels, options
):
    model = detector(plan, levels, options)
    head = model.bbox_head
    features, computed = model.backbone.forward_computed(torch.randn(2, 3, *size))
    assert all(mask.all() for mask in computed) == (plan == "0|0|0|0")
    maps = model.neck(features)
    found = carried_head(head, carried_neck(model.neck, features, computed, most=1.1))
    truth = candidates_of(head, head_where(head, maps, computed))
    check_equal(found, truth)
    check_equal(lazy_head(head, maps, computed), truth)
    assert carried_neck(model.neck, features, computed, most=0.0) is None
    if plan == "0|0|0|0":  # an oracle that keeps all windows changes nothing
        check_equal(found, candidates_of(head, head([one.clone() for one in maps])))


@torch.no_grad()
def test_group_norm_takes_the_statistics_of_computed_places_alone():
    """Cut out, the computed places have the same results: their layers see zeros around them."""
    head = head_of()
    maps = [torch.randn(2, 64, *size) for size in SIZES]
    computed = [torch.zeros(2, *size, dtype=torch.bool) for size in SIZES]
    computed[0][:, 2:8, 4:20] = True
    scores, *_ = head_where(head, maps, computed)
    cut = [one.clone() for one in maps]
    cut[0] = maps[0][:, :, 2:8, 4:20]
    truth, *_ = head(cut)
    assert torch.allclose(scores[0][:, :, 2:8, 4:20], truth[0], 1e-4, 1e-4)
    assert float(scores[1].max()) == -20.0


def test_a_loss_counts_computed_places_alone():
    head = head_of().train()
    maps = [torch.randn(2, 64, *size, requires_grad=True) for size in SIZES]
    computed = [torch.zeros(2, *size, dtype=torch.bool) for size in SIZES]
    computed[0][0, 2:5, 4:9] = True
    scores, *_ = head_where(head, maps, computed)
    scores[0].sum().backward()
    seen = maps[0].grad.abs().sum(1) > 0
    assert torch.equal(seen, computed[0])
    assert [float(one.detach().max()) for one in scores[1:]] == [-20.0, -20.0]


@torch.no_grad()
def test_layers_see_zeros_between_the_computed_places():
    head = head_of(**LAYER_NORM)
    maps = [torch.randn(2, 64, *size) for size in SIZES]
    computed = [torch.rand(2, *size) < 0.5 for size in SIZES]
    scores, *_ = head_where(head, maps, computed)
    for level, (x, mask) in enumerate(zip(maps, computed, strict=True)):
        known = mask[:, None].float()
        for layer in (*head.cls_convs, *head.conv_cls_prev):
            x = layer(x * known)
        truth = head.conv_cls(x * known).masked_fill(known == 0, -20.0)
        assert torch.allclose(scores[level], truth, 1e-5, 1e-5)


@pytest.fixture(scope="module")
def real_batch(synthetic):
    """A head in training, random maps for it, and two images with their true objects."""
    config = load_config(CONFIGS / "fcos3d_small_512x192_carry.py", synthetic)
    dataset = dataset_of(config, "val", False)
    samples = [dataset[number]["data_samples"] for number in range(2)]
    head = MODELS.build(
        config.model.bbox_head
        | {"test_cfg": config.model.test_cfg, "train_cfg": config.model.train_cfg}
    )
    torch.manual_seed(0)
    sizes = [(24, 64), (12, 32), (6, 16)]
    return head.train(), [torch.randn(2, 64, *size) for size in sizes], samples


def test_an_unseen_object_is_no_target(real_batch):
    """Objects where nothing was computed are background there, and change no other loss."""
    head, maps, samples = real_batch
    nothing = [torch.zeros(len(one), *one.shape[2:], dtype=torch.bool) for one in maps]
    losses = loss_where(head, maps, copy.deepcopy(samples), nothing)
    assert all(float(loss) < 1e-6 for loss in losses.values())
    everything = [~mask for mask in nothing]
    truth = head.loss(maps, copy.deepcopy(samples))
    found = loss_where(head, maps, copy.deepcopy(samples), everything)
    assert found.keys() == truth.keys()
    for name, loss in truth.items():
        assert torch.allclose(found[name], loss, 1e-5)
        assert float(loss) > 0
    assert "get_targets" not in vars(head)
