"""The small detector on real roads: cars in Astyx HiRes2019, one front camera, at 640 x 192.

sparsevit3d data import astyx SRC data/astyx
sparsevit3d data infos data/astyx
sparsevit3d train THIS --work-dir work_dirs/astyx
sparsevit3d train THIS --work-dir work_dirs/astyx_from_streets --from zoo/first/dense.safetensors
"""

_base_ = "fcos3d_small_512x192.py"

data_root = "data/astyx"
classes = ("car",)
image_size = (640, 192)
model = dict(learns="all")  # "density": the map of objects alone
train_pipeline = [
    {{_base_.load}},
    {{_base_.load_truth}},
    dict(type="FitCamera"),
    dict(type="mmdet3d.RandomFlip3D", flip_ratio_bev_horizontal=0.5),
    dict(type="mmdet.PhotoMetricDistortion"),
    dict(type="mmdet3d.Pack3DDetInputs", keys={{_base_.train_keys}}),
]
train_dataloader = dict(batch_size=6, num_workers=0, dataset=dict(pipeline=train_pipeline))
test_dataloader = dict(num_workers=0)
# The score on val every few epochs, for the log and TensorBoard.
val_dataloader = {{_base_.test_dataloader}}
val_evaluator = {{_base_.test_evaluator}}
val_cfg = dict()
train_cfg = dict(max_epochs=40, val_interval=4)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, by_epoch=False, end=200),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=0,
        convert_to_iter_based=True,
        eta_min_ratio=0.02,
    ),
]
stages = dict(depth=dict())
