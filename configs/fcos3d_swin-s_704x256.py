"""FCOS3D on SparseSwin-S, nuScenes at 704 x 256. Not yet run on nuScenes: no result to expect.

The commands are those of fcos3d_swin-t_704x256.py. These figures are estimated from MACs, not run.
An image takes 55 GMACs. Training takes 5 GB of GPU memory for two images, and 1.4 times the hours
of Swin-T.
"""

_base_ = "fcos3d_swin-t_704x256.py"

model = dict(
    backbone=dict(
        depths=(2, 2, 18, 2),
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint="weights/swin_small_patch4_window7_224.pth"),
    )
)
