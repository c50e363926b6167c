"""How the detectors of real nuScenes are trained, stage after stage.

All stages use AdamW in mixed precision (the head in float32). Batches have 16 images in all, 2 for
each of eight processes. Gradients are clipped, and images are flipped at random.

First comes FCOS3D's schedule of 12 epochs. Its second stage raises the weight of depth from 0.2 to
1.0 (published: 2.3 mAP for ResNet-101). Then come sparsity-aware adaptation and finetuning. Their
rates and lengths are those that SparseViT's authors released for COCO. For nuScenes the authors
told none.
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
