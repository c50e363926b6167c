"""The small detector with a head whose outputs depend on their neighbourhood alone.

    sparsevit3d train THIS --work-dir work_dirs/trained

Data and stages are those of fcos3d_small_512x192.py. Layer norm over the channels of one place
takes the place of group norm, whose statistics need the whole map. So boxes are computed only where
a class is found.
"""

_base_ = "fcos3d_small_512x192.py"

model = dict(
    carry=False,  # True: neck and head leave out what the backbone leaves out
    bbox_head=dict(norm_cfg=dict(type="LN2d")),
)
