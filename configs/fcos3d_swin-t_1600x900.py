"""FCOS3D on SparseSwin-T, nuScenes at full size, as FCOS3D is published.

Not yet run on nuScenes: no result to expect.

The commands are those of fcos3d_swin-t_704x256.py, for eight GPUs. With ResNet-101 FCOS3D reports
mAP 29.8 and NDS 37.7; after the stage `depth` 32.1 and 39.5, with --flip 33.1 and 40.3. Estimated
from MACs, not run: 330 GMACs an image, 10 GB of GPU memory for two in training, on eight A100 about
4 hours for 12 epochs.
"""

_base_ = "fcos3d_swin-t_704x256.py"

image_size = (1600, 900)
