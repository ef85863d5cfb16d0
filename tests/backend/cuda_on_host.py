"""Runs CUDA kernels on the CPU: the source is compiled as C++, and a launch is two loops.

That holds for kernels whose threads do not meet (no shared memory, no barriers). It needs a C++ compiler.
"""

import ctypes
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_SHIM = """
#include <cmath>
#include <cstdint>
#include <cstring>
#define __global__
using std::sqrt;
struct Index { long long x; };
static thread_local Index blockIdx, threadIdx, blockDim, gridDim;
"""

_HALF = """
struct __half { uint16_t bits; };
static inline float __half2float(__half x) {
    int exponent = (x.bits >> 10) & 31, fraction = x.bits & 1023;
    float y = exponent == 31 ? (fraction ? NAN : INFINITY)
            : exponent ? std::ldexp(1024.0f + fraction, exponent - 25) : std::ldexp((float)fraction, -24);
    return x.bits >> 15 ? -y : y;
}
static inline __half __float2half(float x) {  // to nearest, ties to even
    uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    float y = std::fabs(x);
    if (y != y) return { 0x7e00 };
    if (y >= 65520.0f) return { (uint16_t)(sign | 0x7c00) };
    if (y < 6.103515625e-05f) return { (uint16_t)(sign | (int)std::nearbyint(std::ldexp(y, 24))) };
    int exponent;
    std::frexp(y, &exponent);  // y = [1/2, 1) * 2^exponent
    int mantissa = (int)std::nearbyint(std::ldexp(y, 11 - exponent));  // 1024 .. 2048
    return { (uint16_t)(sign | (((exponent + 14) << 10) + mantissa - 1024)) };
}
"""

_BFLOAT16 = """
struct __nv_bfloat16 { uint16_t bits; };
static inline float __bfloat162float(__nv_bfloat16 x) {
    uint32_t bits = (uint32_t)x.bits << 16; float y; std::memcpy(&y, &bits, 4); return y;
}
static inline __nv_bfloat16 __float2bfloat16(float x) {  // to nearest, ties to even
    uint32_t bits; std::memcpy(&bits, &x, 4);
    return { (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) };
}
"""

_KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
_C_TYPES = {"float32": ctypes.c_float, "float64": ctypes.c_double, "int32": ctypes.c_int32, "int64": ctypes.c_int64}


def compiler() -> str | None:
    """A C++ compiler, if there is one."""
    return shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@cache
def build(source: str) -> ctypes.CDLL:
    """The library of a source's kernels, each behind a function ``launch_<name>(grid, block, *arguments)``."""
    text = source.replace("#include <cuda_fp16.h>", _HALF).replace("#include <cuda_bf16.h>", _BFLOAT16)
    launchers = "".join(_launcher(name, parameters) for name, parameters in _KERNEL.findall(source))
    with tempfile.TemporaryDirectory() as folder:
        file, library = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
        file.write_text(_SHIM + text + launchers)
        found = compiler()
        assert found is not None
        command = [found, "-std=c++17", "-O1", "-shared", "-fPIC", "-o", str(library), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return ctypes.CDLL(str(library))


def _launcher(name: str, parameters: str) -> str:
    names = ", ".join(p.split()[-1].lstrip("*") for p in parameters.split(","))
    return (
        f'\nextern "C" void launch_{name}(long long grid, long long block, {parameters}) {{\n'
        "    gridDim.x = grid; blockDim.x = block;\n"
        "    for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++)\n"
        "        for (threadIdx.x = 0; threadIdx.x < block; threadIdx.x++)\n"
        f"            {name}({names});\n}}\n"
    )


def launch(source: str, name: str, grid: int, block: int, arguments: tuple[Any, ...]) -> None:
    """Runs one kernel; NumPy arrays go by address, NumPy scalars by value, None as a null pointer."""
    function = getattr(build(source), f"launch_{name}")
    function(ctypes.c_int64(grid), ctypes.c_int64(block), *[_argument(a) for a in arguments])


def _argument(value: Any) -> Any:
    if value is None:
        return ctypes.c_void_p(None)
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return _C_TYPES[value.dtype.name](value.item())
