"""FCOS3D as published, with Swin-T in place of ResNet-101: five levels, strides 8 to 128."""

# width, height of the images whose pixels the head's regress_ranges count
regress_ranges_at = (1600, 900)
model = dict(
    type="SparseFCOS3D",
    data_preprocessor=dict(
        type="mmdet3d.Det3DDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type="SparseSwin",
        embed_dims=96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        window_size=7,
        out_indices=(1, 2, 3),
        drop_path_rate=0.2,
        importance="l2",  # the paper's. "density" is a learned map of objects
        budget="image",  # "batch": the windows of all cameras compete
    ),
    neck=dict(
        type="mmdet.FPN",
        in_channels=[192, 384, 768],
        out_channels=256,
        add_extra_convs="on_output",
        num_outs=5,
        relu_before_extra_convs=True,
    ),
    bbox_head=dict(
        type="mmdet3d.FCOSMono3DHead",
        num_classes=10,
        in_channels=256,
        stacked_convs=2,
        feat_channels=256,
        use_direction_classifier=True,
        diff_rad_by_sin=True,
        pred_attrs=True,
        pred_velo=True,
        # pi / 4: a heading near 0 or pi / 2 would flip class at the slightest error
        dir_offset=0.7854,
        dir_limit_offset=0,
        strides=[8, 16, 32, 64, 128],
        regress_ranges=((-1, 48), (48, 96), (96, 192), (192, 384), (384, 1e8)),
        group_reg_dims=(2, 1, 3, 1, 2),  # offset, depth, size, yaw, velocity
        cls_branch=(256,),
        reg_branch=((256,), (256,), (256,), (256,), ()),
        dir_branch=(256,),
        attr_branch=(256,),
        loss_cls=dict(
            type="mmdet.FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0
        ),
        # a velocity that the data do not say is no target
        loss_bbox=dict(type="KnownSmoothL1Loss", beta=1.0 / 9.0, loss_weight=1.0),
        loss_dir=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
        loss_attr=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
        loss_centerness=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
        bbox_coder=dict(type="mmdet3d.FCOS3DBBoxCoder", code_size=9),
        norm_on_bbox=True,
        centerness_on_reg=True,
        center_sampling=True,
        conv_bias=True,
        dcn_on_last_conv=True,
    ),
    train_cfg=dict(
        allowed_border=0,
        code_weight=[1.0, 1.0, 0.2, 1.0, 1.0, 1.0, 1.0, 0.05, 0.05],
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        use_rotate_nms=True,
        nms_across_levels=False,
        nms_pre=1000,
        nms_thr=0.8,
        score_thr=0.05,
        min_bbox_size=0,
        max_per_img=200,
    ),
)
