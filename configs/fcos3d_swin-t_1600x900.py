"""FCOS3D on SparseSwin-T, nuScenes at full size, as FCOS3D is published.

Not yet run on nuScenes: no result to expect.

The commands are those of fcos3d_swin-t_704x256.py, for eight GPUs. With ResNet-101 FCOS3D reports
mAP 29.8 and NDS 37.7. After the stage `depth` it reports 32.1 and 39.5, with --flip 33.1 and 40.3.

These figures are estimated from MACs, not run. An image takes 330 GMACs. Training takes 10 GB of
GPU memory for two images. Eight A100 need about 4 hours for 12 epochs.
"""

_base_ = "fcos3d_swin-t_704x256.py"

image_size = (1600, 900)
