"""What a process keeps: ZeRO's own table, and where our engine has more at work."""

import pytest

from groundup.plan.cluster.kept import step_kept
from groundup.plan.cluster.layout import Layout
from groundup.plan.parameters import total
from groundup.recipe import TrainRecipe
from tests.plan.cluster.test_sent import OUTER, SHAPE, WHOLE

ADAMW = TrainRecipe(optimizer="adamw")
BLOCK = (WHOLE - OUTER) / SHAPE.num_layers
HUGE = 1e12


@pytest.mark.parametrize("shards", [2, 4])
@pytest.mark.parametrize("zero", [1, 2, 3])
def test_between_steps_everything_is_divided(zero: int, shards: int) -> None:
    kept = step_kept(SHAPE, Layout(data=shards, zero=zero), 0, ADAMW, HUGE)  # type: ignore[arg-type]
    assert kept[:3] == pytest.approx((WHOLE / shards, WHOLE / shards, 2 * WHOLE / shards))


def test_on_one_device_adamw_takes_sixteen_bytes_a_parameter() -> None:
    kept = step_kept(SHAPE, Layout(), 0, ADAMW, HUGE)
    assert sum(kept[:3]) == 16 * total(SHAPE)
    assert (kept.weights_at_work, kept.gradients_at_work) == (WHOLE, WHOLE)


def test_what_is_whole_at_work_is_the_difference_between_the_stages_of_zero() -> None:
    one, two, three = (
        step_kept(SHAPE, Layout(data=2, zero=zero, accumulation=2), 0, ADAMW, 1.5 * BLOCK)  # type: ignore[arg-type]
        for zero in (1, 2, 3)
    )
    assert one.weights_at_work == two.weights_at_work == pytest.approx(1.5 * WHOLE)
    assert three.weights_at_work == pytest.approx(WHOLE / 2 + OUTER + BLOCK)
    assert one.gradients_at_work == WHOLE
    assert two.gradients_at_work == three.gradients_at_work == WHOLE / 2


def test_buckets_of_more_blocks_are_gathered_together() -> None:
    three = step_kept(SHAPE, Layout(data=2, zero=3), 0, ADAMW, 2.5 * BLOCK)
    assert three.weights_at_work == pytest.approx(WHOLE / 2 + OUTER + 2 * BLOCK)


def test_a_pipeline_keeps_whole_gradients_until_its_end() -> None:
    layout = Layout(pipeline=2, data=2, zero=3, accumulation=4)
    kept = [step_kept(SHAPE, layout, rank, ADAMW, HUGE) for rank in (0, 1)]
    assert all(rank.gradients_at_work == pytest.approx(2 * rank.gradients) for rank in kept)
    assert sum(rank.weights for rank in kept) == pytest.approx((WHOLE + 4 * 1024 * 128) / 2)
