"""Well-known data sets, read from their original files on disk. Nothing is downloaded; errors say where to get them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .. import ops
from ..errors import DistgradError
from ._dataset import Dataset, Indices
from ._files import DataFileError, find, read_cifar_binary, read_cifar_pickle, read_idx

Transform = Callable[[Any], Any]


class _Images(Dataset[Any]):
    """Images with a class each, in memory.

    Attributes:
        data: (N, H, W) or (N, H, W, C), uint8.
        targets: the class of each image.
        classes: the names of the classes.
    """

    data: "np.ndarray[Any, np.dtype[np.uint8]]"
    targets: list[int]
    classes: ClassVar[list[str]]

    def __init__(
        self, root: str | Path, train: bool, transform: Transform | None, target_transform: Transform | None
    ) -> None:
        self.root = Path(root)
        self.train = train
        self.transform = transform
        self.target_transform = target_transform

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image: Any = self.data[index]
        target: Any = self.targets[index]
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __len__(self) -> int:
        return len(self.data)

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The number of each class."""
        return {name: i for i, name in enumerate(self.classes)}

    def _collated(self, indices: Indices) -> Any:
        plain = type(self).__getitem__ is _Images.__getitem__
        if not plain or self.transform is not None or self.target_transform is not None:
            return None
        return [ops.from_numpy(self.data[indices]), ops.tensor([self.targets[i] for i in indices.tolist()])]


def _no_download(download: bool, where: str) -> None:
    if download:
        raise DistgradError(f"download=True is not supported, files are read from disk only. {where}")


class MNIST(_Images):
    """Handwritten digits: 60,000 to train on and 10,000 to test, 28 x 28 grey pixels (LeCun et al., 1998).

    Args:
        root: the folder of the IDX files (``train-images-idx3-ubyte`` and so on, packed with gzip or not), or one that
            has them in ``MNIST/raw`` or ``raw``.
        train: the training images, or else those to test with.
        transform: applied to each image (28, 28), uint8.
        target_transform: applied to each label.
        download: not supported.

    Raises:
        FileNotFoundError: the files are not there.
        DataFileError: they are not complete.
    """

    classes: ClassVar[list[str]] = [f"{digit} - {name}" for digit, name in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )]  # fmt: skip
    _where: ClassVar[str] = (
        "Get the four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
        "t10k-labels-idx1-ubyte.gz from https://ossci-datasets.s3.amazonaws.com/mnist/ and put them there"
    )

    def __init__(
        self,
        root: str | Path,
        train: bool = True,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        download: bool = False,
    ) -> None:
        super().__init__(root, train, transform, target_transform)
        _no_download(download, self._where)
        self.data = self._load("images-idx3-ubyte", 3)
        self.targets = self._load("labels-idx1-ubyte", 1).tolist()
        if len(self.targets) != len(self.data):
            raise DataFileError(
                f"{root}: expected a label for each of {len(self.data)} images, got {len(self.targets)}"
            )

    def _load(self, kind: str, dims: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        name = f"{'train' if self.train else 't10k'}-{kind}"
        folders = (".", f"{type(self).__name__}/raw", "raw", type(self).__name__)
        path = find(self.root, folders, (name, f"{name}.gz"), self._where)
        array = read_idx(path)
        if array.ndim != dims or array.dtype != np.uint8:
            raise DataFileError(f"{path}: expected {dims} dimensions of uint8, got {array.ndim} of {array.dtype}")
        return array


class FashionMNIST(MNIST):
    """Pictures of clothes in the format of `MNIST` (Xiao et al., 2017)."""

    classes: ClassVar[list[str]] = [
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ]  # fmt: skip
    _where = (
        "Get the four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
        "t10k-labels-idx1-ubyte.gz from https://github.com/zalandoresearch/fashion-mnist (data/fashion) and put them "
        "there"
    )


class CIFAR10(_Images):
    """Photographs of ten kinds of things: 50,000 to train on and 10,000 to test, 32 x 32 pixels (Krizhevsky, 2009).

    Args:
        root: the folder of the batches, of the Python version (pickles, which are read without executing anything) or
            the binary version; or one that has them in ``cifar-10-batches-py`` or ``cifar-10-batches-bin``.
        train: the training images, or else those to test with.
        transform: applied to each image (32, 32, 3), uint8.
        target_transform: applied to each label.
        download: not supported.

    Raises:
        FileNotFoundError: the files are not there.
        DataFileError: they are not complete.
    """

    classes: ClassVar[list[str]] = [
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ]  # fmt: skip
    _folders: ClassVar[tuple[str, ...]] = (".", "cifar-10-batches-py", "cifar-10-batches-bin")
    _train: ClassVar[tuple[str, ...]] = tuple(f"data_batch_{i}" for i in range(1, 6))
    _test: ClassVar[tuple[str, ...]] = ("test_batch",)
    _labels: ClassVar[str] = "labels"
    _label_bytes: ClassVar[int] = 1
    _where: ClassVar[str] = (
        "Get cifar-10-python.tar.gz or cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and "
        "unpack it there"
    )

    def __init__(
        self,
        root: str | Path,
        train: bool = True,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        download: bool = False,
    ) -> None:
        super().__init__(root, train, transform, target_transform)
        _no_download(download, self._where)
        parts = [self._load(name) for name in (self._train if train else self._test)]
        self.data = np.concatenate([part.data for part in parts])
        self.targets = [label for part in parts for label in part.labels]

    def _load(self, name: str) -> Any:
        path = find(self.root, self._folders, (name, f"{name}.bin"), self._where)
        if path.suffix == ".bin":
            return read_cifar_binary(path, self._label_bytes)
        return read_cifar_pickle(path, self._labels)


class CIFAR100(CIFAR10):
    """As `CIFAR10`, with a hundred classes of 600 images each."""

    classes: ClassVar[list[str]] = [
        "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
        "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
        "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish",
        "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
        "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
        "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine",
        "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk",
        "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
        "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
        "willow_tree", "wolf", "woman", "worm",
    ]  # fmt: skip
    _folders = (".", "cifar-100-python", "cifar-100-binary")
    _train = ("train",)
    _test = ("test",)
    _labels = "fine_labels"
    _label_bytes = 2
    _where = (
        "Get cifar-100-python.tar.gz or cifar-100-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and "
        "unpack it there"
    )
