"""Five quick steps of sparsity-aware adaptation by mmengine's Runner; as a script under torchrun,
what each process of a test runs.
"""

import sys
from pathlib import Path

import torch
import torch.distributed
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

from sparsevit3d import SparseSwin
from sparsevit3d.backbone import backbone_of
from sparsevit3d.stages.hooks import RandomPlanHook, WholeCheckpointHook

SHAPE = {
    "embed_dims": 8,
    "depths": (2, 4),
    "num_heads": (1, 2),
    "window_size": 4,
    "out_indices": (0, 1),
}


class Numbers(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        return {"images": torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(index))}


class Model(BaseModel):
    def __init__(self, **more):
        super().__init__()
        self.backbone = SparseSwin(**SHAPE, drop_path_rate=0.3, **more)

    def forward(self, images, mode):
        return {"loss": sum((feature - 1).abs().mean() for feature in self.backbone(images))}


class Witness(Hook):
    """After RandomPlanHook has set the plan, and before it is taken away."""

    priority = "LOW"

    def __init__(self):
        self.plans = []
        self.images = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.plans.append(str(backbone_of(runner.model).plan))
        self.images.append(float(data_batch["images"].sum()))


def make_runner(model, work_dir, *hooks, **more):
    """One epoch: 20 images, two at a time on each process."""
    return Runner(
        model,
        str(work_dir),
        train_dataloader={
            "batch_size": 2,
            "dataset": Numbers(),
            "sampler": {"type": "DefaultSampler", "shuffle": True},
            "collate_fn": {"type": "default_collate"},
        },
        train_cfg={"by_epoch": True, "max_epochs": 1},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 1e-3}},
        custom_hooks=list(hooks),
        default_hooks={"logger": None, "checkpoint": WholeCheckpointHook()},
        log_level="ERROR",
        experiment_name=f"{Path(work_dir).parent.name}_{id(model)}",
        **more,
    )


def main(out):
    """Writes rankN.pth to ``out``."""
    torch.distributed.init_process_group("gloo")  # mmengine's own way there asks CUDA first
    witness = Witness()
    model = Model()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    runner = make_runner(
        model,
        out / "work_dir",
        RandomPlanHook(seed=4),
        witness,
        launcher="pytorch",
        cfg={
            "model_wrapper_cfg": {"type": "MMDistributedDataParallel", "device_ids": None}
        },  # else it takes it that there is a GPU
        randomness={"seed": 0, "diff_rank_seed": True},
    )
    runner.train()
    content = {
        "plans": witness.plans,
        "images": witness.images,
        "weights": runner.model.module.state_dict(),
        "start": start,
    }
    torch.save(content, out / f"rank{get_rank()}.pth")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
