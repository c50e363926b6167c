"""The small detector that computes only what matters, dense and pruned, of the same length.

    sparsevit3d eval zoo/carry/config.py zoo/carry/pruned.safetensors --data ROOT

`python -m benchmarks.base` trained both. They share all passes but the last two, which the one
learnt dense and the other under its plan.
"""

_base_ = "../../configs/fcos3d_small_512x192_carry.py"
