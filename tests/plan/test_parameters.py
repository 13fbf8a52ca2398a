from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.model.registry import assemble
from groundup.plan.parameters import CATEGORIES, active, active_non_embedding, ledger, non_embedding, total
from groundup.shape import FAMILIES, Shape


@st.composite
def _shapes(draw: st.DrawFn) -> Shape:
    family = draw(st.sampled_from(["gpt1", "gpt2", "llama", "qwen3", "qwen3_moe"]))
    grouped = FAMILIES[family].grouped_query
    kv_heads, group = draw(st.integers(1, 5)), draw(st.integers(1, 4)) if grouped else 1
    heads, head_width = kv_heads * group, 2 * draw(st.integers(1, 8))
    experts: dict[str, int] = {}
    if family == "qwen3_moe":
        experts["num_experts"] = draw(st.integers(1, 6))
        experts["experts_per_token"] = draw(st.integers(1, experts["num_experts"]))
    return Shape(
        family=family,
        **experts,
        num_layers=draw(st.integers(1, 4)),
        width=draw(st.integers(1, 70)) if grouped else heads * head_width,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_width=head_width,
        feedforward_width=draw(st.integers(1, 90)) * experts.get("experts_per_token", 1),
        vocabulary_size=draw(st.integers(1, 300)),
        context=draw(st.integers(1, 100)),
        tied=draw(st.booleans()),
    )


def _category(name: str) -> str:
    """The ledger's category of a parameter of the model, from its name."""
    parts = name.split(".")
    if any(part.endswith("norm") for part in parts):
        return "norm"
    return "position" if parts[0] == "positions" else parts[-2]


@settings(max_examples=120, deadline=None)
@given(_shapes())
def test_each_category_is_what_torch_counts(shape: Shape) -> None:
    counted = dict.fromkeys(CATEGORIES, 0)
    model = assemble(shape)
    for name, parameter in model.named_parameters():
        counted[_category(name)] += parameter.numel()
    assert ledger(shape) == counted
    assert total(shape) == sum(parameter.numel() for parameter in model.parameters())
    in_blocks = [*model.blocks.parameters(), *model.norm.parameters()]
    assert non_embedding(shape) == sum(parameter.numel() for parameter in in_blocks)


def _llama(layers: int, width: int, heads: int, kv_heads: int, feedforward: int, vocabulary: int) -> Shape:
    numbers: dict[str, Any] = {"num_layers": layers, "width": width, "num_heads": heads, "num_kv_heads": kv_heads}
    return Shape(
        family="llama",
        head_width=128,
        feedforward_width=feedforward,
        vocabulary_size=vocabulary,
        context=4096,
        tied=False,
        **numbers,
    )


def _gpt2(layers: int, width: int) -> Shape:
    return Shape(
        family="gpt2",
        num_layers=layers,
        width=width,
        num_heads=width // 64,
        num_kv_heads=width // 64,
        head_width=64,
        feedforward_width=4 * width,
        vocabulary_size=50_257,
        context=1024,
    )


_QWEN3_30B_A3B = Shape(
    family="qwen3_moe",
    num_layers=48,
    width=2048,
    num_heads=32,
    num_kv_heads=4,
    head_width=128,
    feedforward_width=8 * 768,
    vocabulary_size=151_936,
    context=40_960,
    tied=False,
    num_experts=128,
    experts_per_token=8,
)


def test_a_token_meets_its_own_experts_alone() -> None:
    """Qwen3-30B-A3B has 30.5 billion parameters, of which 3.3 billion are active (its model card)."""
    assert total(_QWEN3_30B_A3B) / 1e9 == pytest.approx(30.5, abs=0.05)
    assert active(_QWEN3_30B_A3B) / 1e9 == pytest.approx(3.3, abs=0.06)
    assert active_non_embedding(_QWEN3_30B_A3B) == active(_QWEN3_30B_A3B) - 2 * 151_936 * 2048
    dense = _gpt2(12, 768)
    assert (active(dense), active_non_embedding(dense)) == (total(dense), non_embedding(dense))


@pytest.mark.parametrize(
    ("shape", "published"),
    [
        (_gpt2(12, 768), 124_439_808),
        (_gpt2(24, 1024), 354_823_168),
        (_gpt2(36, 1280), 774_030_080),
        (_gpt2(48, 1600), 1_557_611_200),
        (_llama(32, 4096, 32, 32, 11_008, 32_000), 6_738_415_616),
        (_llama(32, 4096, 32, 8, 14_336, 128_256), 8_030_261_248),
        (_llama(80, 8192, 64, 8, 28_672, 32_000), 68_976_648_192),
        (_llama(126, 16_384, 128, 8, 53_248, 128_256), 405_853_388_800),
        (_QWEN3_30B_A3B, 30_532_122_624),
    ],
    ids=[
        "gpt2",
        "gpt2-medium",
        "gpt2-large",
        "gpt2-xl",
        "Llama-2-7B",
        "Llama-3.1-8B",
        "Llama-2-70B",
        "Llama-3.1-405B",
        "Qwen3-30B-A3B",
    ],
)
def test_known_models_have_their_published_number(shape: Shape, published: int) -> None:
    """The sum over the hub's safetensors headers of each."""
    assert total(shape) == published
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in assemble(shape).parameters()) == published
