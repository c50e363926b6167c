"""FCOS3D on SparseSwin-S, nuScenes at full size. Not yet run on nuScenes: no result to expect.

The commands are those of fcos3d_swin-t_704x256.py, for eight GPUs. These figures are estimated from
MACs, not run. An image takes 450 GMACs. Training takes 16 GB of GPU memory for two images. Eight
A100 need about 6 hours for 12 epochs.
"""

_base_ = "fcos3d_swin-s_704x256.py"

image_size = (1600, 900)
