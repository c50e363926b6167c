"""Finetuning as in the 42 ms configuration, under the plan for 33 ms.

The release reports 32.9 ms, box AP 41.3 and mask AP 37.4.

    TOOLS=$(python -c 'import mmdet; print(mmdet.__path__[0])')/.mim/tools
    torchrun --nproc-per-node=8 $TOOLS/train.py --launcher pytorch \\
        configs/coco/mask_rcnn_finetune_33ms.py --work-dir work_dirs/mask_rcnn_33ms
"""

_base_ = "mask_rcnn_finetune_42ms.py"

custom_hooks = [
    dict(
        type="StartHook",
        weights="work_dirs/mask_rcnn_adapted/epoch_0012.pth",
        plan="0.7|0|0.2,0.4,0.5|0",
    )
]
