"""How the detectors of real nuScenes are trained, stage after stage.

AdamW in mixed precision (the head in float32), batches of 16 in all (2 for each of eight
processes), clipped gradients, a random flip. First FCOS3D's schedule of 12 epochs; then its second
stage, with the weight of depth raised from 0.2 to 1.0 (published: 2.3 mAP for ResNet-101); then
sparsity-aware adaptation and finetuning at the rates and lengths that SparseViT's authors released
for COCO, for nuScenes they told none.
"""

_base_ = "runtime.py"

optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="bfloat16",
    optimizer=dict(type="AdamW", lr=2e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=35),
)
train_cfg = dict(by_epoch=True, max_epochs=12)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, gamma=0.1, milestones=[8, 11]),
]
stages = dict(
    depth=dict(
        model=dict(train_cfg=dict(code_weight=[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.05, 0.05])),
        optim_wrapper=dict(optimizer=dict(lr=1e-4)),
    )
)
stages["adapt"] = dict(stages["depth"], optim_wrapper=dict(optimizer=dict(lr=1e-5)))
stages["finetune"] = dict(
    stages["adapt"],
    train_cfg=dict(max_epochs=36),
    param_scheduler=[
        dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
        dict(type="MultiStepLR", by_epoch=True, begin=0, gamma=0.1, milestones=[27, 33]),
    ],
)
