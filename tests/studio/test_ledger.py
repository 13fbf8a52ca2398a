import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.plan.parameters import ledger
from groundup.plan.tensors import tensors_of
from groundup.studio.ledger import ledger_rows

from .fake_run import shape


@given(
    family=st.sampled_from(["gpt2", "llama", "qwen3"]),
    layers=st.integers(1, 7),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 4),
    half_head=st.integers(1, 40),
    inner=st.integers(1, 999),
    vocabulary=st.integers(1, 9999),
    context=st.integers(1, 999),
    tied=st.booleans(),
)
def test_the_tensors_hold_the_parameters_that_the_planner_counts(
    family, layers, kv_heads, group, half_head, inner, vocabulary, context, tied
):
    heads, head_width = kv_heads * group, 2 * half_head
    is_gpt2 = family == "gpt2"
    model = shape(
        family=family, num_layers=layers, width=heads * head_width if is_gpt2 else 7 * inner, num_heads=heads,
        num_kv_heads=heads if is_gpt2 else kv_heads, head_width=head_width, feedforward_width=inner,
        vocabulary_size=vocabulary, context=context, tied=tied,
    )  # fmt: skip
    held = {name: sum(item.parameters for item in tensors) for name, tensors in tensors_of(model).items()}
    assert held == ledger(model)
    rows = ledger_rows(model)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert {row["name"]: row["parameters"] for row in rows} == {name: n for name, n in held.items() if n}


def test_tensors_are_written_as_copies_and_dimensions():
    rows = {row["name"]: row for row in ledger_rows(shape())}
    assert rows["embedding"]["tensors"] == ["600 × 192"]
    assert rows["key"]["tensors"] == ["4 of 64 × 192"]
    assert rows["norm"]["tensors"] == ["9 of 192", "8 of 64"]
    assert "unembedding" not in rows
