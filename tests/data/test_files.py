"""Readers of MNIST and CIFAR files, on small files of the same formats made here."""

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distgrad.data import DataLoader, datasets
from distgrad.data._files import DataFileError, read_cifar_binary, read_cifar_pickle
from distgrad.data.datasets import CIFAR10, CIFAR100, MNIST, FashionMNIST, read_idx

RNG = np.random.default_rng(0)


def idx(array: np.ndarray[Any, Any], code: int) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, packed: bool = False) -> dict[str, np.ndarray[Any, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for split, n in (("train", 6), ("t10k", 3)):
        arrays[f"{split}-images-idx3-ubyte"] = RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{split}-labels-idx1-ubyte"] = RNG.integers(0, 10, n, dtype=np.uint8)
    for name, array in arrays.items():
        data = idx(array, 8)
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return arrays


@pytest.mark.parametrize(
    ("code", "dtype"), [(8, ">u1"), (9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
def test_idx_of_every_type(tmp_path: Path, code: int, dtype: str) -> None:
    array = np.arange(-6, 6).reshape(3, 4).astype(dtype)
    (tmp_path / "file").write_bytes(idx(array, code))
    read = read_idx(tmp_path / "file")
    np.testing.assert_array_equal(read, array)
    assert read.dtype.isnative and read.flags.writeable


def test_idx_that_is_none_or_not_complete(tmp_path: Path) -> None:
    whole = idx(np.ones((3, 4), dtype=np.uint8), 8)
    path = tmp_path / "file"
    for end in (0, 3, 8, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(DataFileError, match="expected"):
            read_idx(path)
    path.write_bytes(b"<html>")
    with pytest.raises(DataFileError, match="begins with 00 00"):
        read_idx(path)
    packed = tmp_path / "file.gz"
    packed.write_bytes(gzip.compress(whole)[:-9])
    with pytest.raises(DataFileError, match="complete gzip"):
        read_idx(packed)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("where", [".", "MNIST/raw", "raw"])
def test_mnist(tmp_path: Path, packed: bool, where: str) -> None:
    arrays = write_mnist(tmp_path / where, packed)
    train = MNIST(tmp_path)
    test = MNIST(tmp_path, train=False, transform=lambda image: image.sum(), target_transform=str)
    assert len(train) == 6 and len(test) == 3
    np.testing.assert_array_equal(train[1][0], arrays["train-images-idx3-ubyte"][1])
    assert train[1][1] == int(arrays["train-labels-idx1-ubyte"][1])
    assert test[0] == (arrays["t10k-images-idx3-ubyte"][0].sum(), str(arrays["t10k-labels-idx1-ubyte"][0]))
    x, y = next(iter(DataLoader(train, 4)))
    np.testing.assert_array_equal(x.numpy(), arrays["train-images-idx3-ubyte"][:4])
    assert y.tolist() == train.targets[:4]
    assert train.class_to_idx["3 - three"] == 3


def test_missing_files_say_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte.*https://.*put them there"):
        MNIST(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data_batch_1 or data_batch_1\.bin.*https://.*cifar\.html"):
        CIFAR10(tmp_path)
    with pytest.raises(FileNotFoundError, match="zalandoresearch"):
        FashionMNIST(tmp_path)
    with pytest.raises(Exception, match="download=True is not supported"):
        MNIST(tmp_path, download=True)


def test_mnist_with_labels_of_another_set(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(5, dtype=np.uint8), 8))
    with pytest.raises(DataFileError, match="a label for each of 6 images, got 5"):
        MNIST(tmp_path)


# ---- CIFAR -----------------------------------------------------------------------------------------------------------


def test_cifar10_in_both_versions(tmp_path: Path) -> None:
    rows = {f"data_batch_{i}": RNG.integers(0, 256, (2, 3072), dtype=np.uint8) for i in range(1, 6)}
    rows["test_batch"] = RNG.integers(0, 256, (3, 3072), dtype=np.uint8)
    python, binary = tmp_path / "cifar-10-batches-py", tmp_path / "cifar-10-batches-bin"
    python.mkdir()
    binary.mkdir()
    for name, data in rows.items():
        labels = list(range(len(data)))
        (python / name).write_bytes(pickle.dumps({b"data": data, b"labels": labels, b"batch_label": b"x"}, protocol=2))
        (binary / f"{name}.bin").write_bytes(b"".join(bytes([i]) + row.tobytes() for i, row in enumerate(data)))
    for root in (tmp_path, python, binary):
        train, test = CIFAR10(root), CIFAR10(root, train=False)
        assert len(train) == 10 and len(test) == 3 and test.targets == [0, 1, 2]
        assert train.data.shape == (10, 32, 32, 3)
        np.testing.assert_array_equal(test.data[1], rows["test_batch"][1].reshape(3, 32, 32).transpose(1, 2, 0))
        np.testing.assert_array_equal(train.data[3], rows["data_batch_2"][1].reshape(3, 32, 32).transpose(1, 2, 0))
    assert train.classes[train[1][1]] == "automobile"


def test_cifar100(tmp_path: Path) -> None:
    data = RNG.integers(0, 256, (2, 3072), dtype=np.uint8)
    batch = {"data": data, "fine_labels": [7, 99], "coarse_labels": [1, 2]}
    (tmp_path / "train").write_bytes(pickle.dumps(batch, protocol=4))
    (tmp_path / "test.bin").write_bytes(b"".join(bytes([1, 50 + i]) + row.tobytes() for i, row in enumerate(data)))
    assert CIFAR100(tmp_path).targets == [7, 99]
    assert CIFAR100(tmp_path, train=False).targets == [50, 51]
    assert len(CIFAR100.classes) == 100


class Evil:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('executed')",))


def test_a_pickle_that_wants_to_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": Evil(), "labels": [0]}, protocol=2))
    with pytest.raises(DataFileError, match=r"asks for .*exec, which a file of arrays does not need"):
        read_cifar_pickle(path)


def test_cifar_files_that_are_not_complete(tmp_path: Path) -> None:
    path = tmp_path / "batch"
    whole = pickle.dumps({"data": np.zeros((2, 3072), dtype=np.uint8), "labels": [0, 1]}, protocol=2)
    for end in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(DataFileError, match="expected a pickled CIFAR batch"):
            read_cifar_pickle(path)
    path.write_bytes(pickle.dumps({"other": 1}))
    with pytest.raises(DataFileError, match=r"got \['other'\]"):
        read_cifar_pickle(path)
    path.write_bytes(b"\0" * 3000)
    with pytest.raises(DataFileError, match="records of 3073 bytes, got 3000"):
        read_cifar_binary(path)


def test_names_of_classes() -> None:
    counts = [len(d.classes) for d in (datasets.MNIST, datasets.FashionMNIST, datasets.CIFAR10, datasets.CIFAR100)]
    assert counts == [10, 10, 10, 100] and datasets.MNIST.classes[0] == "0 - zero"
