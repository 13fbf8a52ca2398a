"""What a step sends: the figures of the techniques' papers, worked out by hand for a model of known parts."""

from collections import defaultdict

import pytest

from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.parts import device_parts
from groundup.plan.cluster.sent import NumberBytes, bubble_share, step_sent
from groundup.plan.parameters import total
from groundup.shape import Shape

LAYERS, WIDTH, VOCABULARY, CONTEXT, MICRO_BATCH = 4, 128, 1024, 128, 4
SHAPE = Shape(
    family="qwen3",
    num_layers=LAYERS,
    width=WIDTH,
    num_heads=4,
    num_kv_heads=2,
    head_width=32,
    feedforward_width=384,
    vocabulary_size=VOCABULARY,
    context=CONTEXT,
    tied=True,
)
# Of the facts that were measured before there was this code (a 4-block model of 3,674,624 bytes).
STREAM = 4 * MICRO_BATCH * CONTEXT * WIDTH
WHOLE = 4 * total(SHAPE)
# Embedding and last norm.
OUTER = 4 * (VOCABULARY * WIDTH + WIDTH)


def sent(layout: Layout, rank: int = 0, **options: object) -> dict[tuple[str, str], float]:
    """Bytes by kind and axis."""
    bytes_: dict[tuple[str, str], float] = defaultdict(float)
    for row in step_sent(SHAPE, layout, rank, **options):  # type: ignore[arg-type]
        bytes_[row.kind, row.axis] += row.bytes
    return dict(bytes_)


def layout(**sizes: object) -> Layout:
    return Layout(micro_batch=MICRO_BATCH, **{"accumulation": 2, **sizes})  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [2, 4, 8])
def test_data_parallel_sends_twice_its_share_of_the_gradients_once(count: int) -> None:
    expected = 2 * (count - 1) / count * WHOLE
    assert sent(layout(data=count)) == {("all-reduce", "replicate"): pytest.approx(expected)}


def test_gradients_may_travel_in_half_the_bytes() -> None:
    assert sent(layout(data=2), numbers=NumberBytes(gradients=2)) == {
        ("all-reduce", "replicate"): pytest.approx(WHOLE / 2)
    }


@pytest.mark.parametrize(("zero", "reductions"), [(1, 1), (2, 3)])
def test_the_first_stages_of_zero_gather_once(zero: int, reductions: int) -> None:
    assert sent(layout(data=4, zero=zero, accumulation=3)) == {
        ("reduce-scatter", "shard"): pytest.approx(reductions * 3 / 4 * WHOLE),
        ("all-gather", "shard"): pytest.approx(3 / 4 * WHOLE),
    }


def test_zero_3_takes_three_passes_less_what_stays() -> None:
    found = sent(layout(data=2, zero=3, accumulation=1))
    assert sum(found.values()) == pytest.approx((3 * WHOLE - OUTER) / 2)
    assert found["reduce-scatter", "shard"] == pytest.approx(WHOLE / 2)


def test_copies_of_what_is_divided_sum_their_parts() -> None:
    found = sent(layout(data=4, replicate=2, zero=3, accumulation=1))
    assert found["all-reduce", "replicate"] == pytest.approx(WHOLE / 2)
    assert found["reduce-scatter", "shard"] == pytest.approx(WHOLE / 2)


def test_tensor_parallel_meets_twice_a_block_and_at_both_ends() -> None:
    """18 meetings for four blocks, forward and backward, of each of two micro-batches (Megatron-LM)."""
    once = 2 * 18 * STREAM / 2
    assert sent(layout(tensor=2, sequence=False)) == {("all-reduce", "tensor"): pytest.approx(2 * once)}
    assert sent(layout(tensor=2)) == {
        ("all-gather", "tensor"): pytest.approx(once),
        ("reduce-scatter", "tensor"): pytest.approx(once),
    }


def test_what_is_computed_again_is_sent_again_but_for_the_last_sum() -> None:
    found, plain = sent(layout(tensor=2, recompute="full")), sent(layout(tensor=2))
    assert found["all-gather", "tensor"] - plain["all-gather", "tensor"] == 2 * 2 * LAYERS * STREAM / 2
    assert found["reduce-scatter", "tensor"] - plain["reduce-scatter", "tensor"] == 2 * LAYERS * STREAM / 2
    twice, once = (sent(layout(context=2, recompute=what)) for what in ("full", "none"))
    assert twice["all-gather", "context"] == 2 * once["all-gather", "context"]
    assert twice["reduce-scatter", "context"] == once["reduce-scatter", "context"]


def test_values_travel_in_half_the_bytes_but_behind_the_embedding() -> None:
    found = sent(layout(tensor=2), numbers=NumberBytes(values=2))
    assert found["all-gather", "tensor"] == 2 * (17 / 2 + 1) * STREAM / 2


def test_context_parallel_gathers_keys_and_values() -> None:
    found = sent(layout(context=2))
    # Two key/value heads of 32 for keys and as many for values are the width of the stream.
    assert found["all-gather", "context"] == pytest.approx(2 * LAYERS * STREAM / 2)
    assert found["reduce-scatter", "context"] == found["all-gather", "context"]
    assert found["all-reduce", "context"] == pytest.approx(WHOLE)


@pytest.mark.parametrize("stages", [2, 4])
def test_neighbours_pass_on_every_micro_batch(stages: int) -> None:
    found = [sent(layout(pipeline=stages, accumulation=8), rank) for rank in range(stages)]
    borders = sum(row["send", "pipeline"] for row in found) / (8 * STREAM)
    assert borders == pytest.approx(2 * (stages - 1))
    tied = [rank for rank, row in enumerate(found) if ("all-reduce", "pipeline") in row]
    assert tied == [0, stages - 1]
    assert found[0]["all-reduce", "pipeline"] == 4 * VOCABULARY * WIDTH


def test_interleaved_stages_have_more_borders() -> None:
    halves = layout(pipeline=2, schedule="interleaved", virtual_stages=2, accumulation=4)
    assert sent(halves)["send", "pipeline"] == pytest.approx(3 * 4 * STREAM)


def test_muon_gathers_the_matrices_that_are_divided() -> None:
    matrices = WHOLE - OUTER - 4 * LAYERS * (2 * WIDTH + 2 * 32)
    plain = layout(data=2, zero=1)
    more = sent(plain, optimizer="muon")["all-gather", "shard"] - sent(plain)["all-gather", "shard"]
    assert more == pytest.approx(matrices / 2)
    assert sent(layout(data=2), optimizer="muon") == sent(layout(data=2))


def test_muon_gathers_each_matrix_whole_however_it_is_divided() -> None:
    """Of M bytes in parts of 1/8 the other seven come from elsewhere."""
    matrices = WHOLE - OUTER - 4 * LAYERS * (2 * WIDTH + 2 * 32)
    plain = layout(data=4, tensor=2, zero=1)
    more = sum(sent(plain, optimizer="muon").values()) - sum(sent(plain).values())
    assert more == pytest.approx(matrices * 7 / 8)


EXPERTS = SHAPE.model_copy(update={"family": "qwen3_moe", "num_experts": 8, "experts_per_token": 2})


def test_tokens_travel_to_their_experts_and_back() -> None:
    """Two copies of each token, there and back, forward and backward; three quarters leave the process."""
    found = {row.purpose: row for row in step_sent(EXPERTS, layout(data=4, expert=4), 0)}
    tokens = found["tokens of experts"]
    assert (tokens.kind, tokens.axis) == ("all-to-all", "expert")
    assert tokens.bytes == pytest.approx(4 * 2 * LAYERS * 3 / 4 * 2 * STREAM)
    experts = 4 * LAYERS * 8 * 3 * WIDTH * 192
    assert "gradients of experts" not in found
    assert found["gradients"].bytes == pytest.approx(2 * 3 / 4 * (4 * total(EXPERTS) - experts))


def test_experts_are_averaged_among_those_that_have_them() -> None:
    found = {(row.purpose, row.kind): row for row in step_sent(EXPERTS, layout(data=4, expert=2, zero=1), 0)}
    experts = 4 * LAYERS * 8 * 3 * WIDTH * 192 / 2
    for row in (found["gradients of experts", "reduce-scatter"], found["weights of experts", "all-gather"]):
        assert (row.axis, row.bytes) == ("shard", pytest.approx(experts / 2))
    rest = found["weights", "all-gather"]
    assert (rest.axis, rest.bytes) == ("shard+expert", pytest.approx(3 / 4 * (4 * total(EXPERTS) - 2 * experts)))


@pytest.mark.parametrize(("stages", "micro_batches", "share"), [(2, 4, 1 / 5), (4, 4, 3 / 7), (8, 32, 7 / 39)])
def test_the_bubble(stages: int, micro_batches: int, share: float) -> None:
    plain = layout(pipeline=stages, accumulation=micro_batches)
    assert bubble_share(plain) == pytest.approx(share)
    divided = layout(pipeline=stages, accumulation=micro_batches, schedule="interleaved", virtual_stages=2)
    assert bubble_share(divided) < share


@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_parts_of_all_devices_are_the_model(family: str, tied: bool) -> None:
    shape = SHAPE.model_copy(update={"family": family, "tied": tied, "num_kv_heads": 4})
    alone = device_parts(shape, Layout(), 0)
    assert sum(part.parameters for part in alone) == total(shape)
    piped = [part for rank in (0, 1) for part in device_parts(shape, Layout(pipeline=2), rank)]
    twice = VOCABULARY * WIDTH if tied else 0
    assert sum(part.parameters for part in piped) == total(shape) + twice
