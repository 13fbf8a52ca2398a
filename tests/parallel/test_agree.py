import pytest

from groundup.errors import UserError
from groundup.parallel.agree import agree

from .processes import run


def _squares(rank: int) -> list[int]:
    return agree(lambda: rank * rank)


def _fail_on_the_last(rank: int) -> str:
    def action() -> int:
        if rank == 2:
            raise UserError("its disk is full")
        return rank

    with pytest.raises(UserError) as error:
        agree(action)
    return str(error.value)


def test_every_process_knows_what_each_found() -> None:
    assert run(3, _squares) == [[0, 1, 4]] * 3


def test_what_one_raises_all_raise() -> None:
    assert run(3, _fail_on_the_last) == ["its disk is full"] * 3


def test_alone() -> None:
    assert agree(lambda: 5) == [5]
    with pytest.raises(ZeroDivisionError):
        agree(lambda: 1 // 0)
