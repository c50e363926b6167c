"""nuScenes for a monocular detector: loaders of the three splits and the official metric.

Images come one at a time. Run `sparsevit3d data infos ROOT` first. `--data ROOT` and `--infos DIR`
on the command line say where the dataset and its info files are. A config that inherits this one
sets `image_size`, (width, height) of the network's images. Each loader and FitCamera below gets
this size. It may also set `classes`, some of nuScenes' ten.
"""

_base_ = []  # mmengine reads imports as such only after this line

import data_tools.schema as schema  # noqa: E402

data_root = "data/nuscenes"
classes = schema.CLASSES

load = dict(type="LoadCalibratedImage")
load_truth = dict(
    type="mmdet3d.LoadAnnotations3D",
    with_bbox=True,
    with_label=True,
    with_attr_label=True,
    with_bbox_3d=True,
    with_label_3d=True,
    with_bbox_depth=True,
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
    load,
    load_truth,
    dict(type="FitCamera"),
    dict(type="mmdet3d.RandomFlip3D", flip_ratio_bev_horizontal=0.5),
    dict(type="mmdet3d.Pack3DDetInputs", keys=train_keys),
]
test_pipeline = [load, dict(type="FitCamera"), dict(type="mmdet3d.Pack3DDetInputs", keys=["img"])]

train_dataloader = dict(
    batch_size=2,  # for each process
    num_workers=4,
    worker_init_fn=dict(type="seed_worker"),
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="CameraKeyframes",
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file="nuscenes_infos_train.json",
        pipeline=train_pipeline,
    ),
)
# The search reads its own split and never this one. `eval` and `search` put the info file of their
# split here.
test_dataloader = dict(
    batch_size=6,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        train_dataloader["dataset"],
        ann_file="nuscenes_infos_val.json",
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_evaluator = dict(
    type="NuScenesSplitMetric", data_root=data_root, ann_file="nuscenes_infos_val.json"
)
test_cfg = dict()
