"""The small detector that computes only what matters, dense and pruned.

    sparsevit3d eval zoo/carry/config.py zoo/carry/pruned.safetensors --data ROOT

`python -m benchmarks.base` trained the dense one. The pruned one went on from there, as the arm
"ours" of `python -m benchmarks.accuracy`, seed 0.
"""

_base_ = "../../configs/fcos3d_small_512x192_carry.py"
