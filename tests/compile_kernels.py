"""Compile the GPU's kernels for Hopper, without one, in every tile that is tried: gathered rows, then all rows."""

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sparsevit3d import triton_kernels as kernels

SHARED = 227 * 1024  # bytes that a program can have
half = f"*{sys.argv[1]}"
POINTERS = {
    **dict.fromkeys(("x", "out", "part", "qkv", "weight", "bias", "norm_weight", "norm_bias", "bias_table", "qkv_bias"), half),
    **dict.fromkeys(("windows", "tokens", "ends"), "*i64"),
    "rows": "*i32",
    "mask": "*fp32",
    "edge": "*i1",
    "eps": "fp32",
}
CONSTANTS = {"PLACES": 64, "HEAD": 32, "GELU": True, "PRECISION": "tf32"}
PLAIN = dict.fromkeys(("rows", "ends", "windows", "mask"))  # nothing pruned, nothing shifted


def compile_kernel(kernel, constants, options):
    signature = {name: "constexpr" if name in constants else POINTERS.get(name, "i32") for name in kernel.arg_names}
    values = {(place,): constants[name] for place, name in enumerate(kernel.arg_names) if name in constants}
    aligned = {
        (place,): [["tt.divisibility", 16]] for place, name in enumerate(kernel.arg_names) if signature[name].startswith("*")
    }
    compiled = triton.compile(ASTSource(kernel, signature, values, aligned), target=GPUTarget("cuda", 90, 32), options=options)
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared <= SHARED


compile_kernel(kernels._choose_rows, CONSTANTS, {})
for tuned in (kernels._norm_linear, kernels._attend_windows, kernels._add_linear):
    for config in tuned.configs:
        for absent in ({}, PLAIN):
            options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
            compile_kernel(tuned.fn, CONSTANTS | absent | config.kwargs, options)
    print(tuned.fn.__name__, len(tuned.configs))
