"""The demo's detector, small enough to learn on two CPU cores, on synthetic nuScenes at 384 x 128.

    sparsevit3d data synth data/synthetic --scenes 60 5 20 --size 640 360
    sparsevit3d data infos data/synthetic
    sparsevit3d train THIS --work-dir work_dirs/trained
    sparsevit3d adapt THIS --work-dir work_dirs/adapted --from work_dirs/trained/epoch_0006.pth
    sparsevit3d search THIS --work-dir work_dirs/search --from work_dirs/adapted/epoch_0001.pth
    sparsevit3d finetune THIS --work-dir work_dirs/sparse --from work_dirs/adapted/epoch_0001.pth \\
        --plan work_dirs/search/plan.json

The control trains as long and is never pruned: adapt --dense, then finetune --plan dense. Window 4
divides the maps of this size into 192, 48, 12 and 3 windows without padding.
"""

_base_ = ["_base_/nuscenes.py", "_base_/runtime.py", "_base_/fcos3d_sparse_swin-t.py"]

data_root = "data/synthetic"
image_size = (384, 128)
model = dict(
    backbone=dict(
        embed_dims=32,
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 4, 8),
        window_size=4,
        drop_path_rate=0.0,
    ),
    neck=dict(in_channels=[64, 128, 256], out_channels=64, num_outs=3, add_extra_convs=False),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        strides=[8, 16, 32],
        regress_ranges=((-1, 100), (100, 200), (200, 1e8)),
        bbox_coder=dict(
            base_depths=((20.0, 10.0),),
            # Mean length, height, width by class, in the classes' order. The head predicts a ratio
            # to these means, as PGD does. Learning sizes and depth from exp(0) = 1 metre would take
            # longer than the whole demo.
            base_dims=(
                (4.7, 1.5, 1.85),
                (7.4, 3.1, 2.5),
                (12.5, 3.8, 2.8),
                (11.0, 3.3, 2.9),
                (6.4, 3.2, 2.7),
                (1.75, 1.65, 0.65),
                (2.1, 1.62, 0.8),
                (0.72, 1.75, 0.67),
                (0.42, 1.0, 0.42),
                (0.5, 1.0, 2.5),
            ),
        ),
        cls_branch=(64,),
        reg_branch=((), (64,), (), (64,), ()),  # offset, depth, size, yaw, velocity
        dir_branch=(64,),
        attr_branch=(32,),
        centerness_branch=(32,),
        loss_attr=dict(loss_weight=0.2),
        dcn_on_last_conv=False,  # deformable convolution has no fast CPU form
    ),
    # Centres decide mAP, so depth counts for more than published, and sizes for less.
    train_cfg=dict(code_weight=[1.0, 1.0, 0.5, 0.3, 0.3, 0.3, 1.0, 0.05, 0.05]),
    test_cfg=dict(nms_pre=300, nms_thr=0.05, max_per_img=60, score_thr=0.03),
)
# No flip: in so few epochs nothing is learnt by heart. Traffic that keeps to the right tells front
# from back.
train_pipeline = [
    {{_base_.load}},
    {{_base_.load_truth}},
    dict(type="FitCamera"),
    dict(type="mmdet3d.Pack3DDetInputs", keys={{_base_.train_keys}}),
]
train_dataloader = dict(batch_size=6, num_workers=1, dataset=dict(pipeline=train_pipeline))
test_dataloader = dict(num_workers=1)
optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.01, fused=True),
    clip_grad=dict(max_norm=35),
)
train_cfg = dict(by_epoch=True, max_epochs=6)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, by_epoch=False, end=160),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=0,
        convert_to_iter_based=True,
        eta_min_ratio=0.3,
    ),
]
stages = dict(
    adapt=dict(
        optim_wrapper=dict(optimizer=dict(lr=6e-4)),
        train_cfg=dict(max_epochs=1),
        param_scheduler=[dict(param_scheduler[1], eta_min_ratio=0.8)],
    ),
    finetune=dict(
        optim_wrapper=dict(optimizer=dict(lr=6e-4)),
        train_cfg=dict(max_epochs=7),
        param_scheduler=[dict(param_scheduler[1], eta_min_ratio=0.01)],
    ),
)
