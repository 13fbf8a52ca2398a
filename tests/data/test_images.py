import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from groundup.data.images import read_idx, read_images
from groundup.errors import UserError


def idx(array: np.ndarray) -> bytes:
    """As the format is described: zeros, the type, the number of dimensions, big-endian sizes, the bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write(folder: Path, name: str = "x", count: int = 12, side: int = 3) -> str:
    pixels = np.arange(count * side * side).reshape(count, side, side) % 251
    (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
    (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(count) % 4)))
    return str(folder / f"{name}-images-idx3-ubyte.gz")


def test_rows_are_labels_and_pixels(tmp_path: Path) -> None:
    rows = read_images([write(tmp_path)], seed=1)
    assert rows.num_rows == 12
    assert np.array_equal(rows.in_order[:, 0], np.arange(12) % 4)
    assert np.array_equal(rows.in_order[:, 1:].ravel(), np.arange(108) % 251)
    train, held_out = rows.divided(0.34, seed=2)
    assert np.bincount(held_out.labels).tolist() == [1, 1, 1, 1]
    assert sorted(map(tuple, [*train.in_order, *held_out.in_order])) == sorted(map(tuple, rows.in_order))


def test_several_files_and_files_that_are_not_compressed(tmp_path: Path) -> None:
    first = write(tmp_path, "x")
    for kind in ("images-idx3", "labels-idx1"):
        content = gzip.decompress((tmp_path / f"x-{kind}-ubyte.gz").read_bytes())
        (tmp_path / f"y-{kind}-ubyte").write_bytes(content)
    both = read_images([first, str(tmp_path / "y-images-idx3-ubyte")], seed=1).in_order
    assert np.array_equal(both[:12], both[12:])
    assert len(both) == 24


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    images = Path(write(tmp_path))
    labels = tmp_path / "x-labels-idx1-ubyte.gz"
    with pytest.raises(UserError, match="give the file of images"):
        read_images([str(labels)], 1)
    with pytest.raises(UserError, match=r"one size.*x-.*3x3.*; .*y-.*5x5"):
        read_images([str(images), write(tmp_path, "y", side=5)], 1)
    with pytest.raises(UserError, match="no files"):
        read_images([], 1)
    labels.write_bytes(gzip.compress(idx(np.arange(11))))
    with pytest.raises(UserError, match="11 labels for 12 images"):
        read_images([str(images)], 1)
    labels.unlink()
    with pytest.raises(UserError, match=r"labels-idx1-ubyte\.gz: cannot be read: No such file"):
        read_images([str(images)], 1)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (idx(np.zeros((2, 3)))[:-1], "not what its header says"),
        (idx(np.zeros((2, 3))) + b"\0", "not what its header says"),
        (idx(np.zeros((2, 3)))[:7], "not what its header says"),
        (b"\x89PNG\r\n", "not an IDX file"),
        (b"", "not an IDX file"),
        (struct.pack(">BBBBIf", 0, 0, 13, 1, 1, 0.5), "not an IDX file of bytes"),
    ],
)
def test_damaged_files_are_refused(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserError, match=told):
        read_idx(tmp_path / "a")
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match=told):
        read_idx(tmp_path / "a.gz")
    (tmp_path / "a.gz").write_bytes(gzip.compress(content)[:-3])
    with pytest.raises(UserError, match="damaged or truncated"):
        read_idx(tmp_path / "a.gz")


@pytest.mark.shared
def test_mnist(shared_data: Path) -> None:
    """Its first labels, and the mean of its pixels, are known (0.1325 of the test set)."""
    rows = read_images([str(shared_data / "multimodal" / "mnist_t10k-images-idx3-ubyte.gz")], 1)
    assert rows.values.shape == (10_000, 784)
    assert rows.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert abs(rows.values.mean() / 255 - 0.1325) < 1e-4
