"""Einstein summation, by one batched matrix product for each pair of operands."""

import functools
import math
import string
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase
from ..autograd._node import Node
from ..autograd._op import Op, apply2
from ..errors import ShapeError
from ._common import need_same_dtype, tensor_of
from ._diagonal import diagonal
from ._reduce import sum as sum_of
from ._shape import movedim, permute, squeeze
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor

Labels = tuple[
    int, ...
]  # one number for each dimension: letters by their place in the alphabet, "..." by negative ones


class EinsumPair(Op):
    """``params = (labels of the first, of the second, of the result)``: each label at most once in each of the three,
    and a
    label of one operand alone is in the result, too."""

    name = "Einsum"
    saves = ((1,), (0,))

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array, left: Labels, right: Labels, out: Labels) -> Array:
        batch = [n for n in left if n in right and n in out]
        inner = [n for n in left if n in right and n not in out]
        rows, columns = [n for n in left if n not in right], [n for n in right if n not in left]
        sizes = dict(zip(left, x.shape, strict=True)) | dict(zip(right, y.shape, strict=True))

        def matrices(a: Array, labels: Labels, order: list[int], *groups: list[int]) -> Array:
            return a.transpose([labels.index(n) for n in order]).reshape(
                [sizes[n] for n in batch] + [_size(sizes, g) for g in groups]
            )

        a = matrices(x, left, batch + rows + inner, rows, inner)
        b = matrices(y, right, batch + inner + columns, inner, columns)
        product = ctx.backend.namespace.matmul(a, b) if inner else a * b
        found = batch + rows + columns
        return product.reshape([sizes[n] for n in found]).transpose([found.index(n) for n in out])

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        left, right, out = ctx.params
        gx = xp.call(EinsumPair, (g, y), (out, right, left)) if ctx.needs[0] else None
        gy = xp.call(EinsumPair, (g, x), (out, left, right)) if ctx.needs[1] else None
        return gx, gy


def _size(sizes: dict[int, int], labels: list[int]) -> int:
    return math.prod([sizes[n] for n in labels])


def _wrong(equation: str, what: str) -> ShapeError:
    return ShapeError(f"einsum: {what} in {equation!r}")


@functools.lru_cache(maxsize=512)
def _parse(equation: str, ndims: tuple[int, ...]) -> tuple[tuple[Labels, ...], Labels]:
    """The labels of each operand and of the result.

    Raises:
        ShapeError: the equation does not fit the operands.
    """
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ndims):
        raise _wrong(equation, f"expected as many operands as terms, got {len(ndims)} and {len(terms)}")
    named = [_term_labels(equation, term, ndim) for term, ndim in zip(terms, ndims, strict=True)]
    dots = max((sum(n < 0 for n in labels) for labels in named), default=0)
    if arrow:
        result = _term_labels(equation, output, len(output.replace("...", "")) + (dots if "..." in output else 0))
        if len(set(result)) != len(result):
            raise _wrong(equation, "a label appears twice in the result")
        if not set(result) <= {n for labels in named for n in labels}:
            raise _wrong(equation, "a label of the result appears in no operand")
        return tuple(named), result
    flat = [n for labels in named for n in labels]
    return tuple(named), (*range(-dots, 0), *sorted({n for n in flat if n >= 0 and flat.count(n) == 1}))


def _term_labels(equation: str, term: str, ndim: int) -> Labels:
    """``"...ij"`` for 4 dimensions is ``(-2, -1, i, j)``."""
    before, dots, after = term.partition("...")
    letters = before + after
    if not all(c.isalpha() and c.isascii() for c in letters):
        raise _wrong(equation, f"expected letters, '...' and commas, got {term!r}")
    hidden = ndim - len(letters)
    if hidden < 0 or (hidden and not dots):
        raise _wrong(equation, f"{len(letters)} labels for an operand of {ndim} dimensions")
    return (*map(ord, before), *range(-hidden, 0), *map(ord, after))


def _without_repeats(t: Any, labels: Labels) -> tuple[Any, Labels]:
    """A label that appears twice takes the diagonal."""
    for n in dict.fromkeys(labels):
        while labels.count(n) > 1:
            first = labels.index(n)
            second = labels.index(n, first + 1)
            t = movedim(diagonal(t, 0, first, second), -1, first)
            labels = labels[:second] + labels[second + 1 :]
    return t, labels


def _reduced(t: Any, labels: Labels, wanted: set[int], sizes: dict[int, int]) -> tuple[Any, Labels]:
    """Sums over the labels that appear nowhere else, and drops dimensions of size 1 that others broadcast."""
    shape = t._data.shape
    alone = [i for i, n in enumerate(labels) if n not in wanted]
    ones = [i for i, n in enumerate(labels) if n in wanted and shape[i] == 1 and sizes[n] != 1]
    if alone:
        t = sum_of(t, alone, True)
    if alone or ones:
        t = squeeze(t, alone + ones)
        labels = tuple([n for i, n in enumerate(labels) if i not in alone and i not in ones])
    return t, labels


def _label_sizes(equation: str, operands: list[Any], labels: tuple[Labels, ...]) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for number, (t, names) in enumerate(zip(operands, labels, strict=True)):
        for n, size in zip(names, t._data.shape, strict=True):
            if sizes.setdefault(n, size) == 1:
                sizes[n] = size
            elif size not in (1, sizes[n]):
                label = chr(n) if n >= 0 else "..."
                raise _wrong(
                    equation,
                    f"label {label} has size {size} for operand {number}, which does not fit the size "
                    f"{sizes[n]} seen before,",
                )
    return sizes


def _from_sublists(arguments: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """The equation and the operands of ``einsum(x, [0, 1], y, [1, 2], [0, 2])``."""

    def term(numbers: Any) -> str:
        return "".join(["..." if n is Ellipsis else string.ascii_letters[n] for n in numbers])

    pairs = len(arguments) // 2
    inputs = ",".join([term(arguments[2 * i + 1]) for i in range(pairs)])
    output = f"->{term(arguments[-1])}" if len(arguments) % 2 else ""
    return inputs + output, arguments[: 2 * pairs : 2]


@op(method=False)
def einsum(equation: Any, *operands: Any) -> "Tensor":
    """Sums of products, named by letters: ``einsum("bij,bjk->bik", x, y)``.

    Args:
        equation: labels of each operand's dimensions, commas between them; after ``->`` those of the result. Labels
        that are
            not in the result are summed over; one that appears twice in an operand takes its diagonal; ``...`` stands
            for
            dimensions that are broadcast. Without ``->`` the result has the labels that appear once, in alphabetical
            order.
        operands: tensors of one dtype, or a list of them. They are multiplied from left to right. torch's other form,
        in
            which a list of numbers from 0 to 51 follows each operand, is accepted, too.

    Raises:
        ShapeError: the equation does not fit the operands.
    """
    if isinstance(equation, TensorBase):
        equation, operands = _from_sublists((equation, *operands))
    if not isinstance(equation, str):
        raise TypeError(f"einsum: expected an equation such as 'ij,jk->ik', got {type(equation).__name__}")
    given = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    tensors: list[Any] = [tensor_of(t, "einsum") for t in given]
    for t in tensors[1:]:
        need_same_dtype("einsum", first=tensors[0], other=t)
    labels, out = _parse(equation, tuple([t._data.ndim for t in tensors]))
    sizes = _label_sizes(equation, tensors, labels)
    parts = [_without_repeats(t, names) for t, names in zip(tensors, labels, strict=True)]
    result, names = parts.pop(0)
    while parts:
        later = set(out).union(*[p[1] for p in parts[1:]])
        left, left_names = _reduced(result, names, later | set(parts[0][1]), sizes)
        right, right_names = _reduced(*parts.pop(0), later | set(left_names), sizes)
        left, left_names = _reduced(left, left_names, later | set(right_names), sizes)
        names = tuple([n for n in dict.fromkeys(left_names + right_names) if n in later])
        if not parts and set(names) == set(out):
            names = out
        result = apply2(EinsumPair, left, right, left_names, right_names, names)
    result, names = _reduced(result, names, set(out), sizes)
    return result if names == out else permute(result, *[names.index(n) for n in out])
