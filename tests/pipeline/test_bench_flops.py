from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from groundup.pipeline.bench_flops import operator_flops

A, B = torch.randn(6, 5), torch.randn(5, 7)
BATCHES = torch.randn(3, 4, 5), torch.randn(3, 5, 2)
HEADS = torch.randn(2, 4, 16, 8, requires_grad=True)


def recorded(action: Callable[[], object]) -> float:
    """What `operator_flops` finds in the profiler's events."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorder:
        action()
    return sum(operator_flops(event.name.rpartition("::")[2], event.input_shapes) for event in recorder.events())


def counted(action: Callable[[], object]) -> float:
    """What PyTorch's own counter says."""
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "action",
    [
        lambda: A @ B,
        lambda: torch.addmm(torch.zeros(7), A, B),
        lambda: torch.bmm(*BATCHES),
        lambda: torch.baddbmm(torch.zeros(3, 4, 2), *BATCHES),
        lambda: F.linear(torch.randn(2, 9, 5), torch.randn(11, 5), torch.randn(11)),
        lambda: torch.einsum("bij,bjk->bik", *BATCHES),
        lambda: A * 2 + A.exp(),
    ],
)
def test_products_are_counted_as_pytorch_counts_them(action: Callable[[], object]) -> None:
    assert recorded(action) == counted(action)


def test_a_product_by_onednn() -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("oneDNN is not here")
    x, weight = torch.randn(2, 9, 5), torch.randn(11, 5)
    by_name = recorded(lambda: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], ""))
    assert by_name == counted(lambda: F.linear(x, weight))


def test_causal_attention_is_half_of_the_whole() -> None:
    def attention() -> None:
        F.scaled_dot_product_attention(HEADS, HEADS, HEADS, is_causal=True).sum().backward()

    def explicit() -> None:
        scores = HEADS @ HEADS.transpose(-2, -1)
        (scores @ HEADS).sum()

    forward = counted(explicit) / 2
    # Backward: the scores once more, and two products for each of the two.
    assert recorded(attention) == forward + 2.5 * forward


@pytest.mark.parametrize("shapes", [[], [[2, 3]], [[], []]])
def test_shapes_that_were_not_seen_count_nothing(shapes: list[list[int]]) -> None:
    assert operator_flops("mm", shapes) == 0
    assert operator_flops("addmm", shapes) == 0
