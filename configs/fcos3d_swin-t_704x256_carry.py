"""FCOS3D on Swin-T at 704 x 256 that computes only what matters, from image to boxes.

    sparsevit3d train THIS --work-dir work_dirs/trained

A learned map of objects chooses the windows, of all cameras at once. Neck and head leave out what
the backbone leaves out. The head has group norm in its towers alone, because its statistics need
the whole map. Ordinary convolutions take the place of deformable ones, which see any distance. Not
trained: no nuScenes is here.
"""

_base_ = "fcos3d_swin-t_704x256.py"

model = dict(
    carry=True,
    learns="all",  # "density": the map of objects alone
    backbone=dict(importance="density", budget="batch"),
    bbox_head=dict(type="TowerNormHead", dcn_on_last_conv=False),
)
