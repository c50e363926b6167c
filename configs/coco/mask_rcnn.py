"""Mask R-CNN on SparseSwin-T, COCO: the dense detector of the paper's instance segmentation.

The recipe is mmdet's published one (36 epochs, multi-scale, mixed precision, eight GPUs with two
images each), on our backbone. The test size is 672 x 672, as the paper prunes it.

    TOOLS=$(python -c 'import mmdet; print(mmdet.__path__[0])')/.mim/tools
    torchrun --nproc-per-node=8 $TOOLS/train.py --launcher pytorch \\
        configs/coco/mask_rcnn.py --work-dir work_dirs/mask_rcnn

COCO lies in data/coco, Microsoft's ImageNet weights of Swin-T in weights/. Not yet run in full. The
release reports box AP 42.6 and mask AP 38.8 at this size.
"""

_base_ = "mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_amp-ms-crop-3x_coco.py"

custom_imports = dict(imports=["sparsevit3d.backbone", "sparsevit3d.stages.hooks"])
model = dict(
    backbone=dict(
        type="SparseSwin", init_cfg=dict(checkpoint="weights/swin_tiny_patch4_window7_224.pth")
    )
)
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(672, 672), keep_ratio=False),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
# Checkpoints hold tensors and plain types, and are written whole.
default_hooks = dict(checkpoint=dict(_delete_=True, type="WholeCheckpointHook"))
