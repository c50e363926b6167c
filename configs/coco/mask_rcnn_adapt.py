"""Sparsity-aware adaptation of the dense Mask R-CNN, at the released rate and length.

The length is 12 epochs, with a random plan each iteration.

    TOOLS=$(python -c 'import mmdet; print(mmdet.__path__[0])')/.mim/tools
    torchrun --nproc-per-node=8 $TOOLS/train.py --launcher pytorch \\
        configs/coco/mask_rcnn_adapt.py --work-dir work_dirs/mask_rcnn_adapted

Two differences from the release, among others: Its dense detector was taken from epoch 20 of 36,
ours from the last. Its plans draw each ratio of a stage from the ratios that the one before leaves,
which favours high ratios. Our plans are drawn alike from all possible plans.
"""

_base_ = "mask_rcnn.py"

model = dict(backbone=dict(init_cfg=None))
custom_hooks = [
    dict(type="StartHook", weights="work_dirs/mask_rcnn/epoch_0036.pth", plan=None),
    dict(type="RandomPlanHook", seed=0),
]
optim_wrapper = dict(optimizer=dict(lr=1e-5))
train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
