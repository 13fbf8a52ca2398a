from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import nearest

KNOWN = ["train.lr", "train.steps", "model.width"]


def test_the_nearest_known_name_is_proposed() -> None:
    assert nearest("train.rl", KNOWN) == "; did you mean 'train.lr'?"
    assert nearest("widht", ["height", "width"]) == "; did you mean 'width'?"


def test_all_are_named_where_none_is_near() -> None:
    assert nearest("qqqq", KNOWN) == "; known: model.width, train.lr, train.steps"


@given(st.sampled_from(KNOWN), st.data())
def test_one_letter_left_out_is_understood(name: str, data: st.DataObject) -> None:
    gap = data.draw(st.integers(0, len(name) - 1))
    assert nearest(name[:gap] + name[gap + 1 :], KNOWN) == f"; did you mean '{name}'?"
