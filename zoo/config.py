classes = (
    "car",
    "truck",
    "trailer",
    "bus",
    "construction_vehicle",
    "bicycle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "barrier",
)
custom_hooks = [
    dict(type="EpochSeedHook"),
    dict(type="FiniteLossHook"),
    dict(type="ProgressHook"),
]
data_root = "data/standard"
default_hooks = dict(
    checkpoint=dict(type="WholeCheckpointHook"),
    logger=dict(interval=20, type="LoggerHook"),
    param_scheduler=dict(type="ParamSchedulerHook"),
    runtime_info=dict(type="RuntimeInfoHook"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    timer=dict(type="IterTimerHook"),
)
default_scope = "mmdet3d"
env_cfg = dict(cudnn_benchmark=False, dist_cfg=dict(backend="nccl"), mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0))
image_size = (
    512,
    192,
)
load = dict(type="LoadCalibratedImage")
load_truth = dict(
    type="mmdet3d.LoadAnnotations3D",
    with_attr_label=True,
    with_bbox=True,
    with_bbox_3d=True,
    with_bbox_depth=True,
    with_label=True,
    with_label_3d=True,
)
log_level = "INFO"
log_processor = dict(by_epoch=True, type="LogProcessor", window_size=50)
model = dict(
    backbone=dict(
        depths=(
            2,
            2,
            2,
            2,
        ),
        drop_path_rate=0.0,
        embed_dims=32,
        num_heads=(
            1,
            2,
            4,
            8,
        ),
        out_indices=(
            1,
            2,
            3,
        ),
        type="SparseSwin",
        window_size=4,
    ),
    bbox_head=dict(
        attr_branch=(32,),
        bbox_coder=dict(
            base_depths=(
                (
                    20.0,
                    10.0,
                ),
            ),
            base_dims=(
                (
                    4.7,
                    1.5,
                    1.85,
                ),
                (
                    7.4,
                    3.1,
                    2.5,
                ),
                (
                    12.5,
                    3.8,
                    2.8,
                ),
                (
                    11.0,
                    3.3,
                    2.9,
                ),
                (
                    6.4,
                    3.2,
                    2.7,
                ),
                (
                    1.75,
                    1.65,
                    0.65,
                ),
                (
                    2.1,
                    1.62,
                    0.8,
                ),
                (
                    0.72,
                    1.75,
                    0.67,
                ),
                (
                    0.42,
                    1.0,
                    0.42,
                ),
                (
                    0.5,
                    1.0,
                    2.5,
                ),
            ),
            code_size=9,
            type="mmdet3d.FCOS3DBBoxCoder",
        ),
        center_sampling=True,
        centerness_branch=(32,),
        centerness_on_reg=True,
        cls_branch=(64,),
        conv_bias=True,
        dcn_on_last_conv=False,
        diff_rad_by_sin=True,
        dir_branch=(64,),
        dir_limit_offset=0,
        dir_offset=0.7854,
        feat_channels=64,
        group_reg_dims=(
            2,
            1,
            3,
            1,
            2,
        ),
        in_channels=64,
        loss_attr=dict(loss_weight=0.2, type="mmdet.CrossEntropyLoss", use_sigmoid=False),
        loss_bbox=dict(beta=0.1111111111111111, loss_weight=1.0, type="mmdet.SmoothL1Loss"),
        loss_centerness=dict(loss_weight=1.0, type="mmdet.CrossEntropyLoss", use_sigmoid=True),
        loss_cls=dict(alpha=0.25, gamma=2.0, loss_weight=1.0, type="mmdet.FocalLoss", use_sigmoid=True),
        loss_dir=dict(loss_weight=1.0, type="mmdet.CrossEntropyLoss", use_sigmoid=False),
        norm_on_bbox=True,
        num_classes=10,
        pred_attrs=True,
        pred_velo=True,
        reg_branch=(
            (),
            (64,),
            (),
            (64,),
            (),
        ),
        regress_ranges=(
            (
                -1,
                100,
            ),
            (
                100,
                200,
            ),
            (
                200,
                100000000.0,
            ),
        ),
        stacked_convs=2,
        strides=[
            8,
            16,
            32,
        ],
        type="mmdet3d.FCOSMono3DHead",
        use_direction_classifier=True,
    ),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        pad_size_divisor=16,
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type="mmdet3d.Det3DDataPreprocessor",
    ),
    neck=dict(
        add_extra_convs=False,
        in_channels=[
            64,
            128,
            256,
        ],
        num_outs=3,
        out_channels=64,
        relu_before_extra_convs=True,
        type="mmdet.FPN",
    ),
    test_cfg=dict(
        max_per_img=60, min_bbox_size=0, nms_across_levels=False, nms_pre=300, nms_thr=0.05, score_thr=0.03, use_rotate_nms=True
    ),
    train_cfg=dict(
        allowed_border=0,
        code_weight=[
            1.0,
            1.0,
            0.5,
            0.3,
            0.3,
            0.3,
            1.0,
            0.05,
            0.05,
        ],
        debug=False,
        pos_weight=-1,
    ),
    type="SparseFCOS3D",
)
optim_wrapper = dict(
    clip_grad=dict(max_norm=35),
    optimizer=dict(fused=True, lr=0.001, type="AdamW", weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0)), norm_decay_mult=0.0),
    type="AutocastOptimWrapper",
)
param_scheduler = [
    dict(by_epoch=False, end=160, start_factor=0.02, type="LinearLR"),
    dict(begin=0, by_epoch=True, convert_to_iter_based=True, eta_min_ratio=0.3, type="CosineAnnealingLR"),
]
randomness = dict(seed=0)
regress_ranges_at = (
    1600,
    900,
)
stages = dict(
    adapt=dict(
        optim_wrapper=dict(optimizer=dict(lr=0.0006)),
        param_scheduler=[
            dict(begin=0, by_epoch=True, convert_to_iter_based=True, eta_min_ratio=0.8, type="CosineAnnealingLR"),
        ],
        train_cfg=dict(max_epochs=1),
    ),
    finetune=dict(
        optim_wrapper=dict(optimizer=dict(lr=0.0006)),
        param_scheduler=[
            dict(begin=0, by_epoch=True, convert_to_iter_based=True, eta_min_ratio=0.01, type="CosineAnnealingLR"),
        ],
        train_cfg=dict(max_epochs=3),
    ),
)
test_cfg = dict()
test_dataloader = dict(
    batch_size=6,
    dataset=dict(
        ann_file="nuscenes_infos_val.json",
        box_type_3d="Camera",
        data_prefix=dict(
            CAM_BACK="samples/CAM_BACK",
            CAM_BACK_LEFT="samples/CAM_BACK_LEFT",
            CAM_BACK_RIGHT="samples/CAM_BACK_RIGHT",
            CAM_FRONT="samples/CAM_FRONT",
            CAM_FRONT_LEFT="samples/CAM_FRONT_LEFT",
            CAM_FRONT_RIGHT="samples/CAM_FRONT_RIGHT",
            pts="",
        ),
        data_root="data/nuscenes",
        load_eval_anns=False,
        load_type="mv_image_based",
        metainfo=dict(
            classes=(
                "car",
                "truck",
                "trailer",
                "bus",
                "construction_vehicle",
                "bicycle",
                "motorcycle",
                "pedestrian",
                "traffic_cone",
                "barrier",
            )
        ),
        modality=dict(use_camera=True, use_lidar=False),
        pipeline=[
            dict(type="LoadCalibratedImage"),
            dict(type="FitCamera"),
            dict(
                keys=[
                    "img",
                ],
                type="mmdet3d.Pack3DDetInputs",
            ),
        ],
        test_mode=True,
        type="mmdet3d.NuScenesDataset",
        use_valid_flag=True,
    ),
    num_workers=1,
    sampler=dict(shuffle=False, type="DefaultSampler"),
)
test_evaluator = dict(ann_file="nuscenes_infos_val.json", data_root="data/nuscenes", type="NuScenesSplitMetric")
test_pipeline = [
    dict(type="LoadCalibratedImage"),
    dict(type="FitCamera"),
    dict(
        keys=[
            "img",
        ],
        type="mmdet3d.Pack3DDetInputs",
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=8)
train_dataloader = dict(
    batch_size=6,
    dataset=dict(
        ann_file="nuscenes_infos_train.json",
        box_type_3d="Camera",
        data_prefix=dict(
            CAM_BACK="samples/CAM_BACK",
            CAM_BACK_LEFT="samples/CAM_BACK_LEFT",
            CAM_BACK_RIGHT="samples/CAM_BACK_RIGHT",
            CAM_FRONT="samples/CAM_FRONT",
            CAM_FRONT_LEFT="samples/CAM_FRONT_LEFT",
            CAM_FRONT_RIGHT="samples/CAM_FRONT_RIGHT",
            pts="",
        ),
        data_root="data/nuscenes",
        load_type="mv_image_based",
        metainfo=dict(
            classes=(
                "car",
                "truck",
                "trailer",
                "bus",
                "construction_vehicle",
                "bicycle",
                "motorcycle",
                "pedestrian",
                "traffic_cone",
                "barrier",
            )
        ),
        modality=dict(use_camera=True, use_lidar=False),
        pipeline=[
            dict(type="LoadCalibratedImage"),
            dict(
                type="mmdet3d.LoadAnnotations3D",
                with_attr_label=True,
                with_bbox=True,
                with_bbox_3d=True,
                with_bbox_depth=True,
                with_label=True,
                with_label_3d=True,
            ),
            dict(type="FitCamera"),
            dict(
                keys=[
                    "img",
                    "gt_bboxes",
                    "gt_bboxes_labels",
                    "attr_labels",
                    "gt_bboxes_3d",
                    "gt_labels_3d",
                    "centers_2d",
                    "depths",
                ],
                type="mmdet3d.Pack3DDetInputs",
            ),
        ],
        type="mmdet3d.NuScenesDataset",
        use_valid_flag=True,
    ),
    num_workers=0,
    sampler=dict(shuffle=True, type="DefaultSampler"),
    worker_init_fn=dict(type="seed_worker"),
)
train_keys = [
    "img",
    "gt_bboxes",
    "gt_bboxes_labels",
    "attr_labels",
    "gt_bboxes_3d",
    "gt_labels_3d",
    "centers_2d",
    "depths",
]
train_pipeline = [
    dict(type="LoadCalibratedImage"),
    dict(
        type="mmdet3d.LoadAnnotations3D",
        with_attr_label=True,
        with_bbox=True,
        with_bbox_3d=True,
        with_bbox_depth=True,
        with_label=True,
        with_label_3d=True,
    ),
    dict(type="FitCamera"),
    dict(
        keys=[
            "img",
            "gt_bboxes",
            "gt_bboxes_labels",
            "attr_labels",
            "gt_bboxes_3d",
            "gt_labels_3d",
            "centers_2d",
            "depths",
        ],
        type="mmdet3d.Pack3DDetInputs",
    ),
]
visualizer = dict(
    type="Visualizer",
    vis_backends=[
        dict(type="LocalVisBackend"),
        dict(type="TensorboardVisBackend"),
    ],
)
