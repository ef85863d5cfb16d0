"""CUDA C++ of the kernels that CuPy's own functions would need many passes for.

The text is compiled by NVRTC when a kernel is first used. Each source stands for one dtype: `T` is the type in memory,
`M` that of the arithmetic. Kernels run over any number of elements in a grid-stride loop.
"""

_TYPES = {
    "float32": "typedef float T; typedef float M;\n#define LOAD(x) (x)\n#define STORE(x) (x)\n",
    "float64": "typedef double T; typedef double M;\n#define LOAD(x) (x)\n#define STORE(x) (x)\n",
    "float16": (
        "#include <cuda_fp16.h>\ntypedef __half T; typedef float M;\n"
        "#define LOAD(x) __half2float(x)\n#define STORE(x) __float2half(x)\n"
    ),
    "bfloat16": (
        "#include <cuda_bf16.h>\ntypedef __nv_bfloat16 T; typedef float M;\n"
        "#define LOAD(x) __bfloat162float(x)\n#define STORE(x) __float2bfloat16(x)\n"
    ),
}

_OPTIM = r"""
#define EACH(i, n) \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x, s = (long long)gridDim.x * blockDim.x; \
         i < (n); i += s)

extern "C" __global__ void sgd(
    T* param, const T* grad, T* buffer, long long n,
    M lr, M momentum, M undamped, M weight_decay, int nesterov, int maximize, int first)
{
    EACH(i, n) {
        M p = LOAD(param[i]);
        M g = LOAD(grad[i]);
        if (maximize) g = -g;
        if (weight_decay != 0) g += weight_decay * p;
        if (buffer) {
            M b = first ? g : momentum * LOAD(buffer[i]) + undamped * g;
            buffer[i] = STORE(b);
            g = nesterov ? g + momentum * b : b;
        }
        param[i] = STORE(p - lr * g);
    }
}

// scale, eps: with both bias corrections in them. shrink: what decoupled decay multiplies the parameters with.
extern "C" __global__ void adam(
    T* param, const T* grad, T* exp_avg, T* exp_avg_sq, T* largest, long long n,
    M scale, M beta1, M rest1, M beta2, M rest2, M eps, M weight_decay, M shrink, int maximize)
{
    EACH(i, n) {
        M p = LOAD(param[i]);
        M g = LOAD(grad[i]);
        if (maximize) g = -g;
        if (weight_decay != 0) g += weight_decay * p;
        p *= shrink;
        M m = beta1 * LOAD(exp_avg[i]) + rest1 * g;
        M v = beta2 * LOAD(exp_avg_sq[i]) + rest2 * g * g;
        exp_avg[i] = STORE(m);
        exp_avg_sq[i] = STORE(v);
        if (largest) {
            M before = LOAD(largest[i]);
            v = before > v ? before : v;
            largest[i] = STORE(v);
        }
        param[i] = STORE(p - scale * m / (sqrt(v) + eps));
    }
}
"""

OPTIM = {dtype: types + _OPTIM for dtype, types in _TYPES.items()}
"""The optimizers' updates, by the name of the dtype."""

SOURCES = {f"optim-{dtype}": text for dtype, text in OPTIM.items()}
"""Every source there is, for the test that compiles them all."""
