import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.model.position import Rotary

WIDTH, CONTEXT, THETA = 8, 64, 100.0


@pytest.fixture(scope="module")
def rotary() -> Rotary:
    return Rotary(WIDTH, CONTEXT, THETA)


def test_pairs_of_channels_turn_by_position_times_frequency(rotary: Rotary) -> None:
    x = torch.randn(CONTEXT, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turned = rotary(x.float()[None, None])[0, 0].double()
    for position in range(CONTEXT):
        for pair in range(WIDTH // 2):
            angle = position * THETA ** (-2 * pair / WIDTH)
            real, imaginary = x[position, pair], x[position, pair + WIDTH // 2]
            expected = complex(real, imaginary) * complex(math.cos(angle), math.sin(angle))
            assert abs(turned[position, pair] - expected.real) < 1e-5
            assert abs(turned[position, pair + WIDTH // 2] - expected.imag) < 1e-5


@settings(max_examples=50, deadline=None)
@given(distance=st.integers(0, 20), first=st.integers(0, 40), shift=st.integers(0, 3), seed=st.integers(0, 99))
def test_scores_depend_on_the_distance_alone(distance: int, first: int, shift: int, seed: int) -> None:
    rotary = Rotary(WIDTH, CONTEXT, THETA)
    query, key = torch.randn(2, 1, 1, 1, WIDTH, generator=torch.Generator().manual_seed(seed))

    def score(start: int) -> float:
        return float((rotary(query, start + distance) * rotary(key, start)).sum())

    assert score(first) == pytest.approx(score(first + shift), abs=1e-4)
    assert score(0) == pytest.approx(score(first), abs=1e-4)


def test_turning_keeps_lengths(rotary: Rotary) -> None:
    x = torch.randn(2, 3, CONTEXT, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rotary(x).norm(dim=-1), x.norm(dim=-1))


def test_the_first_position_is_left_as_it_is(rotary: Rotary) -> None:
    x = torch.randn(1, 1, 1, WIDTH, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rotary(x), x)


def test_starting_later_is_the_later_part(rotary: Rotary) -> None:
    x = torch.randn(1, 2, 10, WIDTH, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rotary(x)[:, :, 4:], rotary(x[:, :, 4:], 4))


def test_tables_are_no_part_of_the_state(rotary: Rotary) -> None:
    assert not rotary.state_dict()
