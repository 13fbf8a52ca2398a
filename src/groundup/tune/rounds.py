"""Rounds: a policy writes answers, learns from them for some steps, and writes again.

To the trainer they are one endless order of rows. A round is made when its first row is asked for, and written to
disk before that row is given: a process that is killed at any moment goes on with the same answers. What a round
was like stands in a row of `rounds.jsonl`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from torch import Tensor

from groundup.data.permutation import endless
from groundup.errors import UserError
from groundup.files import file_atomically, write_atomically
from groundup.model.tensor_file import save_tensors
from groundup.run import read_rows
from groundup.seeds import derive

_NAME = re.compile(r"round-(\d+)\.safetensors")


class Round(NamedTuple):
    """What is learnt from in a round, by name, each with as many rows; and its figures, which JSON can write."""

    tensors: dict[str, Tensor]
    figures: dict[str, Any]


@dataclass(frozen=True)
class Extent:
    """How many rows a round has (`size`), and how many of its rows are learnt from, again and again, in steps."""

    size: int
    rows: int
    batch_size: int

    @property
    def steps(self) -> int:
        """Of a round."""
        return self.rows // self.batch_size

    def round_of(self, step: int) -> int:
        """The round in which the step of this number, counted from 0, is taken."""
        return step // self.steps


class Rounds:
    """The trainer's batches, (count, 1) int64: rows of the round that is `current`.

    `make` is given the number of a round, counted from 0, and the figures of the one before. `oldest_step` says
    from which step on a run may be continued, None while nothing is saved: rounds before it are forgotten. Of many
    processes, which all make the same rounds, one `writes`.
    """

    def __init__(
        self,
        folder: Path,
        figures_file: Path,
        extent: Extent,
        seed: int,
        make: Callable[[int, Mapping[str, Any] | None], Round],
        oldest_step: Callable[[], int | None] = lambda: None,
        writes: bool = True,
    ):
        self._folder, self._file, self.extent, self._seed = folder, figures_file, extent, seed
        self._make, self._oldest_step, self._writes = make, oldest_step, writes
        self._number: int | None = None
        self.current = Round({}, {})

    def windows(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Rows [first, first + count) of the order; each pass over a round is in an order of its own."""
        number, start = self._go_to(first)
        seed = derive(self._seed, f"round {number}")
        return endless(np.arange(start, start + count), self.extent.size, seed)[:, None]

    def at(self, step: int) -> Mapping[str, Any]:
        """The figures of the round in which the step of this number is taken, which makes it if it is new."""
        self._go_to(step * self.extent.batch_size)
        return self.current.figures

    @property
    def newest(self) -> Mapping[str, Any]:
        """The figures of the round that was made last, in this session of the run or in an earlier one."""
        return self.current.figures or list(read_rows(self._file))[-1]

    def _go_to(self, row: int) -> tuple[int, int]:
        """The round that a row of the order lies in, which becomes the current one, and where in it."""
        number, start = divmod(row, self.extent.rows)
        if number != self._number:
            self._enter(number, is_begun=start > 0)
        return number, start

    def _enter(self, number: int, is_begun: bool) -> None:
        """Go on with a round; what is known of later ones, after an interruption, is made again."""
        earlier = [row for row in read_rows(self._file) if row["round"] < number]
        if is_begun:
            self.current = self._read(number)
        else:
            self.current = self._make(number, earlier[-1] if earlier else None)
        self._number = number
        if not self._writes:
            return
        if not is_begun:
            self._write(number)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in (*earlier, self.current.figures)]
        write_atomically(self._file, "".join(lines))
        self._forget()

    def _path(self, number: int) -> Path:
        return self._folder / f"round-{number}.safetensors"

    def _read(self, number: int) -> Round:
        path = self._path(number)
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return Round(tensors, json.loads(file.metadata()["figures"]))
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"cannot read {path}, the answers from which the interrupted round was learning: {error}; "
                "delete the newest checkpoint to go on from the one before"
            ) from None

    def _write(self, number: int) -> None:
        self._folder.mkdir(exist_ok=True)
        # With the figures, so that a kill cannot come between the two.
        metadata = {"figures": json.dumps(self.current.figures, ensure_ascii=False)}
        with file_atomically(self._path(number)) as temporary:
            save_tensors(self.current.tensors, temporary, metadata)

    def _forget(self) -> None:
        oldest = self._oldest_step()
        if oldest is None:
            return
        for path in self._folder.iterdir():
            found = _NAME.fullmatch(path.name)
            if found and int(found[1]) < self.extent.round_of(oldest):
                path.unlink()
