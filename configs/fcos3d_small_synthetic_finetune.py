"""Finetuning of the adapted small detector under the plan that the search found.

    sparsevit3d finetune configs/fcos3d_small_synthetic_finetune.py --from work_dirs/adapted/epoch_0002.pth \\
        --plan work_dirs/search/plan.json --work-dir work_dirs/sparse
"""

_base_ = "fcos3d_small_synthetic_adapt.py"

max_epochs = 3
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=max_epochs, eta_min_ratio=0.01, convert_to_iter_based=True),
]
