"""What every experiment shares: hooks, seeds, logs and what weight decay spares.

Logs are a text file, JSON lines and TensorBoard.
"""

default_scope = "mmdet3d"
default_hooks = dict(
    runtime_info=dict(type="RuntimeInfoHook"),
    timer=dict(type="IterTimerHook"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    logger=dict(type="LoggerHook", interval=20),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="WholeCheckpointHook"),
)
custom_hooks = [dict(type="EpochSeedHook"), dict(type="FiniteLossHook"), dict(type="ProgressHook")]
visualizer = dict(
    type="Visualizer",
    vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")],
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
# An experiment adds its optimizer. Norms and Swin's bias tables need not be small. A learned
# importance is small and learns fast.
optim_wrapper = dict(
    type="OptimWrapper",
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            "relative_position_bias_table": dict(decay_mult=0.0),
            "backbone.density": dict(lr_mult=5.0),
        },
    ),
)
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
log_level = "INFO"
randomness = dict(seed=0)
