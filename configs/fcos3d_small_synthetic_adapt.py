"""Sparsity-aware adaptation of the small detector: a short run at a small rate, a random plan each iteration.

sparsevit3d adapt configs/fcos3d_small_synthetic_adapt.py --from work_dirs/dense/epoch_0011.pth --work-dir work_dirs/adapted
"""

_base_ = "fcos3d_small_synthetic.py"

max_epochs = 2
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=max_epochs, eta_min_ratio=0.1, convert_to_iter_based=True),
]
