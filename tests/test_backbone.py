"""SparseSwin in the configs of other frameworks: mmdet's instance segmenters, trained on COCO data
made here.
"""

import json
from pathlib import Path

import cv2
import mmdet3d.utils
import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, Registry
from mmengine.runner import Runner, find_latest_checkpoint

from sparsevit3d import SparseSwin, SparsityPlan, load_swin_weights
from tests.support.reference_swin import Reference, Shape

CONFIGS = Path(__file__).parent.parent / "configs/coco"
SIDE = 96
PIPELINE = [
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
    {"type": "Resize", "scale": (SIDE, SIDE), "keep_ratio": False},
    {"type": "PackDetInputs"},
]


@pytest.fixture(autouse=True)
def _scope():
    """mmengine's default scope outlives a Runner; the other tests expect mmdet3d's."""
    yield
    mmdet3d.utils.register_all_modules(init_default_scope=True)


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Four images of coloured discs, in COCO's layout; train and val are the same."""
    root = tmp_path_factory.mktemp("coco")
    rng = np.random.default_rng(0)
    images = []
    annotations = []
    for number in range(4):
        picture = rng.integers(0, 80, (SIDE, SIDE, 3), dtype=np.uint8)
        name = f"{number:012d}.jpg"
        for category in (1, 2):
            x = rng.integers(25, SIDE - 25)
            y = rng.integers(25, SIDE - 25)
            radius = rng.integers(10, 20)
            cv2.circle(
                picture,
                (int(x), int(y)),
                int(radius),
                (0, 255, 0) if category == 1 else (0, 0, 255),
                -1,
            )
            turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
            outline = np.column_stack([x + radius * np.cos(turn), y + radius * np.sin(turn)])
            box = [float(x - radius), float(y - radius), float(2 * radius), float(2 * radius)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": box,
                    "area": float(np.pi * radius**2),
                    "segmentation": [outline.flatten().tolist()],
                    "iscrowd": 0,
                }
            )
        for split in ("train2017", "val2017"):
            (root / split).mkdir(exist_ok=True)
            cv2.imwrite(str(root / split / name), picture)
        images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
    categories = [
        {"id": number, "name": name}
        for number, name in enumerate(CocoDataset.METAINFO["classes"], 1)
    ]
    (root / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        document = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(document))
    return root


class Snapshot(Hook):
    """The backbone's parameters as the first iteration finds them."""

    priority = "LOWEST"

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 0:
            self.start = {
                name: parameter.detach().clone()
                for name, parameter in runner.model.backbone.named_parameters()
            }


def train_two_iterations(config, coco, work_dir):
    """One epoch of four small images, two at a time, and a validation; the trained model, and the
    backbone as training began.
    """
    config.work_dir = str(work_dir)
    config.train_dataloader.dataset.update(data_root=str(coco), pipeline=PIPELINE)
    config.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    config.val_dataloader.update(num_workers=0, persistent_workers=False)
    config.val_dataloader.dataset.data_root = str(coco)
    config.val_evaluator.ann_file = str(coco / "annotations/instances_val2017.json")
    config.update(test_dataloader=None, test_evaluator=None, test_cfg=None)
    config.train_cfg = {"type": "EpochBasedTrainLoop", "max_epochs": 1, "val_interval": 1}
    config.log_level = "ERROR"
    config.visualizer.vis_backends = []
    config.optim_wrapper.type = "OptimWrapper"  # mixed precision is for GPUs
    config.param_scheduler = []  # two iterations of warm-up would change next to nothing
    runner = Runner.from_cfg(config)
    snapshot = Snapshot()
    runner.register_hook(snapshot)
    runner.train()
    assert runner.iter == 2
    parameters = dict(runner.model.backbone.named_parameters())
    assert not [
        name
        for name, parameter in parameters.items()
        if torch.equal(parameter, snapshot.start[name])
    ]
    return runner.model, snapshot.start


@pytest.mark.slow
def test_mask_rcnn_trains_adapts_and_is_finetuned_under_the_papers_plans(
    coco, tmp_path, monkeypatch
):
    """Each begins with what the one before left.

    The configs as they are, but for what small images and a CPU ask for.
    """
    monkeypatch.chdir(tmp_path)
    shape = Shape(96, (2, 2, 6, 2), (3, 6, 12, 24), 7)
    expected = SparseSwin()
    Path("weights").mkdir()
    torch.save(
        {"model": Reference("Microsoft", shape).state}, "weights/swin_tiny_patch4_window7_224.pth"
    )
    load_swin_weights(expected, "weights/swin_tiny_patch4_window7_224.pth")
    left = dict(expected.named_parameters())
    for name, last in (("mask_rcnn", 36), ("mask_rcnn_adapt", 12), ("mask_rcnn_finetune_35ms", 36)):
        config = Config.fromfile(CONFIGS / f"{name}.py")
        assert config.train_cfg.max_epochs == last
        assert config.val_dataloader.dataset.pipeline[1].scale == (672, 672)
        config.val_dataloader.dataset.pipeline[1].scale = (SIDE, SIDE)
        folder = tmp_path / "work_dirs" / name.replace("adapt", "adapted").replace("finetune_", "")
        model, start = train_two_iterations(config, coco, folder)
        assert all(torch.equal(parameter, left[key]) for key, parameter in start.items())
        left = dict(model.backbone.named_parameters())
        checkpoint = Path(find_latest_checkpoint(folder))
        # where the next config looks for the end of training
        checkpoint.rename(folder / f"epoch_{last:04d}.pth")
    net = SparseSwin()
    load_swin_weights(net, folder / "epoch_0036.pth")
    assert net.plan == model.backbone.plan == SparsityPlan.parse("0.6|0|0.2,0.4,0.5|0")


@pytest.mark.parametrize(
    ("time", "plan"),
    [(42, "0.3|0|0.1,0.2,0.2|0"), (35, "0.6|0|0.2,0.4,0.5|0"), (33, "0.7|0|0.2,0.4,0.5|0")],
)
def test_the_configs_hold_the_released_settings(time, plan):
    config = Config.fromfile(CONFIGS / f"mask_rcnn_finetune_{time}ms.py")
    (start,) = config.custom_hooks
    assert start.plan == plan
    assert (config.optim_wrapper.optimizer.lr, config.optim_wrapper.optimizer.weight_decay) == (
        1e-5,
        0.05,
    )
    assert config.param_scheduler[1].milestones == [27, 33]
    assert config.model.backbone.drop_path_rate == 0.2


def test_mask2former_trains_on_it(coco, tmp_path):
    register_all_modules(init_default_scope=True)
    config = get_config("mmdet::mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py")
    config.custom_imports = {"imports": ["sparsevit3d.backbone"]}
    config.model.backbone.update(type="SparseSwin", plan="0.6|0|0.2,0.4,0.5|0", init_cfg=None)
    # else padded to 1024 x 1024
    config.model.data_preprocessor.batch_augments[0].size = (SIDE, SIDE)
    config.model.panoptic_head.num_queries = 10
    config.val_dataloader.dataset.pipeline = [
        *PIPELINE[:3],
        config.val_dataloader.dataset.pipeline[-1],
    ]
    config.default_hooks.checkpoint = {"type": "CheckpointHook", "interval": -1}
    if isinstance(config.val_evaluator, list):
        config.val_evaluator = config.val_evaluator[0]
    model, _ = train_two_iterations(config, coco, tmp_path)
    assert str(model.backbone.plan) == "0.6|0|0.2,0.4,0.5|0"
    decay = {
        id(p): group["weight_decay"]
        for group in build_optim_wrapper(model, config.optim_wrapper).param_groups
        for p in group["params"]
    }
    spared = model.backbone.no_weight_decay()  # mmdet's settings go by the names of its own Swin
    assert {
        name for name, parameter in model.backbone.named_parameters() if not decay[id(parameter)]
    } == spared


def test_a_framework_whose_registry_descends_from_mmengines_finds_it():
    """As mmsegmentation's does."""
    segmentors = Registry("model", parent=MODELS, scope="another_framework")
    net = segmentors.build(
        {"type": "SparseSwin", "depths": (2, 2), "num_heads": (3, 6), "out_indices": (0, 1)}
    )
    assert [feature.shape[1] for feature in net(torch.randn(1, 3, 64, 64))] == [96, 192]
