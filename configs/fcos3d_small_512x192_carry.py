"""The small detector that computes only what matters, from image to boxes.

    sparsevit3d train THIS --work-dir work_dirs/trained
    sparsevit3d adapt THIS --work-dir work_dirs/adapted --from work_dirs/trained/epoch_0008.pth
    sparsevit3d search THIS --work-dir work_dirs/search --from work_dirs/adapted/epoch_0001.pth \\
        --of detector --max-macs 0.5
    sparsevit3d finetune THIS --work-dir work_dirs/sparse --from work_dirs/adapted/epoch_0001.pth \\
        --plan work_dirs/search/plan.json

Data and schedule are those of fcos3d_small_512x192.py. What differs:

- A learned map of objects chooses the windows. The paper's L2 norm is importance="l2".
- Each pixel comes with its direction, because a pruned network does not see the street around an
  object (sparsevit3d/detector/rays.py).
- The windows of a keyframe's six cameras compete. budget="image" keeps as many of each.
- The head has group norm in its towers alone, because its statistics need the whole map. So boxes
  are predicted only where a class is found.
- An error of depth counts as a share of the depth, at 12 metres twice as much as before. Far
  objects, which no score counts, no longer outweigh the others.
- A box needs a score of 0.05, as in FCOS3D as published. With 0.03 the dense detector has the same
  mAP (8.1 points) and 0.4 points more NDS. The pruned one then has 1.7 times as many candidates.
- Neck and head leave out what the backbone leaves out. carry=False computes them everywhere.
"""

_base_ = "fcos3d_small_512x192.py"

model = dict(
    carry=True,
    learns="all",  # "density": the map of objects alone
    data_preprocessor=dict(type="RayPreprocessor"),
    backbone=dict(importance="density", budget="batch", in_channels=5),
    bbox_head=dict(type="TowerNormHead", depth_unit=12.0),
    train_cfg=dict(code_weight=[1.0, 1.0, 1.0, 0.3, 0.3, 0.3, 1.0, 0.05, 0.05]),
    test_cfg=dict(score_thr=0.05),
)
