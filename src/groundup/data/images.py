"""Labelled images in the IDX format of MNIST (LeCun et al. 1998, http://yann.lecun.com/exdb/mnist)."""

import gzip
import struct
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from groundup.data.labelled import LabelledRows
from groundup.errors import UserError

_UNSIGNED_BYTE = 8


class ImageRows(LabelledRows):
    """Rows [label, pixels...] of images of one size; pixels 0..255 in the order in which the file has them."""


def read_images(sources: Sequence[str], seed: int) -> ImageRows:
    """The images of IDX files (.gz or not), each with its file of labels beside it.

    A file of labels has the same name with `labels-idx1` in the place of `images-idx3`, as MNIST's have. `seed`
    chooses the order of the rows.

    Raises:
        UserError: a file is missing, damaged or of another kind; labels and images are not equally many, or the
            images of several sizes.
    """
    parts = [_labelled(Path(source)) for source in sources]
    sizes = {pixels.shape[1:]: source for source, (_, pixels) in zip(sources, parts, strict=True)}
    if len(sizes) != 1:
        told = "; ".join(f"{source}: {'x'.join(map(str, size))}" for size, source in sizes.items())
        raise UserError(f"images must be of one size, and there must be some ({told or 'no files'})")
    labels_N = np.concatenate([labels for labels, _ in parts])
    pixels_NHW = np.concatenate([pixels for _, pixels in parts])
    return ImageRows(labels_N, pixels_NHW.reshape(len(labels_N), -1), seed)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """An array of unsigned bytes, of any number of dimensions; UserError where the file holds none, or not all."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged or truncated .gz file ({error}); fetch it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(content) < 4 or content[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
        raise UserError(f"{path}: not an IDX file of bytes, such as MNIST's; give images-idx3-ubyte, .gz or not")
    start = 4 + 4 * content[3]
    sizes = struct.unpack(f">{content[3]}I", content[4:start]) if len(content) >= start else ()
    if len(content) - start != prod(sizes):
        raise UserError(f"{path}: {len(content)} bytes are not what its header says; fetch it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)


def _labelled(images: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Labels (N,) and pixels (N, height, width) or with more dimensions."""
    pixels = read_idx(images)
    beside = images.with_name(images.name.replace("images", "labels").replace("idx3", "idx1"))
    if pixels.ndim < 3 or beside == images:
        raise UserError(
            f"{images}: an array of {pixels.ndim} dimensions is no images; give the file of images (images-idx3), "
            "with that of its labels (labels-idx1) beside it"
        )
    labels_N = read_idx(beside)
    if labels_N.shape != pixels.shape[:1]:
        raise UserError(f"{beside}: {labels_N.size} labels for {len(pixels)} images; fetch both again")
    return labels_N, pixels
