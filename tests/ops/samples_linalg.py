"""Samples of products, diagonals and padding."""

import numpy as np

from tests.ops.samples import ALL_FLOATS, BOOL, FLOATS, Array, Samples, call

SOME = (*FLOATS, "int64", *BOOL)


def _plus(product):
    def reference(x, a, b, beta=1, alpha=1):
        return beta * x + alpha * product(a, b)

    return reference


def _einsum(equation, *operands):
    if not isinstance(equation, str):
        return np.einsum(equation, *operands)
    return np.einsum(equation, *(operands[0] if isinstance(operands[0], list) else operands))


def _diag_embed(x, offset=0, dim1=-2, dim2=-1):
    n = x.shape[-1] + abs(offset)
    result = np.zeros((*x.shape[:-1], n, n), dtype=x.dtype)
    steps = np.arange(x.shape[-1])
    result[..., steps + max(-offset, 0), steps + max(offset, 0)] = x
    return np.moveaxis(result, (-2, -1), (dim1, dim2))


def _diagonal_scatter(x, src, offset=0, dim1=0, dim2=1):
    result = np.array(np.moveaxis(x, (dim1, dim2), (-2, -1)))
    steps = np.arange(src.shape[-1])
    result[..., steps + max(-offset, 0), steps + max(offset, 0)] = src
    return np.moveaxis(result, (-2, -1), (dim1, dim2))


def _pad(x, pad, mode="constant", value=None):
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    if mode in ("reflect", "replicate") and min(pad) < 0:  # grow first, then take away
        full = _pad(x, [max(p, 0) for p in pad], mode)
        return _pad(full, [min(p, 0) for p in pad])
    kept = x[tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, pairs, strict=True))]
    more = [(max(a, 0), max(b, 0)) for a, b in pairs]
    if mode == "constant":
        return np.pad(kept, more, constant_values=value or 0)
    return np.pad(kept, more, mode={"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode])


VECTOR = Array(3)
MATRIX = Array(2, 3)

SAMPLES = {
    "matmul": Samples(
        np.matmul,
        [
            call(MATRIX, Array(3, 2)),
            call(VECTOR, VECTOR),
            call(MATRIX, VECTOR),
            call(VECTOR, Array(3, 2)),
            call(Array(2, 2, 3), Array(3, 2)),
            call(Array(2, 2, 3), VECTOR),
            call(Array(2, 2, 3), Array(2, 3, 2)),
            call(Array(2, 3), Array(2, 3, 2)),
            call(VECTOR, Array(2, 3, 2)),
            call(Array(2, 1, 2, 3), Array(2, 3, 1)),
            call(Array(0, 3), Array(3, 2)),
            call(Array(2, 0), Array(0, 2)),
            call(Array(2, 2, 0), Array(0, 2)),
        ],
        dtypes=(*ALL_FLOATS, "int64"),
        tolerance={"float16": 2e-2, "bfloat16": 1e-1},
    ),
    "mm": Samples(np.matmul, [call(MATRIX, Array(3, 2))]),
    "bmm": Samples(np.matmul, [call(Array(2, 2, 3), Array(2, 3, 1)), call(Array(0, 2, 3), Array(0, 3, 1))]),
    "mv": Samples(np.matmul, [call(MATRIX, VECTOR)]),
    "dot": Samples(np.dot, [call(VECTOR, VECTOR), call(Array(0), Array(0))], dtypes=(*FLOATS, "int64")),
    "vdot": Samples(np.vdot, [call(VECTOR, VECTOR)], dtypes=(*FLOATS, "complex128")),
    "inner": Samples(
        np.inner, [call(MATRIX, Array(4, 3)), call(VECTOR, VECTOR), call(MATRIX, Array()), call(Array(2, 2, 3), VECTOR)]
    ),
    "outer": Samples(np.outer, [call(VECTOR, Array(2)), call(Array(0), Array(2))]),
    "addmm": Samples(
        _plus(np.matmul),
        [
            call(Array(2, 2), MATRIX, Array(3, 2)),
            call(Array(2), MATRIX, Array(3, 2), beta=0.5, alpha=2),
            call(Array(2, 2), MATRIX, Array(3, 2), beta=0),
        ],
    ),
    "addmv": Samples(
        _plus(np.matmul), [call(Array(2), MATRIX, VECTOR), call(Array(), MATRIX, VECTOR, beta=2, alpha=0.5)]
    ),
    "addr": Samples(
        _plus(np.outer), [call(Array(3, 2), VECTOR, Array(2)), call(Array(2), VECTOR, Array(2), beta=2, alpha=0.5)]
    ),
    "baddbmm": Samples(_plus(np.matmul), [call(Array(2, 2, 1), Array(2, 2, 3), Array(2, 3, 1), beta=2, alpha=0.5)]),
    "addbmm": Samples(
        _plus(lambda a, b: (a @ b).sum(0)), [call(Array(2, 1), Array(2, 2, 3), Array(2, 3, 1), beta=2, alpha=0.5)]
    ),
    "chain_matmul": Samples(lambda a, b, c: a @ b @ c, [call(MATRIX, Array(3, 2), Array(2, 4))]),
    "tensordot": Samples(
        np.tensordot,
        [
            call(Array(2, 3, 2), Array(3, 2, 2)),
            call(MATRIX, Array(3, 2), 1),
            call(Array(2, 3, 2), Array(2, 3), ([1, 0], [1, 0])),
            call(MATRIX, MATRIX, 0),
            call(MATRIX, MATRIX, ([-1], [-1])),
        ],
    ),
    "kron": Samples(np.kron, [call(MATRIX, Array(2, 2)), call(VECTOR, Array(2, 2)), call(MATRIX, Array(2))]),
    "linalg.vecdot": Samples(
        lambda x, y, dim=-1: (x * y).sum(dim), [call(MATRIX, MATRIX), call(MATRIX, VECTOR), call(MATRIX, MATRIX, dim=0)]
    ),
    "einsum": Samples(
        _einsum,
        [
            call("ij,jk->ik", MATRIX, Array(3, 2)),
            call("ij,jk", MATRIX, Array(3, 2)),
            call("bij,bjk->bki", Array(2, 2, 3), Array(2, 3, 2)),
            call("ij->ji", MATRIX),
            call("ij->", MATRIX),
            call("ij->j", MATRIX),
            call("ii->i", Array(3, 3)),
            call("ii", Array(3, 3)),
            call("i,j->ij", VECTOR, Array(2)),
            call("i,i->", VECTOR, VECTOR),
            call("ij,ij->ij", MATRIX, MATRIX),
            call("...ij,...jk->...ik", Array(2, 1, 2, 3), Array(2, 3, 2)),
            call("ab,bc,cd->ad", MATRIX, Array(3, 2), Array(2, 3)),
            call("ij,k->i", MATRIX, Array(2)),
            call("i...,i...->...", MATRIX, MATRIX),
            call("iij,jk->ik", Array(2, 2, 3), Array(3, 2)),
            call("bqhd,bkhd->bhqk", Array(1, 2, 2, 3), Array(1, 3, 2, 3)),
            call("ij,jk->ik", [MATRIX, Array(3, 2)]),
            call("ij, j -> i", MATRIX, VECTOR),
            call(MATRIX, [0, 1], Array(3, 2), [1, 2], [0, 2]),
            call(",i->i", Array(), VECTOR),
        ],
    ),
    "diagonal": Samples(
        lambda x, offset=0, dim1=0, dim2=1: np.diagonal(x, offset, dim1, dim2),
        [
            call(Array(3, 3)),
            call(MATRIX, 1),
            call(MATRIX, -1),
            call(Array(2, 3, 4), 0, 1, 2),
            call(Array(2, 3, 4), 1, -1, 0),
            call(MATRIX, 5),
            call(Array(0, 2)),
        ],
    ),
    "diag_embed": Samples(_diag_embed, [call(VECTOR), call(MATRIX, 1), call(MATRIX, -1, 0, 2), call(Array(0))]),
    "diag": Samples(np.diag, [call(VECTOR), call(VECTOR, 1), call(Array(3, 3)), call(MATRIX, 1)]),
    "diagflat": Samples(np.diagflat, [call(MATRIX), call(VECTOR, -1)]),
    "diagonal_scatter": Samples(
        _diagonal_scatter,
        [call(Array(3, 3), VECTOR), call(MATRIX, Array(2), 1), call(Array(2, 3, 4), Array(3, 2), 0, 0, 2)],
    ),
    "trace": Samples(np.trace, [call(Array(3, 3)), call(MATRIX)], dtypes=(*FLOATS, "int64")),
    "tril": Samples(
        lambda x, diagonal=0: np.tril(x, diagonal),
        [call(Array(3, 3)), call(MATRIX, 1), call(Array(2, 3, 3), -1)],
        dtypes=SOME,
    ),
    "triu": Samples(
        lambda x, diagonal=0: np.triu(x, diagonal),
        [call(Array(3, 3)), call(MATRIX, 1), call(Array(2, 3, 3), -1)],
        dtypes=SOME,
    ),
    "pad": Samples(
        _pad,
        [
            call(MATRIX, (1, 2)),
            call(MATRIX, (1, 0, 0, 2), value=1.5),
            call(Array(2, 4), (-1, 1)),
            call(Array(3), [1, -2], "constant", 3.0),
            call(Array(0, 2), (1, 1)),
            call(Array(1, 2, 4), (2, 3), "reflect"),
            call(Array(1, 2, 3, 4), (1, 2, 2, 0), "reflect"),
            call(Array(1, 2, 4), (5, 1), "replicate"),
            call(Array(1, 1, 2, 3), (1, 2, 3, 1), "replicate"),
            call(Array(1, 1, 2, 3), (-1, 2, 1, 0), "replicate"),
            call(Array(1, 2, 4), (4, 2), "circular"),
            call(Array(1, 1, 3, 4), (1, 2, 2, 3), "circular"),
        ],
    ),
}
