"""What the registry test cannot see of indexing: writes in place, their gradients, views, and errors."""

import numpy as np
import pytest

import distgrad
from distgrad.autograd import gradcheck
from distgrad.errors import AutogradError, DTypeError, ShapeError


def arange(*shape, requires_grad=False):
    values = np.arange(float(np.prod(shape))).reshape(shape)
    return distgrad.tensor(values, requires_grad=requires_grad)


INDICES = [
    1,
    -1,
    (0, 2),
    slice(1, 3),
    (slice(None), slice(0, 4, 2)),
    (..., 1),
    None,
    (slice(None), None, 2),
    [0, 2],
    np.array([2, 0]),
    (np.array([0, 2]), np.array([1, 3])),
    np.arange(12).reshape(3, 4) % 3 == 0,
    (slice(None), np.array([True, False, True, False])),
    (np.array([0, 2]), slice(1, 3)),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_setitem_writes_what_numpy_writes(index):
    for value in (7.5, np.float64(2)):
        x, expected = arange(3, 4), np.arange(12.0).reshape(3, 4)
        x[index] = value
        expected[index] = value
        np.testing.assert_array_equal(x.numpy(), expected)


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_setitem_passes_gradients_to_the_rest_and_to_the_value(index):
    def write(x, v):
        y = x * 1
        y[index] = v
        return y * y

    region = np.zeros((3, 4))[index]
    x = distgrad.tensor(np.random.default_rng(0).standard_normal((3, 4)), requires_grad=True)
    v = distgrad.tensor(np.random.default_rng(1).standard_normal(region.shape), requires_grad=True)
    assert gradcheck(write, (x, v))
    scalar = distgrad.tensor(0.5, dtype="float64", requires_grad=True)
    assert gradcheck(write, (x, scalar))


def test_integers_are_applied_before_arrays():
    """NumPy counts an integer beside an array as an array and would give (2, 3)."""
    x = arange(2, 3, 4)
    assert tuple(x[0, :, [1, 2]].shape) == (3, 2)
    x[0, :, [1, 2]] = distgrad.zeros(3, 2, dtype="float64")
    assert x[0, :, 1:3].sum().item() == 0
    assert x[1].sum().item() == np.arange(12, 24).sum()


def test_a_basic_index_is_a_view_and_an_advanced_one_a_copy():
    x = arange(3, 4)
    x[1].fill_(0)
    x[0, 0].fill_(9)  # a 0-d view
    assert x[1].sum().item() == 0 and x[0, 0].item() == 9
    x[[2]].fill_(5)
    assert x[2].tolist() == [8, 9, 10, 11]


def test_writing_through_a_view_reaches_the_base_and_its_gradient():
    x = arange(2, 3, requires_grad=True)
    y = x * 2
    row = y[0]
    row[1] = 10.0
    assert y[0].tolist() == [0, 10, 4]
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[2, 0, 2], [2, 2, 2]])


def test_writing_a_tracked_value_into_a_plain_tensor_makes_it_tracked():
    buffer = distgrad.zeros(3)
    v = distgrad.tensor(2.0, requires_grad=True)
    buffer[1] = v * 3
    assert buffer.requires_grad
    (buffer * distgrad.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert v.grad.item() == 30


def test_a_saved_tensor_that_is_written_to_is_noticed():
    x = distgrad.ones(3, requires_grad=True)
    y = x.exp()
    z = y * y
    y[0] = 0.0
    with pytest.raises(AutogradError, match="modified by an inplace operation"):
        z.sum().backward()


def test_a_leaf_cannot_be_written_to_while_recording():
    x = distgrad.ones(3, requires_grad=True)
    with pytest.raises(AutogradError, match="leaf"):
        x[0] = 1.0
    with distgrad.no_grad():
        x[0] = 5.0
    assert x.tolist() == [5, 1, 1]


def test_an_expanded_tensor_cannot_be_written_to():
    x = distgrad.zeros(3).expand(2, 3)
    for write in (lambda: x.__setitem__(0, 1.0), lambda: x.fill_(1.0), lambda: x.add_(1.0)):
        with pytest.raises(AutogradError, match="clone"):
            write()


def test_values_are_cast_and_broadcast():
    x = distgrad.zeros(2, 3, dtype="int64")
    x[0] = 1.7
    x[1] = distgrad.tensor([4.5, 5.5, 6.5])
    assert x.tolist() == [[1, 1, 1], [4, 5, 6]]
    x[:] = distgrad.tensor([[[7, 8, 9]]])
    assert x.tolist() == [[7, 8, 9]] * 2
    x[:, 0] = [1, 2]
    assert x[:, 0].tolist() == [1, 2]


def test_overlapping_copies_read_before_they_write():
    x = arange(5)
    x[1:] = x[:-1]
    assert x.tolist() == [0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (5, IndexError, "out of bounds for dimension 0 with size 3"),
        ((0, 0, 0), IndexError, "too many indices for tensor"),
        (slice(None, None, -1), ValueError, "step must be greater than zero"),
        ([0, 5], IndexError, "out of bounds"),
        (np.array([0.5]), IndexError, "integer or bool"),
        (0.5, IndexError, "got float"),
        ("a", IndexError, "got str"),
        (np.array([True, False]), IndexError, "did not match"),
    ],
)
def test_wrong_indices_say_what_is_wrong(index, error, message):
    x = distgrad.zeros(3, 4)
    with pytest.raises(error, match=message):
        x[index]
    with pytest.raises(error, match=message):
        x[index] = 0


def test_a_value_of_the_wrong_shape_is_an_error():
    with pytest.raises(ShapeError, match="cannot be broadcast"):
        distgrad.zeros(3, 4)[0] = distgrad.zeros(3)


# ---- the in-place forms ----------------------------------------------------------------------------------------------

INDEX = distgrad.tensor([0, 2])

WRITES = {
    "fill_": lambda y: y.fill_(2.0),
    "zero_": lambda y: y.zero_(),
    "masked_fill_": lambda y: y.masked_fill_(distgrad.tensor([True, False, True, False]), 3.0),
    "index_fill_": lambda y: y.index_fill_(0, INDEX, 2.0),
    "index_add_": lambda y: y.index_add_(0, INDEX, distgrad.ones(2, 4, dtype="float64")),
    "index_copy_": lambda y: y.index_copy_(0, INDEX, distgrad.ones(2, 4, dtype="float64")),
    "index_put_": lambda y: y.index_put_((INDEX,), distgrad.ones(4, dtype="float64")),
    "scatter_": lambda y: y.scatter_(0, distgrad.tensor([[0, 2, 1, 0]]), 4.0),
    "scatter_add_": lambda y: y.scatter_add_(0, distgrad.tensor([[0, 2, 1, 0]]), distgrad.ones(1, 4, dtype="float64")),
    "scatter_reduce_": lambda y: y.scatter_reduce_(
        0, distgrad.tensor([[0, 2, 1, 0]]), distgrad.ones(1, 4, dtype="float64"), "sum"
    ),
    "copy_": lambda y: y.copy_(distgrad.ones(4, dtype="float64")),
    "fill_diagonal_": lambda y: y.fill_diagonal_(5.0),
    "tril_": lambda y: y.tril_(),
    "masked_scatter_": lambda y: y.masked_scatter_(
        distgrad.tensor([True, False, False, True]), distgrad.ones(6, dtype="float64")
    ),
}


@pytest.mark.parametrize("name", WRITES)
def test_in_place_forms_write_into_the_memory_and_record_it(name):
    x = arange(3, 4, requires_grad=True)

    def run(t):
        y = t * 1
        memory = y.data_ptr()
        assert WRITES[name](y) is y
        assert y.data_ptr() == memory
        return y * y

    assert gradcheck(run, (x,))
    version = (plain := arange(3, 4))._version
    WRITES[name](plain)
    assert plain._version == version + 1 and not plain.requires_grad


@pytest.mark.parametrize("name", WRITES)
def test_in_place_forms_work_on_views(name):
    x = distgrad.tensor(np.random.default_rng(0).standard_normal((2, 4, 3)), requires_grad=True)

    def run(t):
        base = t * 1
        WRITES[name](base[1].t())
        return base * base

    assert gradcheck(run, (x,))


def test_copy_takes_gradients_to_its_source():
    v = distgrad.ones(2, 1, requires_grad=True)
    y = distgrad.zeros(2, 3).copy_(v * 2)
    y.sum().backward()
    assert v.grad.tolist() == [[6], [6]]


def test_shapes_change_in_place():
    x = distgrad.zeros(2, 1, 3)
    assert tuple(x.squeeze_(1).shape) == (2, 3)
    assert tuple(x.unsqueeze_(0).shape) == (1, 2, 3)
    assert tuple(x.transpose_(0, 1).shape) == (2, 1, 3)
    y = distgrad.ones(2, 3, requires_grad=True) * 2
    y.t_()
    assert tuple(y.shape) == (3, 2) and y.requires_grad


def test_masks_must_be_bool():
    with pytest.raises(DTypeError, match="bool mask"):
        distgrad.zeros(2).masked_fill(distgrad.tensor([1, 0]), 1.0)


def test_gather_and_scatter_check_their_indices():
    x = distgrad.zeros(2, 3)
    with pytest.raises(IndexError, match="out of bounds for dimension 1 with size 3"):
        x.gather(1, distgrad.tensor([[3]]))
    with pytest.raises(IndexError, match="-1 is out of bounds"):
        x.scatter(1, distgrad.tensor([[-1]]), 1.0)
    with pytest.raises(DTypeError, match="integer index"):
        x.gather(1, distgrad.tensor([[0.0]]))
    with pytest.raises(ShapeError, match="dimensions"):
        x.gather(1, distgrad.tensor([0]))
    with pytest.raises(DTypeError, match="one dtype"):
        x.scatter(1, distgrad.tensor([[0]]), distgrad.tensor([[1]]))
    with pytest.raises(IndexError):
        x.index_select(0, distgrad.tensor([2]))
    with pytest.raises(IndexError):
        distgrad.nn.functional.one_hot(distgrad.tensor([3]), 3)


def test_many_rows_add_up():
    """The gradient of a large lookup, with repeated rows."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, 50, 3000)
    table = distgrad.tensor(rng.standard_normal((50, 8)), requires_grad=True)
    weights = rng.standard_normal((3000, 8))
    (table[distgrad.tensor(places)] * distgrad.tensor(weights)).sum().backward()
    expected = np.zeros((50, 8))
    np.add.at(expected, places, weights)
    np.testing.assert_allclose(table.grad.numpy(), expected)
