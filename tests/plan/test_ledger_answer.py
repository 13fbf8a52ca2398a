from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from groundup.model.registry import assemble
from groundup.plan.figures import Answer
from groundup.plan.flops import forward_flops_by_part, train_flops_per_token
from groundup.plan.ledger_answer import ledger_answer, stored_answer
from groundup.plan.models import named_shape
from groundup.plan.parameters import ledger, total
from groundup.plan.stored import StoredTensor
from groundup.plan.tensors import product_matrices
from groundup.shape import Shape
from tests.plan.formulas import check_formulas


def _ledger(name: str, length: int | None = None) -> Answer:
    shape = named_shape(name)
    assert shape is not None
    return ledger_answer(shape, name, length)


def _rows(answer: Answer, table: str, key: str) -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in answer.as_json()[table]}


def test_gpt3_as_textbooks_count_it() -> None:
    """175,181,291,520 in eight categories (3Blue1Brown, "Transformers, explained visually"; Brown et al. 2020)."""
    answer = _ledger("gpt3")
    matrices = _rows(answer, "matrices", "category")
    assert {name: row["parameters"] for name, row in matrices.items()} == {
        "embedding": 617_558_016,
        **dict.fromkeys(("query", "key", "value", "output"), 14_495_514_624),
        "up": 57_982_058_496,
        "down": 57_982_058_496,
        "unembedding": 617_558_016,
    }
    values = answer.as_json()
    assert values["matrix_parameters"] == 175_181_291_520
    heads = _rows(answer, "heads", "category")
    assert (heads["query"]["size"], heads["output"]["size"]) == ("128 × 12,288", "12,288 × 128")
    assert {row["parameters"] for row in heads.values()} == {1_572_864}
    assert {row["matrices"] for row in heads.values()} == {96 * 96}
    assert matrices["up"]["size"] == "49,152 × 12,288"
    # Attention a third, feed-forward two thirds.
    attention = sum(matrices[name]["share"] for name in ("query", "key", "value", "output"))
    assert attention == pytest.approx(0.331, abs=5e-4)
    assert matrices["up"]["share"] + matrices["down"]["share"] == pytest.approx(0.662, abs=5e-4)


def test_the_three_ways_of_counting_gpt3s_matrices() -> None:
    """3Blue1Brown's 27,938 cuts query, key and value by head, but not the output."""
    values = _ledger("gpt3").as_json()
    counted = [values[name] for name in ("matrix_count", "matrix_count_split", "matrix_count_all_split")]
    assert counted == [578, 27_938, 37_058]
    assert all(f"{count:,}" in " ".join(values["notes"]) for count in counted)


def test_why_gpt3_has_fewer_parameters_than_its_matrices() -> None:
    values = _ledger("gpt3").as_json()
    assert values["parameters"] == 174_604_259_328
    assert (
        "174,604,259,328 parameters = 175,181,291,520 in the matrices"
        " - 617,558,016 (unembedding, which is the embedding transposed) + 25,165,824 (learned positions)"
        " + 4,743,168 (norms) + 10,616,832 (biases)"
    ) in values["notes"]


@pytest.mark.parametrize("name", ["gpt2", "llama3-8b", "llama2-70b", "qwen3-0.6b", "qwen3-32b"])
def test_tables_add_up_and_bytes_follow(name: str) -> None:
    answer = _ledger(name)
    values, shape = answer.as_json(), named_shape(name)
    assert shape is not None
    assert sum(row["parameters"] for row in values["weights"]) == values["parameters"] == total(shape)
    assert sum(row["parameters"] for row in values["matrices"]) == values["matrix_parameters"]
    for table in ("weights", "matrices", "flops"):
        assert sum(row["share"] for row in values[table]) == pytest.approx(1)
    assert sum(row["train_flops"] for row in values["flops"]) == values["train_flops_per_token"]
    expected = [size * total(shape) for size in (4, 2, 1, 0.5)]
    assert [values[f"{kind}_bytes"] for kind in ("fp32", "bf16", "int8", "int4")] == expected


@pytest.mark.parametrize(
    ("name", "cache_bytes"),
    # 128 KiB for Llama 3 8B, 320 KiB for 70B (8 key/value heads of 128); 0.5 MiB for Llama 2 7B (no groups).
    [("llama3-8b", 128 << 10), ("llama3-70b", 320 << 10), ("llama2-7b", 512 << 10), ("gpt2", 36 << 10)],
)
def test_the_cache_of_a_token(name: str, cache_bytes: int) -> None:
    assert _ledger(name).as_json()["kv_cache_bytes_per_token"] == cache_bytes
    assert _ledger(name, length=1000).as_json()["kv_cache_bytes"] == 1000 * cache_bytes


def test_gpt3s_training_cost_is_the_published_one() -> None:
    """Brown et al. 2020, table D.1: 3.14e23 operations for 300 billion tokens, attention's scores left out."""
    answer = _ledger("gpt3", length=1)
    assert answer.as_json()["train_flops_per_token"] * 300e9 == pytest.approx(3.14e23, rel=0.005)


@pytest.mark.parametrize("model", ["gpt2", "gpt3", "llama3-8b", "qwen3-0.6b"])
def test_every_formula_gives_its_figure(model: str) -> None:
    assert check_formulas(_ledger(model, 777).figures) >= 10


@st.composite
def _shapes(draw: st.DrawFn) -> Shape:
    family = draw(st.sampled_from(["gpt2", "llama", "qwen3"]))
    kv_heads, group = draw(st.integers(1, 3)), 1 if family == "gpt2" else draw(st.integers(1, 3))
    heads, head_width = kv_heads * group, 2 * draw(st.integers(1, 6))
    return Shape(
        family=family,
        num_layers=draw(st.integers(1, 3)),
        width=heads * head_width if family == "gpt2" else draw(st.integers(1, 40)),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_width=head_width,
        feedforward_width=draw(st.integers(1, 50)),
        vocabulary_size=draw(st.integers(2, 90)),
        context=draw(st.integers(2, 24)),
        tied=draw(st.booleans()),
    )


@settings(max_examples=40, deadline=None)
@given(_shapes(), st.integers(1, 3))
def test_operations_are_those_that_torch_counts_in_every_shape(shape: Shape, batch: int) -> None:
    """Forward and backward, exactly: asked for twice the length, whose half is the whole square of scores."""
    model = assemble(shape)
    model.to_empty(device="cpu")
    model.double()
    ids = torch.zeros(batch, shape.context, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        loss = F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
        by_operator = Counter({str(name): count for name, count in counter.get_flop_counts()["Global"].items()})
        loss.backward()
        counted = counter.get_total_flops()
    tokens, square = batch * shape.context, 2 * shape.context
    assert tokens * train_flops_per_token(shape, square) == counted
    # Of the parts, the batched products are the scores and the weighted sum.
    parts = forward_flops_by_part(shape, square)
    batched = tokens * (parts["attention scores"] + parts["weighted sum"])
    assert by_operator["aten.bmm"] == batched


@settings(max_examples=60, deadline=None)
@given(_shapes())
def test_any_shapes_ledger_is_consistent(shape: Shape) -> None:
    values = ledger_answer(shape, "any").as_json()
    assert sum(row["parameters"] for row in values["weights"]) == sum(ledger(shape).values())
    assert values["matrices"] and values["matrix_parameters"] == sum(
        matrix.parameters for matrix in product_matrices(shape).values()
    )
    note = values["notes"][0].replace(",", "")
    terms = [int(word) for word in note.replace("- ", "-").replace("+ ", "").split() if word.lstrip("-").isdigit()]
    assert terms[0] == sum(terms[1:])


def _stored(name: str, *dimensions: int, dtype: str = "F32") -> StoredTensor:
    tensor = StoredTensor(name, dimensions, dtype, 0)
    return StoredTensor(name, dimensions, dtype, 4 * tensor.parameters)


def test_an_unknown_file_is_counted_by_pattern() -> None:
    """Numbers between dots are layers or experts; masks and rotary tables are no parameters."""
    tensors = [
        *(
            _stored(f"model.layers.{layer}.experts.{expert}.w1.weight", 8, 4)
            for layer in range(12)
            for expert in (0, 1)
        ),
        *(_stored(f"model.layers.{layer}.rotary_emb.inv_freq", 2) for layer in range(12)),
        _stored("model.layers.11.mixer.A_log", 4),
        _stored("conv1.weight", 3),
        _stored("h.0.attn.bias", 1, 1, 16, 16),
    ]
    values = stored_answer(tensors, "a file", "model_type='moe' is not known").as_json()
    assert values["parameters"] == 24 * 32 + 4 + 3
    assert values["stored_bytes"] == 4 * values["parameters"]
    rows = {row["pattern"]: (row["copies"], row["size"], row["parameters"]) for row in values["weights"]}
    assert rows == {
        "model.layers.{i}.experts.{i}.w1.weight": (24, "8 × 4", 768),
        "model.layers.{i}.mixer.A_log": (1, "4", 4),
        "conv1.weight": (1, "3", 3),
    }


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (0, "hold exactly these 124,439,808 parameters"),
        (50_257 * 768, "the tied unembedding is stored beside the embedding"),
        (7, "hold 124,439,815 parameters, +7 against the configuration's 124,439,808"),
    ],
)
def test_files_are_compared_with_the_configuration(extra: int, told: str) -> None:
    shape = named_shape("gpt2")
    assert shape is not None
    stored = [_stored("all", 124_439_808), _stored("more", extra)]
    assert told in ledger_answer(shape, "gpt2", stored=stored).notes[-1]


def test_the_ledger_of_a_mixture_tells_what_a_token_meets() -> None:
    """Counted on the model: 3 of 12 experts, and all the rest."""
    numbers = {"num_layers": 2, "width": 48, "num_heads": 4, "num_kv_heads": 2, "head_width": 12}
    experts = {"feedforward_width": 60, "num_experts": 12, "experts_per_token": 3}
    shape = Shape(family="qwen3_moe", vocabulary_size=97, context=32, **numbers, **experts)
    answer = ledger_answer(shape, "a mixture")
    counted = sum(
        parameter.numel() * (0.25 if ".experts." in name else 1)
        for name, parameter in assemble(shape).named_parameters()
    )
    figures = {figure.name: figure.value for figure in answer.figures}
    assert figures["active_parameters"] == counted
    assert check_formulas(answer.figures)
    rows = _rows(answer, "matrices", "category")
    assert (rows["gate"]["matrices"], rows["gate"]["parameters"]) == (2 * 12, 2 * 12 * 20 * 48)
