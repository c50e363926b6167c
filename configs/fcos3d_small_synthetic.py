"""A detector small enough to learn on two CPU cores: the demo's dense model, on synthetic nuScenes at 384 x 128.

    sparsevit3d data synth data/synthetic && sparsevit3d data infos data/synthetic --version v1.0-synthetic
    sparsevit3d train configs/fcos3d_small_synthetic.py --data data/synthetic --work-dir work_dirs/dense

Window 4 divides the maps of this size into 192, 48, 12 and 3 windows without padding.
"""

_base_ = ["_base_/nuscenes.py", "_base_/runtime.py", "_base_/fcos3d_sparse_swin-t.py"]

image_size = (384, 128)
channels = 64
model = dict(
    backbone=dict(embed_dims=32, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4, drop_path_rate=0.0),
    neck=dict(in_channels=[64, 128, 256], out_channels=channels, num_outs=3, add_extra_convs=False),
    bbox_head=dict(
        in_channels=channels,
        feat_channels=channels,
        strides=[8, 16, 32],
        regress_ranges=((-1, 24), (24, 48), (48, 1e8)),
        cls_branch=(channels,),
        reg_branch=((channels,), (channels,), (channels,), (channels,), ()),
        dir_branch=(channels,),
        attr_branch=(channels,),
        centerness_branch=(32,),
        dcn_on_last_conv=False,  # deformable convolution has no fast CPU form
    ),
    test_cfg=dict(nms_pre=300, max_per_img=60, score_thr=0.03),
)
train_dataloader = dict(batch_size=8, num_workers=1)
test_dataloader = dict(num_workers=1)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={"relative_position_bias_table": dict(decay_mult=0.0)}),
    clip_grad=dict(max_norm=35),
)
max_epochs = 14
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, end=60),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=max_epochs, eta_min_ratio=0.01, convert_to_iter_based=True),
]
