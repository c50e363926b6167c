"""Finetuning as in the 42 ms configuration, under the plan for 35 ms.

The release reports 34.2 ms, box AP 41.6 and mask AP 37.7.

    TOOLS=$(python -c 'import mmdet; print(mmdet.__path__[0])')/.mim/tools
    torchrun --nproc-per-node=8 $TOOLS/train.py --launcher pytorch \\
        configs/coco/mask_rcnn_finetune_35ms.py --work-dir work_dirs/mask_rcnn_35ms
"""

_base_ = "mask_rcnn_finetune_42ms.py"

custom_hooks = [
    dict(
        type="StartHook",
        weights="work_dirs/mask_rcnn_adapted/epoch_0012.pth",
        plan="0.6|0|0.2,0.4,0.5|0",
    )
]
