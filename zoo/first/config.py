"""The dense detector of the first study, by its first recipe.

    sparsevit3d eval zoo/first/config.py zoo/first/dense.safetensors --data ROOT

That recipe trained at twice today's rate.
"""

_base_ = "../../configs/fcos3d_small_512x192.py"

optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=35))
stages = dict(
    adapt=dict(optim_wrapper=dict(optimizer=dict(lr=6e-4))),
    finetune=dict(optim_wrapper=dict(optimizer=dict(lr=6e-4))),
)
