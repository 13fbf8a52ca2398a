"""Checkpoints that many processes write together, each the pieces of the tensors that it holds.

They share the file system. The folder appears under its name, by a rename in the first process, when every part of
every process and all their hashes are there.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import torch.distributed as dist

from groundup.files import folder_atomically, sha256, write_json
from groundup.parallel.agree import agree
from groundup.parallel.processes import is_lost_connection
from groundup.train import stored_tensors
from groundup.train.checkpoints import Abandoned, Snapshot, delete_old, saving_error


def write(
    folder: Path,
    contents: Snapshot,
    keep: int,
    is_abandoned: Callable[[], bool],
    group: dist.ProcessGroup,
) -> Path:
    """Write `folder/step-N` as `checkpoints.write` does; all processes of `group` call it, each with its contents.

    They wait for each other over `group`, which nothing else may use meanwhile: training goes on beside it. Where
    one of them fails or is abandoned, all end with UserError or `Abandoned`.
    """
    target = folder / f"step-{contents.state.step}"
    rank = dist.get_rank(group)
    with ExitStack() as stack:

        def begin() -> Path:
            return stack.enter_context(folder_atomically(target)) if rank == 0 else target

        def complete() -> None:
            if rank == 0:
                _describe(temporary, contents, hashes)
                stack.close()
                delete_old(folder, contents.state, keep)

        try:
            temporary = agree(begin, group)[0]
            for part, tensors in contents.tensors.items():
                stored_tensors.save(temporary, part, tensors, group)
                if any(agree(is_abandoned, group)):
                    raise Abandoned
            hashes: dict[str, str] = {}
            for some in agree(lambda: _hashes(temporary, rank), group):
                hashes |= some
            agree(complete, group)
        except (OSError, RuntimeError) as error:
            if is_lost_connection(error):
                raise
            raise saving_error(target, error) from None
    return target


def _hashes(folder: Path, rank: int) -> dict[str, str]:
    """Of this process's own files, which its machine still has in memory."""
    files = stored_tensors.files_of(folder, rank)
    return {file.relative_to(folder).as_posix(): sha256(file) for file in files}


def _describe(folder: Path, contents: Snapshot, hashes: dict[str, str]) -> None:
    state = folder / "state.json"
    write_json(state, asdict(contents.state) | {"loss_scale": contents.loss_scale})
    write_json(folder / "manifest.json", dict(sorted(hashes.items())) | {state.name: sha256(state)})
