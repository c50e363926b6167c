"""FCOS3D on SparseSwin-T, nuScenes at 704 x 256. Written for a GPU machine and not yet run there: no result to expect.

sparsevit3d data infos data/nuscenes --version v1.0-trainval --split train --split val
sparsevit3d train configs/fcos3d_swin-t_nuscenes.py --work-dir work_dirs/dense

Swin-T's ImageNet weights lie in weights/, Microsoft's file or timm's, torchvision's or mmdet's under that name. To begin without any,
--set model.backbone.init_cfg=null
"""

_base_ = ["_base_/nuscenes.py", "_base_/runtime.py", "_base_/fcos3d_sparse_swin-t.py"]

image_size = (704, 256)
model = dict(backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="weights/swin_tiny_patch4_window7_224.pth")))
train_dataloader = dict(batch_size=12, num_workers=4)
optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=2e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=35),
)
train_cfg = dict(by_epoch=True, max_epochs=24)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=500),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=24, eta_min=1e-6, convert_to_iter_based=True),
]
