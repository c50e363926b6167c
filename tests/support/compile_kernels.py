"""Compile the GPU's kernels for Hopper, without one: gathered rows, then all rows.

Arguments: "bf16" or "fp16", and how many of the tiles that a kernel tries.
"""

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sparsevit3d.swin.kernels import triton_attention as attention
from sparsevit3d.swin.kernels import triton_layers as layers
from sparsevit3d.swin.kernels import triton_windows as windows

SHARED = 227 * 1024  # bytes that a program can have
half = f"*{sys.argv[1]}"
most = int(sys.argv[2])
POINTERS = {
    **dict.fromkeys(
        (
            "out",
            "part",
            "positions",
            "qkv",
            "weight",
            "bias",
            "norm_weight",
            "norm_bias",
            "bias_table",
            "qkv_bias",
        ),
        half,
    ),
    **dict.fromkeys(("ranked", "tokens", "sizes", "order"), "*i64"),
    **dict.fromkeys(("rows", "ends", "windows", "chosen"), "*i32"),
    **dict.fromkeys(("x", "images"), half),
    "scores": "*fp32",
    "mask": "*fp32",
    "edge": "*i1",
    "eps": "fp32",
}
CONSTANTS = {
    "PLACES": 64,
    "HEAD": 32,
    "ADD": True,
    "PRECISION": "tf32",
    "BLOCK": 32,
    "MANY": 128,
    "BLOCK_M": 64,
    "BLOCK_K": 64,
    "CHANNELS": 128,
    "PATCH": 4,
    "DEPTH": 48,
    "POOLING": "l2",
}
PLAIN = dict.fromkeys(("rows", "ends", "windows", "mask"))  # nothing pruned, nothing shifted


def compile_kernel(kernel, constants, options):
    signature = {
        name: "constexpr" if name in constants else POINTERS.get(name, "i32")
        for name in kernel.arg_names
    }
    values = {
        (place,): constants[name]
        for place, name in enumerate(kernel.arg_names)
        if name in constants
    }
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(kernel.arg_names)
        if signature[name].startswith("*")
    }
    compiled = triton.compile(
        ASTSource(kernel, signature, values, aligned),
        target=GPUTarget("cuda", 90, 32),
        options=options,
    )
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared <= SHARED


LAYERS = (layers._normalise, layers._merge_patches, layers._embed_patches, attention._position_bias)
for kernel in (windows._score_windows, windows._rank_windows, windows._choose_rows, *LAYERS):
    for constants in (
        ({}, {"POOLING": "mean"}, {"POOLING": "max"}) if kernel is windows._score_windows else ({},)
    ):
        compile_kernel(kernel, CONSTANTS | constants, {})
for tuned in (attention._attend_windows, layers._linear):
    for config in tuned.configs[:most]:
        for absent in (
            ({}, PLAIN, PLAIN | {"ADD": False}) if tuned is layers._linear else ({}, PLAIN)
        ):
            options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
            compile_kernel(tuned.fn, CONSTANTS | absent | config.kwargs, options)
    print(tuned.fn.__name__, len(tuned.configs[:most]))
