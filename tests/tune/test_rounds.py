from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from groundup.errors import UserError
from groundup.run import read_rows
from groundup.tune.rounds import Extent, Round, Rounds

# Six rows a round, gone through twice in steps of three.
EXTENT = Extent(size=6, rows=12, batch_size=3)


class Maker:
    """Rounds that hold what `value` was when they were made, as if weights had moved on."""

    def __init__(self) -> None:
        self.value = 0.0
        self.made: list[int] = []

    def __call__(self, number: int, before: Mapping[str, Any] | None) -> Round:
        self.made.append(number)
        beta = 1.0 if before is None else before["beta"] / 2
        return Round({"value": torch.full((6,), self.value)}, {"round": number, "beta": beta})


def open_rounds(folder: Path, maker: Maker, oldest: int | None = None) -> Rounds:
    return Rounds(folder / "rollouts", folder / "rounds.jsonl", EXTENT, 1, maker, lambda: oldest)


def take(rounds: Rounds, step: int) -> tuple[list[int], float]:
    rows = rounds.windows(3 * step, 3)[:, 0].tolist()
    return rows, float(rounds.current.tensors["value"][0])


def test_each_pass_has_every_row_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    maker = Maker()
    rounds = open_rounds(tmp_path, maker)
    passes = [[*take(rounds, step)[0], *take(rounds, step + 1)[0]] for step in range(0, 40, 2)]
    assert all(sorted(one) == list(range(6)) for one in passes)
    assert len({tuple(one) for one in passes}) > 15
    assert maker.made == list(range(10))
    assert rounds.windows(0, 3).dtype == np.int64


def test_an_interrupted_round_goes_on_with_its_answers(tmp_path: Path) -> None:
    """Whatever weights would write now; later rounds are made again, and their figures with them."""
    maker, maker.value = Maker(), 7.0
    before = [take(open_rounds(tmp_path, maker), 0)]
    rounds = open_rounds(tmp_path, maker)
    before = [take(rounds, step) for step in range(9)]
    assert [row["beta"] for row in read_rows(tmp_path / "rounds.jsonl")] == [1.0, 0.5, 0.25]
    maker.value, maker.made = 8.0, []
    resumed = open_rounds(tmp_path, maker)
    assert [take(resumed, step) for step in range(5, 8)] == before[5:8]
    assert maker.made == []
    assert [row["round"] for row in read_rows(tmp_path / "rounds.jsonl")] == [0, 1]
    assert take(resumed, 8) == (before[8][0], 8.0)
    assert maker.made == [2]
    assert [row["beta"] for row in read_rows(tmp_path / "rounds.jsonl")] == [1.0, 0.5, 0.25]


def test_a_run_that_begins_anew_makes_its_first_round_again(tmp_path: Path) -> None:
    maker = Maker()
    take(open_rounds(tmp_path, maker), 0)
    maker.value = 5.0
    assert take(open_rounds(tmp_path, maker), 0)[1] == 5.0
    assert maker.made == [0, 0]


def test_the_figures_of_a_step_are_those_of_its_round(tmp_path: Path) -> None:
    rounds = open_rounds(tmp_path, Maker())
    for step in range(9):
        take(rounds, step)
    assert rounds.at(8)["round"] == rounds.newest["round"] == 2
    assert open_rounds(tmp_path, Maker()).newest == rounds.newest
    new = Maker()
    assert open_rounds(tmp_path, new).at(11) == rounds.at(8)
    assert new.made == []


def test_the_figures_of_a_step_are_there_before_its_rows(tmp_path: Path) -> None:
    """The first step of a round has it made, once."""
    maker = Maker()
    rounds = open_rounds(tmp_path, maker)
    assert [rounds.at(step)["round"] for step in (0, 3, 4)] == [0, 0, 1]
    take(rounds, 4)
    assert maker.made == [0, 1]


@pytest.mark.parametrize(("oldest", "kept"), [(None, [0, 1, 2]), (0, [0, 1, 2]), (5, [1, 2]), (8, [2])])
def test_rounds_that_no_checkpoint_needs_go(oldest: int | None, kept: list[int], tmp_path: Path) -> None:
    rounds = open_rounds(tmp_path, Maker(), oldest)
    for step in range(9):
        take(rounds, step)
    assert sorted(path.name for path in (tmp_path / "rollouts").iterdir()) == [
        f"round-{number}.safetensors" for number in kept
    ]


def test_a_damaged_round_is_told_in_one_line(tmp_path: Path) -> None:
    take(open_rounds(tmp_path, Maker()), 0)
    (tmp_path / "rollouts" / "round-0.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"cannot read .*round-0\.safetensors") as error:
        take(open_rounds(tmp_path, Maker()), 1)
    assert "\n" not in str(error.value)
