"""FCOS3D on Swin-T at 704 x 256 with a head that is computed only where boxes may be found.

    sparsevit3d train THIS --work-dir work_dirs/trained

Layer norm over the channels of one place takes the place of group norm, and ordinary convolutions
that of deformable ones: those see any distance. Not trained: no nuScenes is here.
"""

_base_ = "fcos3d_swin-t_704x256.py"

model = dict(
    carry=False,  # True: neck and head leave out what the backbone leaves out
    bbox_head=dict(norm_cfg=dict(type="LN2d"), dcn_on_last_conv=False),
)
