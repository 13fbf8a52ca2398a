"""Activations against the closed forms of Korthikanti et al. 2022 and the Ultra-Scale Playbook's calculator."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.plan.cluster.activations import in_flight, layer_bytes, logits
from groundup.plan.cluster.layout import Layout
from groundup.shape import Shape


def _gpt(width: int, heads: int, length: int) -> Shape:
    return Shape(
        family="gpt2",
        num_layers=4,
        width=width,
        num_heads=heads,
        num_kv_heads=heads,
        head_width=width // heads,
        feedforward_width=4 * width,
        vocabulary_size=51_200,
        context=length,
    )


_HEADS = st.sampled_from([8, 16, 96])
_LENGTHS = st.sampled_from([512, 2048, 4096])
_BATCHES, _TENSORS = st.integers(1, 8), st.sampled_from([1, 2, 4, 8])


@given(_HEADS, _LENGTHS, _BATCHES, _TENSORS)
def test_the_closed_forms_of_korthikanti(a: int, s: int, b: int, t: int) -> None:
    """Table 2 of arXiv:2205.05198, in 16 bits with dropout: none, tensor, with sequence, selective, full."""
    h = 128 * a
    shape, sbh = _gpt(h, a, s), s * b * h
    scores = 5 * a * s / h
    one, plain = Layout(micro_batch=b), Layout(micro_batch=b, tensor=t, sequence=False)
    sequence = Layout(micro_batch=b, tensor=t)

    def kept(layout: Layout, recompute: str = "none") -> float:
        return layer_bytes(shape, layout, recompute=recompute, flash=False, dropout=True)

    assert kept(one) == pytest.approx(sbh * (34 + scores))
    assert kept(plain) == pytest.approx(sbh * (10 + 24 / t + scores / t))
    assert kept(sequence) == pytest.approx(sbh * (34 / t + scores / t))
    assert kept(plain, "selective") == pytest.approx(sbh * (10 + 24 / t))
    assert kept(sequence, "selective") == pytest.approx(sbh * 34 / t)
    assert kept(one, "full") == kept(plain, "full") == 2 * sbh


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("t", [1, 4])
def test_other_precisions_are_those_of_the_playbook(size: int, t: int) -> None:
    """`activationMemory` of its calculator: attention s b h (5B + 1) + (2B + 1) a s^2 b, two norms, GELU."""
    h, a, s, b = 2048, 16, 1024, 3
    attention = s * b * h * (5 * size + 1) + (2 * size + 1) * a * s * s * b
    feedforward = s * b * h * size + 2 * s * b * 4 * h * size + s * b * h
    norms = 2 * s * b * h * size
    found = layer_bytes(
        _gpt(h, a, s), Layout(micro_batch=b, tensor=t), flash=False, dropout=True, value_bytes=size
    )
    assert found == pytest.approx((attention + feedforward + norms) / t)


def test_a_gated_layer_keeps_three_hidden_values_more_than_relu() -> None:
    """The Playbook's calculator: B s b F for ReLU, three more of them for SwiGLU; no dropout in Llama."""
    b, s, h, f, heads, kv = 2, 4096, 4096, 14_336, 32, 8
    shape = Shape(
        family="llama",
        num_layers=32,
        width=h,
        num_heads=heads,
        num_kv_heads=kv,
        head_width=128,
        feedforward_width=f,
        vocabulary_size=128_256,
        context=s,
    )
    norms, attention = 4 * s * b * h, s * b * (2 * h + 2 * (h + 2 * kv * 128) + 2 * h)
    feedforward = s * b * (2 * h + 2 * f + 3 * 2 * f)
    sums_of_rows = 4 * s * b * heads
    assert layer_bytes(shape, Layout(micro_batch=b)) == norms + attention + feedforward + sums_of_rows


def test_the_savings_of_selective_recomputation_in_the_paper() -> None:
    """Section 5: 5as/h is 80 for GPT-3 and 64 for 530B: 70 % and 65 % of what is kept."""
    for h, a, saved in ((12_288, 96, 80 / 114), (20_480, 128, 64 / 98)):
        shape = _gpt(h, a, 2048)
        all_kept, selective = (
            layer_bytes(shape, Layout(), recompute=how, flash=False, dropout=True) for how in ("none", "selective")
        )
        assert 1 - selective / all_kept == pytest.approx(saved)


@given(_HEADS, _BATCHES, st.sampled_from([1, 2, 4, 8]))
def test_context_parallelism_divides_tokens(a: int, b: int, c: int) -> None:
    shape = _gpt(128 * a, a, 4096)
    whole, part = (Layout(micro_batch=b, context=size) for size in (1, c))
    for flash in (True, False):
        assert layer_bytes(shape, part, flash=flash) == pytest.approx(layer_bytes(shape, whole, flash=flash) / c)
    assert logits(shape, part) == pytest.approx(logits(shape, whole) / c)


def test_micro_batches_in_flight() -> None:
    """1F1B: min(p - i, m); GPipe: m; interleaved: p (1 + (p-1)/(p v)) on the first stage (Korthikanti, 4.2.3)."""
    plain = Layout(pipeline=4, accumulation=16)
    assert [in_flight(plain, stage) for stage in range(4)] == [4, 3, 2, 1]
    assert [in_flight(Layout(pipeline=4, accumulation=2), stage) for stage in range(4)] == [2, 2, 2, 1]
    assert in_flight(Layout(pipeline=4, accumulation=16, schedule="gpipe"), 3) == 16
    for p, v in ((4, 2), (8, 4)):
        interleaved = Layout(pipeline=p, accumulation=64, schedule="interleaved", virtual_stages=v)
        assert in_flight(interleaved, 0) == pytest.approx(p * (1 + (p - 1) / (p * v)))
