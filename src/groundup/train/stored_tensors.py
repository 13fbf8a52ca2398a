"""The tensors of a checkpoint: in a file a part where one process wrote it, in a folder a part where many did.

A part is "model", "optimizer" or "average". Of many processes each writes what it holds of a part, in safetensors,
through PyTorch's distributed checkpoints (DCP), which note where in the whole tensor each piece belongs: those who
read it may hold other pieces. DCP is imported only where it is needed, since that takes a second.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed import ProcessGroup

if TYPE_CHECKING:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader


class Stored(NamedTuple):
    """A whole tensor as it is stored."""

    shape: torch.Size
    dtype: torch.dtype


def has_part(checkpoint: Path, part: str) -> bool:
    """Whether the checkpoint has this part."""
    return _file(checkpoint, part).is_file() or (checkpoint / part).is_dir()


def read(checkpoint: Path, part: str) -> dict[str, Tensor]:
    """All tensors of a part, whole, on the CPU."""
    if not (checkpoint / part).is_dir():
        return load_file(_file(checkpoint, part))
    tensors = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in stored(checkpoint, part).items()}
    load(checkpoint, part, tensors)
    return tensors


def stored(checkpoint: Path, part: str) -> dict[str, Stored]:
    """Shape and type of each tensor of a part."""
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    with _plain_errors():
        described = _reader(checkpoint, part).read_metadata().state_dict_metadata
    return {
        name: Stored(tensor.size, tensor.properties.dtype)
        for name, tensor in described.items()
        if isinstance(tensor, TensorStorageMetadata)
    }


def load(checkpoint: Path, part: str, tensors: dict[str, Tensor]) -> None:
    """Fill tensors, plain ones or DTensors of any layout, with what is stored under their names.

    Each process reads only what it holds and waits for no other. RuntimeError where a tensor is missing or has
    another shape.
    """
    from torch.distributed.checkpoint import state_dict_loader

    with _plain_errors(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        state_dict_loader.load(dict(tensors), storage_reader=_reader(checkpoint, part), no_dist=True)


def save(folder: Path, part: str, tensors: dict[str, Tensor], group: ProcessGroup) -> None:
    """Write a part from the pieces that the processes of `group` hold; each piece is written once.

    All of them call it. RuntimeError on all of them where one cannot write.
    """
    from torch.distributed.checkpoint import state_dict_saver
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    with _plain_errors():
        writer = HuggingFaceStorageWriter(str(folder / part), save_distributed=True)
        state_dict_saver.save(tensors, storage_writer=writer, process_group=group)


def files_of(folder: Path, rank: int) -> list[Path]:
    """The files that `save` wrote in the process of this rank."""
    return sorted(folder.glob(f"*/shard-{rank + 1:05d}-*.safetensors"))


def _file(checkpoint: Path, part: str) -> Path:
    return checkpoint / f"{part}.safetensors"


def _reader(checkpoint: Path, part: str) -> "HuggingFaceStorageReader":
    from torch.distributed.checkpoint.filesystem import FileSystem
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    class OneFile(FileSystem):
        """Lets the reader, which reads all of a folder, see this part's file alone."""

        def ls(self, path: object) -> list[str]:  # noqa: ARG002
            return [str(_file(checkpoint, part))]

    if (checkpoint / part).is_dir():
        return HuggingFaceStorageReader(str(checkpoint / part))
    reader = HuggingFaceStorageReader(str(checkpoint))
    reader.fs = OneFile()
    return reader


@contextmanager
def _plain_errors() -> Iterator[None]:
    """The first cause of DCP's own exception, which tells those of all processes over many lines."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items(), key=lambda failure: failure[0])
        where = f" (process {rank})" if len(error.failures) > 1 or rank else ""
        raise RuntimeError(f"{cause}{where}") from None
