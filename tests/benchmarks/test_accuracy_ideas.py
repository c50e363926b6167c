"""What the accuracy study tries beside the paper's way: other importances, other ways to adapt, an
oracle.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from benchmarks.accuracy import oracle
from benchmarks.accuracy.ideas import contrast, drawn
from benchmarks.accuracy.study import Study
from benchmarks.accuracy.workspace import Workspace
from sparsevit3d.backbone import backbone_of
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.look import Keyframes
from sparsevit3d.stages.runner import load_detector
from sparsevit3d.stages.train import adapt
from sparsevit3d.swin.plan import SparsityPlan
from sparsevit3d.swin.trace import record_windows
from sparsevit3d.swin.windows import window_table
from visualize.geometry import window_map
from visualize.masks import stage_blocks

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "tests/support/tiny_study.toml"


def test_the_oracle_keeps_the_windows_that_objects_cover(synthetic, untrained):
    config = load_config(ROOT / "configs/fcos3d_small_synthetic.py", synthetic)
    detector = load_detector(config, untrained, None)
    keyframes = Keyframes(config, detector, "val")
    plan = SparsityPlan.uniform(0.3, (2, 2, 2, 2))
    shares = {"norm": [], "oracle": []}
    by_norm = keyframes.look(0, plan)
    oracle.attach(detector, oracle.Oracle(keyframes.info_file))
    for name, keyframe in (("norm", by_norm), ("oracle", keyframes.look(0, plan))):
        for trace in stage_blocks(keyframe.trace)[:2]:
            for view, kept in zip(keyframe.views, trace.kept, strict=True):
                numbers = window_map(view, trace)
                seen = np.zeros(len(kept), bool)
                for row in keyframes.infos[0]["cam_instances"][view.channel]:
                    left, top, right, bottom = (max(0, round(side)) for side in row["bbox"])
                    # A smaller one may lie between the middles of tokens
                    if min(right - left, bottom - top) > 16:
                        inside = numbers[top : bottom + 1, left : right + 1]
                        seen[np.unique(inside[inside >= 0])] = True
                if 0 < seen.sum() < kept.sum():
                    shares[name].append(kept[seen].mean())
    assert len(shares["oracle"]) > 3
    # some windows show but the rim of an object, no token's middle
    assert min(shares["oracle"]) > 0.85
    assert np.mean(shares["norm"]) < np.mean(shares["oracle"]) - 0.1


@HOOKS.register_module()
class ListenHook(Hook):
    """Keeps every iteration's plan and losses."""

    priority = "VERY_LOW"
    heard: ClassVar[list] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.plan = str(backbone_of(runner.model).plan)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.heard.append((self.plan, outputs))


@pytest.fixture
def adapted_with(synthetic, untrained, tmp_path):
    """Adapts by an idea for three iterations; returns the detector, and each iteration's plan and
    losses.
    """
    (tmp_path / "data").symlink_to(synthetic)
    workspace = Workspace(Study.load(STUDY), tmp_path)

    def run(changes=(), hooks=()):
        config = workspace.config(0, (128, 64), changes, (*hooks, "ListenHook"), "adapt")
        config.train_dataloader.batch_size = 8
        for hook in config.custom_hooks:
            if hook["type"] == "DistillationHook":
                hook["weights"] = str(untrained)
        ListenHook.heard.clear()
        weights = adapt(config, tmp_path / "run", untrained)
        return load_detector(config, weights, None), ListenHook.heard

    return run


@pytest.mark.slow
def test_the_sandwich_has_both_ends_and_what_lies_between(adapted_with):
    _, heard = adapted_with(hooks=("SandwichHook",))
    plans = [plan for plan, _ in heard]
    assert plans[1:] == ["0|0|0|0", "0.8|0.8|0.8|0.8"]
    assert plans[0] not in plans[1:]


@pytest.mark.slow
def test_what_is_distilled_is_the_dense_detector(adapted_with):
    _, heard = adapted_with(
        (("optim_wrapper.optimizer.lr", 0.0),), ("DistillationHook", "SandwichHook")
    )
    apart = [float(losses["loss_distillation"]) for _, losses in heard]
    # it stays what it began as: dense, the same; the most pruned, another
    assert 0 <= apart[1] < 0.1 * apart[2]


def test_drawn_windows_are_others_in_every_image_and_the_same_for_the_same():
    generator = torch.Generator().manual_seed(0)
    table = window_table(8, 16, 4, 0)
    features = torch.rand(3, 128, 8, generator=generator)
    features[2] = features[0]
    scores = drawn(features, table)
    assert torch.equal(scores[0], scores[2])
    assert not torch.equal(scores[0].argsort(), scores[1].argsort())
    many = torch.stack(
        [drawn(torch.rand(1, 128, 8, generator=generator), table)[0] for _ in range(400)]
    )
    best = torch.bincount(many.argmax(1), minlength=8)
    assert len(best) == 8
    assert 25 < best.min() <= best.max() < 80  # 50 each, were they dealt out


def test_contrast_is_the_variance_within_a_window_and_knows_no_padding():
    generator = torch.Generator().manual_seed(0)
    table = window_table(6, 10, 4, 2)
    features = torch.rand(2, 60, 8, generator=generator)
    features[0, :] = 5.0  # as bright as it may be
    found = contrast(features, table)
    assert found[0].tolist() == pytest.approx([0.0] * len(table.tokens), abs=1e-4)
    for number, places in enumerate(table.tokens.tolist()):
        inside = features[1, [place for place in places if place < 60]]
        assert found[1, number] == pytest.approx(
            float(inside.var(0, correction=0).mean()), abs=1e-6
        )


@pytest.mark.slow
def test_a_learned_importance_learns_and_chooses(adapted_with):
    detector, heard = adapted_with((("model.type", "LearnedImportanceFCOS3D"),))
    assert all(0 < float(losses["loss_importance"]) < 10 for _, losses in heard)
    net = backbone_of(detector)
    images = torch.rand(1, 3, 64, 128)
    assert all(places.abs().sum() > 0 for places in net.importance.places)
    net.plan = "0.5|0|0|0"
    with record_windows(net) as before:
        net(images)
    with torch.no_grad():
        # the right is what matters
        net.importance.places[0].copy_(torch.linspace(0, 100, 16).expand(1, 1, 8, 16))
    with record_windows(net) as after:
        net(images)
    grid = after[0].kept[0].reshape(4, 8)
    assert grid[:, 4:].all()
    assert not grid[:, :4].any()
    assert not np.array_equal(before[0].kept, after[0].kept)
