"""Every technique, and what they make together, gives the losses and weights of one device (gloo, float32)."""

import pytest

from groundup.plan.cluster.layout import Layout
from tests.parallel.processes import run
from tests.parallel.training import BATCH, Case, differences, together

# AdamW divides by the root of a second moment; where that is near zero, rounding becomes large.
_LOSS, _NORM, _WEIGHT = 1e-5, 1e-4, 5e-4


def layout(**sizes: object) -> Layout:
    """Two micro-batches a device, or four through a pipeline."""
    data = int(str(sizes.get("data", 1)))
    accumulation = 4 if "pipeline" in sizes else 2
    return Layout(micro_batch=BATCH // accumulation // data, accumulation=accumulation, **sizes)  # type: ignore[arg-type]


def check(processes: int, cases: dict[str, Case]) -> None:
    """Train all cases in one group of processes, and each on one device."""
    by_rank = run(processes, together, cases)
    for name, case in cases.items():
        loss, norm, held_out, weight = differences(case, [part[name] for part in by_rank])
        assert loss < _LOSS, f"{name}: losses differ by {loss:.1e}"
        assert norm < _NORM, f"{name}: norms differ by {norm:.1e}"
        assert held_out < _LOSS, f"{name}: held-out losses differ by {held_out:.1e}"
        assert weight < _WEIGHT, f"{name}: weights differ by {weight:.1e}"


def test_data_parallel() -> None:
    check(
        2,
        {
            "ddp": Case(layout(data=2)),
            "small buckets": Case(layout(data=2), family="gpt2", tied=False, parallel={"bucket_mb": 0.01}),
            "one micro-batch": Case(Layout(data=2, micro_batch=4), documents=True),
        },
    )


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_zero(zero: int) -> None:
    check(
        2,
        {
            "plain": Case(layout(data=2, zero=zero)),
            "two buckets": Case(layout(data=2, zero=zero), family="gpt2", parallel={"bucket_mb": 0.08}),
            "offloaded": Case(layout(data=2, zero=zero), family="llama", tied=False, parallel={"offload": True}),
        },
    )


@pytest.mark.parametrize("sequence", [False, True])
def test_tensor_parallel(sequence: bool) -> None:
    check(
        2,
        {
            "qk-norm, tied": Case(layout(tensor=2, sequence=sequence)),
            "biases, learned positions": Case(layout(tensor=2, sequence=sequence), family="gpt2"),
            "untied, documents": Case(layout(tensor=2, sequence=sequence), "llama", tied=False, documents=True),
        },
    )


def test_context_parallel() -> None:
    check(
        2,
        {
            "rotary": Case(layout(context=2)),
            "learned positions": Case(layout(context=2), family="gpt2"),
            "documents": Case(layout(context=2), documents=True),
            "zero": Case(layout(context=2, zero=3)),
        },
    )


@pytest.mark.parametrize(
    "schedule",
    [{"schedule": "gpipe"}, {"schedule": "1f1b"}, {"schedule": "interleaved", "virtual_stages": 2}],
    ids=lambda schedule: str(schedule["schedule"]),
)
def test_pipeline(schedule: dict[str, object]) -> None:
    check(
        2,
        {
            "tied": Case(layout(pipeline=2, **schedule)),
            "untied, documents": Case(layout(pipeline=2, **schedule), "gpt2", tied=False, documents=True),
        },
    )


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputation(recompute: str) -> None:
    again = {"recompute": recompute}
    check(
        2,
        {
            "zero": Case(layout(data=2, zero=3), train=again),
            "tensor": Case(layout(tensor=2), train=again),
            "context": Case(layout(context=2), train=again),
            "pipeline": Case(layout(pipeline=2), train=again),
        },
    )


def test_hybrid() -> None:
    check(
        4,
        {
            "zero 1": Case(layout(data=4, replicate=2, zero=1)),
            "zero 3": Case(layout(data=4, replicate=2, zero=3), family="gpt2"),
        },
    )


def test_tensor_with_data() -> None:
    check(
        4,
        {
            "replicated": Case(layout(tensor=2, data=2)),
            "zero 2": Case(layout(tensor=2, data=2, zero=2), family="gpt2"),
            "zero 3": Case(layout(tensor=2, data=2, zero=3), tied=False),
            "context": Case(layout(tensor=2, context=2), documents=True),
        },
    )


def test_pipeline_with_others() -> None:
    check(
        4,
        {
            "data": Case(layout(pipeline=2, data=2)),
            "zero 3": Case(layout(pipeline=2, data=2, zero=3), family="gpt2", tied=False),
            "interleaved, zero 1": Case(
                layout(pipeline=2, data=2, zero=1, schedule="interleaved", virtual_stages=2)
            ),
            "tensor": Case(layout(pipeline=2, tensor=2)),
            "four stages": Case(layout(pipeline=4)),
        },
    )


def test_context_with_data() -> None:
    check(
        4,
        {
            "replicated": Case(layout(context=2, data=2)),
            "zero 3": Case(layout(context=2, data=2, zero=3), documents=True),
        },
    )
