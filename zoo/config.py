"""The small detector that computes only what matters, dense and pruned.

    sparsevit3d eval zoo/config.py zoo/pruned.safetensors --data ROOT

`python -m benchmarks.base` trained "adapted". The others went on from there, as the arms "dense"
and "ours" of `python -m benchmarks.accuracy`, seed 0. first/ has the dense detector of the first
study.
"""

_base_ = "../configs/fcos3d_small_512x192_carry.py"
