"""The small detector that computes only what matters, dense and pruned, of the same length.

    sparsevit3d eval zoo/ln/config.py zoo/ln/pruned.safetensors --data ROOT

Both began with zoo/dense.safetensors, whose head got layer norms in place of group norms. First
neck, head and the map of objects learnt for two passes, while the backbone stayed as it was. Then
all learnt for two passes at a rate of 3e-4, the one dense and the other under its plan. They serve
to measure speed. Their training is too short to say what pruning costs in the end.
"""

_base_ = "../../configs/fcos3d_small_512x192_carry.py"

model = dict(bbox_head=dict(type="mmdet3d.FCOSMono3DHead", norm_cfg=dict(type="LN2d")))
