"""FCOS3D on SparseSwin-T, nuScenes at 704 x 256: the size of the paper's 3D results.

Not yet run on nuScenes: no result to expect.

    sparsevit3d data infos data/nuscenes --version v1.0-trainval
    torchrun --nproc-per-node=8 --no-python sparsevit3d train THIS --work-dir work_dirs/first
    torchrun --nproc-per-node=8 --no-python sparsevit3d train THIS --work-dir work_dirs/dense \\
        --from work_dirs/first/epoch_0012.pth
    torchrun --nproc-per-node=8 --no-python sparsevit3d adapt THIS --work-dir work_dirs/adapted \\
        --from work_dirs/dense/epoch_0012.pth
    sparsevit3d search THIS --work-dir work_dirs/search \\
        --from work_dirs/adapted/epoch_0012.pth --max-macs 0.6
    torchrun --nproc-per-node=8 --no-python sparsevit3d finetune THIS --work-dir work_dirs/sparse \\
        --from work_dirs/adapted/epoch_0012.pth --plan work_dirs/search/plan.json
    sparsevit3d eval THIS work_dirs/sparse/epoch_0036.pth --flip

The control that trains as long: adapt --dense, then finetune --plan dense. On one GPU leave out
torchrun and its options, and say --set train_dataloader.batch_size=16 (at this size).

These figures are estimated from MACs, not run. An image takes 40 GMACs. Training takes 3 GB of GPU
memory for two images. Eight A100 need half an hour for 12 epochs if the loaders keep up, one A100
about 4 hours.

Swin-T's ImageNet weights lie in weights/. The file may be Microsoft's, or timm's, torchvision's or
mmdet's under that name. To begin without any: --set model.backbone.init_cfg=null
"""

_base_ = ["_base_/nuscenes.py", "_base_/recipe.py", "_base_/fcos3d_sparse_swin-t.py"]

image_size = (704, 256)
model = dict(
    backbone=dict(
        init_cfg=dict(type="Pretrained", checkpoint="weights/swin_tiny_patch4_window7_224.pth")
    )
)
