import contextlib
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.model.registry import assemble
from groundup.plan.models import NAMED, named_shape, parse_shape, parse_size, shape_origin
from groundup.plan.parameters import total
from groundup.shape import Shape

# The sums over the hub's safetensors headers, and the Ultra-Scale Playbook's own figures in billions.
PUBLISHED = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama2-7b": 6_738_415_616,
    "llama2-13b": 13_015_864_320,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3-405b": 405_853_388_800,
}
PLAYBOOK = {"playbook-1b": 1.342e9, "playbook-3b": 3.574e9, "playbook-8b": 8.859e9, "playbook-80b": 79.995e9}
# Table 2.1 of Brown et al. 2020, which rounds; names of models elsewhere that carry their size.
NOMINAL = {
    "gpt3-125m": 125e6, "gpt3-350m": 350e6, "gpt3-760m": 760e6, "gpt3-1.3b": 1.3e9, "gpt3-2.7b": 2.7e9,
    "gpt3-6.7b": 6.7e9, "gpt3-13b": 13e9, "gpt3": 175e9, "smollm2-135m": 135e6, "smollm2-360m": 360e6,
    "smollm2-1.7b": 1.7e9, "llama-33b": 32.5e9, "llama3-1b": 1.24e9, "llama3-3b": 3.21e9, "qwen3-0.6b": 0.6e9,
    "qwen3-1.7b": 1.7e9, "qwen3-4b": 4.0e9, "qwen3-8b": 8.2e9, "qwen3-14b": 14.8e9, "qwen3-32b": 32.8e9,
}  # fmt: skip


def _named(name: str) -> Shape:
    shape = named_shape(name)
    assert shape is not None
    return shape


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_published_counts_are_met_exactly(name: str, published: int) -> None:
    assert total(_named(name)) == published


@pytest.mark.parametrize(("name", "published"), PLAYBOOK.items())
def test_the_playbooks_models_have_its_counts(name: str, published: float) -> None:
    assert total(_named(name)) == pytest.approx(published, abs=0.5e6)


@pytest.mark.parametrize(("name", "nominal"), NOMINAL.items())
def test_the_others_have_the_size_in_their_name(name: str, nominal: float) -> None:
    assert total(_named(name)) == pytest.approx(nominal, rel=0.025)


def test_every_model_is_checked_by_one_of_these() -> None:
    assert {model.name for model in NAMED.values()} == {*PUBLISHED, *PLAYBOOK, *NOMINAL}


@pytest.mark.parametrize("name", ["gpt3", "llama3-1b", "qwen3-0.6b", "playbook-80b"])
def test_torch_counts_the_same(name: str) -> None:
    with torch.device("meta"):
        model = assemble(_named(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == total(_named(name))


@pytest.mark.parametrize(
    ("params", "name"),
    [("7B", "llama2-7b"), ("8b", "llama3-8b"), ("13B", "llama2-13b"), ("70B", "llama3-70b"),
     ("405B", "llama3-405b"), ("135M", "smollm2-135m"), ("6738415616", "llama2-7b")],
)  # fmt: skip
def test_usual_sizes_are_the_published_models(params: str, name: str) -> None:
    assert parse_shape(params, None) == _named(name)
    assert shape_origin(params, None) == name


@settings(max_examples=40, deadline=None)
@given(st.floats(8, 12.7))
def test_any_size_is_met_within_five_percent_in_usual_proportions(exponent: float) -> None:
    params = f"{10**exponent:.3g}"
    shape = parse_shape(params, None)
    assert total(shape) == pytest.approx(float(params), rel=0.05)
    assert shape.width == shape.num_heads * shape.head_width
    assert 12 <= shape.width / shape.num_layers <= 200  # smollm2-135m and llama3-405b have 19 and 130
    assert 1.5 <= shape.feedforward_width / shape.width <= 6
    assert shape.feedforward_width % 64 == 0


def test_a_scaled_shape_says_what_it_is() -> None:
    assert shape_origin("20B", None) == "llama2-13b scaled to 20B"
    assert parse_shape("20B", None).vocabulary_size == _named("llama2-13b").vocabulary_size


def test_a_small_vocabulary_allows_small_models() -> None:
    shape = parse_shape("2M", None, context=256, vocabulary=1024)
    assert total(shape) == pytest.approx(2e6, rel=0.05)
    assert (shape.vocabulary_size, shape.context) == (1024, 256)
    with pytest.raises(UserError, match=r"vocab=\.\."):
        parse_shape("2M", None)


@pytest.mark.parametrize(
    ("text", "size"), [("7B", 7e9), ("7 b", 7e9), (".5b", 5e8), ("350M", 3.5e8), ("1.5T", 1.5e12), ("1e9", 1e9)]
)
def test_sizes(text: str, size: float) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "B", "7X", "-7B", "7BB", "nan", "1e99", "0", "999", "7,0B", "1e16"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="write a number of parameters such as 350M"):
        parse_size(text)


def test_numbers_make_the_published_model() -> None:
    written = "layers=32, width=4096,heads=32,kv=8,ff=14336,vocab=128256,context=8192,tied=false"
    assert total(parse_shape(None, written)) == PUBLISHED["llama3-8b"]
    gpt2 = parse_shape(None, "family=gpt2,layers=12,width=768,heads=12,context=1024")
    assert total(gpt2) == PUBLISHED["gpt2"]


def test_a_published_model_may_be_changed() -> None:
    llama = _named("llama3-8b")
    assert parse_shape(None, "Llama3-8B,context=32768") == llama.model_copy(update={"context": 32_768})
    changed = parse_shape(None, "llama3.1-8b", context=131_072, vocabulary=1000)
    assert changed == llama.model_copy(update={"context": 131_072, "vocabulary_size": 1000})


@pytest.mark.parametrize(
    ("params", "shape", "told"),
    [
        (None, None, "say which model, once"),
        ("7B", "gpt2", "say which model, once"),
        (None, "lama3-8b", "did you mean 'llama3-8b'"),
        (None, "zzz", "known: gpt2,"),
        (None, "", "unknown model ''"),
        (None, "layers=2", "lacks width, heads"),
        (None, "layers=2,width=64,heads=2,depth=3", "no 'depth'; it knows family, layers, width"),
        (None, "layers=2,width=64,heads=2,", "no ''"),
        (None, "layers=2,layers=3,width=64,heads=2", "gives layers twice"),
        (None, "layers=0,width=64,heads=2", "layers=0; write a whole number"),
        (None, "layers=1.5,width=64,heads=2", "layers=1.5; write a whole number"),
        (None, "layers=,width=64,heads=2", "layers=nothing"),
        (None, "layers=2,width=64,heads=3", "width=64, no multiple of heads=3"),
        (None, "layers=2,width=64,heads=4,kv=3", "not a multiple of model.num_kv_heads=3"),
        (None, "layers=2,width=64,heads=2,tied=maybe", "tied=true or tied=false"),
        (None, "family=lama,layers=2,width=64,heads=2", "did you mean 'llama'"),
        (None, "layers=2,width=3,heads=3", "head_width=1 cannot be"),
    ],
)
def test_mistakes_are_told_in_one_line(params: str | None, shape: str | None, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)) as error:
        parse_shape(params, shape)
    assert "\n" not in str(error.value)


@given(st.text(alphabet="layerswidthheadskvff=,0123456789 tuegp", max_size=40))
def test_no_text_gives_another_error(text: str) -> None:
    with contextlib.suppress(UserError):
        assert parse_shape(None, text).num_layers >= 1
