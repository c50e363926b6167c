"""Compile the GPU's kernels for Hopper, without one, in bfloat16 as SparseSwin-T needs them: gathered rows, then all rows."""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sparsevit3d import triton_kernels as kernels

HALF, INDEX = "*bf16", "*i32"
POINTERS = {
    **dict.fromkeys(("x", "out", "part", "qkv", "weight", "bias", "norm_weight", "norm_bias", "bias_table", "qkv_bias"), HALF),
    **dict.fromkeys(("rows", "counts", "starts"), INDEX),
    **dict.fromkeys(("windows", "tokens", "sizes"), "*i64"),
    "mask": "*fp32",
    "edge": "*i1",
    "eps": "fp32",
}
CONSTANTS = dict(
    KEPT=128, PLACES=64, HEAD=32, GROUP=2, BIAS=True, GELU=True, SHIFTED=True, PRECISION="tf32", **kernels._TILES[0].kwargs
)

for gather in (True, False):
    absent = {} if gather else dict.fromkeys(("rows", "counts", "starts", "windows"))
    for kernel in (kernels._choose_rows, kernels._norm_linear, kernels._attend_windows, kernels._add_linear):
        function = getattr(kernel, "fn", kernel) if hasattr(kernel, "configs") else kernel
        constants = CONSTANTS | {"GATHER": gather} | (absent if hasattr(kernel, "configs") else {})
        signature = {name: "constexpr" if name in constants else POINTERS.get(name, "i32") for name in function.arg_names}
        values = {(place,): constants[name] for place, name in enumerate(function.arg_names) if name in constants}
        compiled = triton.compile(
            ASTSource(function, signature, values), target=GPUTarget("cuda", 90, 32), options={"num_warps": 4}
        )
        assert compiled.asm["cubin"]
        print(function.__name__)
