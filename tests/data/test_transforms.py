"""Transforms of arrays and tensors."""

from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad.data import transforms as T
from distgrad.errors import ShapeError

IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
CHW = distgrad.tensor(IMAGE.transpose(2, 0, 1).copy())


def as_hwc(image: Any) -> np.ndarray[Any, Any]:
    return image.numpy().transpose(1, 2, 0) if isinstance(image, distgrad.Tensor) else image


def test_to_tensor_scales_bytes() -> None:
    out = T.ToTensor()(IMAGE)
    assert out.dtype == distgrad.float32 and out.shape == (3, 4, 5)
    np.testing.assert_allclose(out.numpy(), IMAGE.transpose(2, 0, 1) / 255, rtol=1e-6)
    assert T.ToTensor()(IMAGE[..., 0]).shape == (1, 4, 5)
    assert T.ToTensor()(np.ones((2, 2))).numpy().max() == 1.0
    with pytest.raises(ShapeError, match=r"got shape \[3\]"):
        T.ToTensor()(np.ones(3))


def test_normalize() -> None:
    x = distgrad.randn(2, 3, 4, 4)
    out = T.Normalize((0.1, 0.2, 0.3), (1.0, 2.0, 4.0))(x)
    mean, std = np.array([0.1, 0.2, 0.3]).reshape(3, 1, 1), np.array([1.0, 2.0, 4.0]).reshape(3, 1, 1)
    np.testing.assert_allclose(out.numpy(), (x.numpy() - mean) / std, rtol=1e-5, atol=1e-6)
    twin = x.clone()
    assert T.Normalize((0.1, 0.2, 0.3), (1.0, 2.0, 4.0), inplace=True)(twin) is twin
    np.testing.assert_allclose(twin.numpy(), out.numpy())
    with pytest.raises(TypeError, match=r"put ToTensor\(\) before it"):
        T.Normalize((0.5,), (0.5,))(IMAGE)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="expected"):
        T.Normalize((0.5, 0.5), (0.5, 0.5))(x)
    with pytest.raises(ValueError, match="not 0"):
        T.Normalize((0.5,), (0.0,))


def test_compose_and_lambda() -> None:
    both = T.Compose([T.ToTensor(), T.Lambda(lambda t: t * 2), T.Normalize((0.5,), (0.5,))])
    np.testing.assert_allclose(both(IMAGE).numpy(), IMAGE.transpose(2, 0, 1) / 255 * 4 - 1, rtol=1e-5, atol=1e-6)
    assert repr(both).startswith("Compose(\n    ToTensor()\n    Lambda()\n    Normalize(")
    with pytest.raises(TypeError, match="callable"):
        T.Lambda(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("image", [IMAGE, CHW], ids=["array", "tensor"])
def test_crops_and_flips_on_arrays_and_tensors(image: Any) -> None:
    np.testing.assert_array_equal(as_hwc(T.CenterCrop((2, 3))(image)), IMAGE[1:3, 1:4])
    np.testing.assert_array_equal(as_hwc(T.RandomHorizontalFlip(1.0)(image)), IMAGE[:, ::-1])
    np.testing.assert_array_equal(as_hwc(T.RandomVerticalFlip(1.0)(image)), IMAGE[::-1])
    assert T.RandomHorizontalFlip(0.0)(image) is image
    padded = as_hwc(T.Pad((1, 2, 3, 4), fill=9)(image))
    assert padded.shape == (10, 9, 3) and (padded[0] == 9).all()
    np.testing.assert_array_equal(padded[2:6, 1:6], IMAGE)
    np.testing.assert_array_equal(as_hwc(T.Pad(1, padding_mode="edge")(image))[0, 1:-1], IMAGE[0])


@pytest.mark.parametrize("image", [IMAGE, CHW], ids=["array", "tensor"])
def test_random_crop_finds_every_window(image: Any) -> None:
    distgrad.manual_seed(0)
    crop = T.RandomCrop(3)
    seen = {as_hwc(crop(image)).tobytes() for _ in range(100)}
    expected = {IMAGE[i : i + 3, j : j + 3].tobytes() for i in range(2) for j in range(3)}
    assert seen == expected
    assert as_hwc(T.RandomCrop((4, 5), padding=2)(image)).shape == (4, 5, 3)
    assert as_hwc(T.RandomCrop(8, pad_if_needed=True)(image)).shape == (8, 8, 3)
    with pytest.raises(ShapeError, match="at least 6 x 6 pixels, got 4 x 5"):
        T.RandomCrop(6)(image)


def test_random_transforms_follow_the_seed() -> None:
    both = T.Compose([T.RandomCrop(3), T.RandomApply([T.RandomHorizontalFlip()], p=0.5)])

    def images() -> list[bytes]:
        distgrad.manual_seed(2)
        return [both(IMAGE).tobytes() for _ in range(10)]

    first = images()
    assert images() == first and len(set(first)) > 1


def test_convert_image_dtype() -> None:
    out = T.ConvertImageDtype(distgrad.float32)(CHW)
    np.testing.assert_allclose(out.numpy(), CHW.numpy() / 255, rtol=1e-6)
    np.testing.assert_array_equal(T.ConvertImageDtype(distgrad.uint8)(out).numpy(), CHW.numpy())
    assert T.ConvertImageDtype("float64")(out).dtype == distgrad.float64


def test_errors() -> None:
    with pytest.raises(ValueError, match="padding_mode"):
        T.Pad(1, padding_mode="wrap")
    with pytest.raises(ShapeError, match="CenterCrop"):
        T.CenterCrop(9)(IMAGE)
