"""print(tensor) reads as torch prints it: the expected texts are torch 2.13's, with ``distgrad.`` for ``torch.``."""

from collections.abc import Callable, Iterator

import pytest

import distgrad as dg

# What a tensor prints as.
CASES: list[tuple[str, Callable[[], dg.Tensor], str]] = [
    ("0-d", lambda: dg.tensor(3.14159), "tensor(3.1416)"),
    ("an int", lambda: dg.tensor(7), "tensor(7)"),
    ("a bool", lambda: dg.tensor(True), "tensor(True)"),
    (
        "ints",
        lambda: dg.tensor([[1, -20], [300, 4]]),
        "tensor([[  1, -20],\n        [300,   4]])",
    ),
    ("bools", lambda: dg.tensor([True, False]), "tensor([ True, False])"),
    ("whole floats", lambda: dg.tensor([1.0, 2.0, -30.0]), "tensor([  1.,   2., -30.])"),
    ("decimals", lambda: dg.tensor([0.5, -1.25, 100.0]), "tensor([  0.5000,  -1.2500, 100.0000])"),
    (
        "zeros",
        lambda: dg.zeros(2, 3),
        "tensor([[0., 0., 0.],\n        [0., 0., 0.]])",
    ),
    ("a wide range", lambda: dg.tensor([1e-5, 1.0]), "tensor([1.0000e-05, 1.0000e+00])"),
    ("large", lambda: dg.tensor([1e9, 1.0]), "tensor([1.0000e+09, 1.0000e+00])"),
    ("large decimals", lambda: dg.tensor([0.5, 123456.7]), "tensor([5.0000e-01, 1.2346e+05])"),
    ("small", lambda: dg.tensor([1e-5]), "tensor([1.0000e-05])"),
    ("nan and inf", lambda: dg.tensor([float("nan"), float("inf"), -1.5]), "tensor([    nan,     inf, -1.5000])"),
    ("nan among whole", lambda: dg.tensor([float("nan"), -float("inf"), 2.0]), "tensor([nan, -inf, 2.])"),
    ("only nan", lambda: dg.tensor([float("nan")]), "tensor([nan])"),
    ("float64", lambda: dg.tensor([1.5], dtype=dg.float64), "tensor([1.5000], dtype=distgrad.float64)"),
    ("float16", lambda: dg.tensor([1.5, 0.1], dtype=dg.float16), "tensor([1.5000, 0.1000], dtype=distgrad.float16)"),
    ("int32", lambda: dg.tensor([1], dtype=dg.int32), "tensor([1], dtype=distgrad.int32)"),
    ("empty", lambda: dg.tensor([]), "tensor([])"),
    ("empty int", lambda: dg.zeros(0, dtype=dg.int64), "tensor([], dtype=distgrad.int64)"),
    ("empty matrix", lambda: dg.zeros(2, 0), "tensor([], size=(2, 0))"),
    (
        "empty float64 matrix",
        lambda: dg.zeros(0, 3, dtype=dg.float64),
        "tensor([], size=(0, 3), dtype=distgrad.float64)",
    ),
    ("complex", lambda: dg.tensor([1 + 2j, -0.5j]), "tensor([1.+2.0000j, -0.-0.5000j])"),
    (
        "3-d",
        lambda: dg.arange(8).reshape(2, 2, 2),
        "tensor([[[0, 1],\n         [2, 3]],\n\n        [[4, 5],\n         [6, 7]]])",
    ),
    (
        "long row",
        lambda: dg.arange(30),
        "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
        "        18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29])",
    ),
    ("summarised", lambda: dg.arange(2000), "tensor([   0,    1,    2,  ..., 1997, 1998, 1999])"),
    (
        "summarised matrix",
        lambda: dg.arange(10000).reshape(100, 100),
        "tensor([[   0,    1,    2,  ...,   97,   98,   99],\n"
        "        [ 100,  101,  102,  ...,  197,  198,  199],\n"
        "        [ 200,  201,  202,  ...,  297,  298,  299],\n"
        "        ...,\n"
        "        [9700, 9701, 9702,  ..., 9797, 9798, 9799],\n"
        "        [9800, 9801, 9802,  ..., 9897, 9898, 9899],\n"
        "        [9900, 9901, 9902,  ..., 9997, 9998, 9999]])",
    ),
    (
        "summarised floats",
        lambda: dg.arange(3000.0).reshape(3, 1000) / 7,
        "tensor([[0.0000e+00, 1.4286e-01, 2.8571e-01,  ..., 1.4243e+02, 1.4257e+02,\n"
        "         1.4271e+02],\n"
        "        [1.4286e+02, 1.4300e+02, 1.4314e+02,  ..., 2.8529e+02, 2.8543e+02,\n"
        "         2.8557e+02],\n"
        "        [2.8571e+02, 2.8586e+02, 2.8600e+02,  ..., 4.2814e+02, 4.2829e+02,\n"
        "         4.2843e+02]])",
    ),
    ("leaf", lambda: dg.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
    ("result", lambda: dg.tensor([1.0], requires_grad=True) * 2, "tensor([2.], grad_fn=<MulBackward0>)"),
    (
        "float64 leaf",
        lambda: dg.zeros(1, dtype=dg.float64, requires_grad=True),
        "tensor([0.], dtype=distgrad.float64, requires_grad=True)",
    ),
    (
        "suffix on a new line",
        lambda: dg.ones(20, dtype=dg.float64, requires_grad=True) * 1.5,
        "tensor([1.5000, 1.5000, 1.5000, 1.5000, 1.5000, 1.5000, 1.5000, 1.5000, 1.5000,\n"
        "        1.5000, 1.5000, 1.5000, 1.5000, 1.5000, 1.5000, 1.5000, 1.5000, 1.5000,\n"
        "        1.5000, 1.5000], dtype=distgrad.float64, grad_fn=<MulBackward0>)",
    ),
]


@pytest.fixture(autouse=True)
def default_options() -> Iterator[None]:
    """Each test starts from torch's defaults and leaves them behind."""
    dg.set_printoptions(profile="default")
    yield
    dg.set_printoptions(profile="default")


@pytest.mark.parametrize(("make", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_text(make: Callable[[], dg.Tensor], expected: str) -> None:
    t = make()
    assert repr(t) == expected
    assert str(t) == expected


def test_bfloat16() -> None:
    assert repr(dg.tensor([1.0, 2.5], dtype=dg.bfloat16)) == "tensor([1.0000, 2.5000], dtype=distgrad.bfloat16)"


def test_parameter() -> None:
    assert repr(dg.Parameter(dg.ones(2))) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    frozen = dg.Parameter(dg.ones(2), requires_grad=False)
    assert repr(frozen) == "Parameter containing:\ntensor([1., 1.])"


def test_a_view_of_a_changed_base_shows_its_history() -> None:
    base = dg.zeros(2)
    view = base[:1]
    base.mul_(dg.ones(2, requires_grad=True))
    assert "grad_fn=<AsStridedBackward0>" in repr(view)


def test_subclasses_print_under_their_name() -> None:
    class Mask(dg.Tensor):
        pass

    assert repr(Mask([1.0])) == "Mask([1.])"


def numbers() -> dg.Tensor:
    return dg.arange(12.0) * 1.375 - 2


def test_precision() -> None:
    dg.set_printoptions(precision=2)
    assert repr(numbers()) == (
        "tensor([-2.00, -0.62,  0.75,  2.12,  3.50,  4.88,  6.25,  7.62,  9.00, 10.38,\n        11.75, 13.12])"
    )


def test_scientific_notation_on_demand() -> None:
    dg.set_printoptions(sci_mode=True)
    assert repr(numbers()[:2]) == "tensor([-2.0000e+00, -6.2500e-01])"
    dg.set_printoptions(sci_mode=False)
    assert repr(dg.tensor([1e-5, 1.0])) == "tensor([0.0000, 1.0000])"


def test_line_width() -> None:
    dg.set_printoptions(linewidth=30)
    assert repr(numbers()[:3]) == "tensor([-2.0000, -0.6250,\n         0.7500])"


def test_edges() -> None:
    dg.set_printoptions(edgeitems=1, threshold=5)
    assert repr(numbers()) == "tensor([-2.0000,  ..., 13.1250])"
    dg.set_printoptions(edgeitems=0)
    assert repr(numbers()) == "tensor([...], size=(12,))"


def test_profiles() -> None:
    dg.set_printoptions(profile="short", threshold=5)
    assert repr(numbers()) == "tensor([-2.00, -0.62,  ..., 11.75, 13.12])"
    dg.set_printoptions(profile="full")
    assert "..." not in repr(dg.arange(2000))
    with pytest.raises(ValueError, match="expected profile"):
        dg.set_printoptions(profile="long")


def test_options_for_a_while() -> None:
    with dg.printoptions(precision=1):
        assert repr(dg.tensor(0.25)) == "tensor(0.2)"
        assert dg.get_printoptions()["precision"] == 1
    assert repr(dg.tensor(0.25)) == "tensor(0.2500)"


def test_format() -> None:
    assert f"{dg.tensor(2.5)}" == "2.5"
    assert f"{dg.tensor(2.5):.3f}" == "2.500"
    assert f"{dg.tensor(3):03d}" == "003"
    assert f"{dg.ones(2)}" == "tensor([1., 1.])"
    with pytest.raises(TypeError, match="unsupported format string"):
        f"{dg.ones(2):.3f}"


def test_the_default_dtype_is_not_shown() -> None:
    dg.set_default_dtype(dg.float64)
    try:
        assert repr(dg.ones(1)) == "tensor([1.])"
        assert repr(dg.ones(1, dtype=dg.float32)) == "tensor([1.], dtype=distgrad.float32)"
    finally:
        dg.set_default_dtype(dg.float32)
