"""Finetuning of the adapted Mask R-CNN, as released: 36 epochs at a small rate.

The plan is the one found for 42 ms on an A6000 at 672 x 672. The release reports 41.3 ms, box AP
42.4 and mask AP 38.5.

    TOOLS=$(python -c 'import mmdet; print(mmdet.__path__[0])')/.mim/tools
    torchrun --nproc-per-node=8 $TOOLS/train.py --launcher pytorch \\
        configs/coco/mask_rcnn_finetune_42ms.py --work-dir work_dirs/mask_rcnn_42ms
"""

_base_ = "mask_rcnn.py"

model = dict(backbone=dict(init_cfg=None))
custom_hooks = [
    dict(
        type="StartHook",
        weights="work_dirs/mask_rcnn_adapted/epoch_0012.pth",
        plan="0.3|0|0.1,0.2,0.2|0",
    )
]
optim_wrapper = dict(optimizer=dict(lr=1e-5))
