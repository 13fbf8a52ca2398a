from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from groundup.errors import UserError
from groundup.interop.xlnet import FORMAT
from groundup.model import folder as model_folder
from groundup.model.families.xlnet import XLNet
from groundup.model.registry import assemble_any, build_any
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer

from .conftest import END_OF_TEXT, randomise

VOCABULARY, LENGTH = 67, 20


def _shape(**changes: Any) -> Shape:
    numbers: dict[str, Any] = {
        "num_layers": 3,
        "width": 32,
        "num_heads": 4,
        "num_kv_heads": 4,
        "head_width": 8,
        "feedforward_width": 72,
        "vocabulary_size": VOCABULARY,
        "context": 2 * LENGTH,
        "norm_epsilon": 1e-12,
    }
    return Shape(family="xlnet", **numbers | changes)


class Pair(NamedTuple):
    ours: XLNet
    theirs: transformers.XLNetLMHeadModel


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """One model twice, with random weights everywhere."""
    shape = _shape(tied=request.param)
    config = transformers.XLNetConfig.from_dict(FORMAT.to_config(shape, {END_OF_TEXT: 0}))
    theirs = transformers.XLNetLMHeadModel(config).eval()
    randomise(theirs)
    ours = build_any(shape).eval()
    assert isinstance(ours, XLNet)
    ours.load_state_dict(FORMAT.from_tensors(shape, theirs.state_dict()))
    return Pair(ours, theirs)


class Given(NamedTuple):
    """Two rows; 0 in `perm_mask` where a token may look at another, as transformers has it."""

    ids: Tensor
    perm_mask: Tensor
    positions: Tensor
    segments: Tensor

    @property
    def theirs(self) -> dict[str, Tensor]:
        return {
            "perm_mask": self.perm_mask,
            "target_mapping": F.one_hot(self.positions, LENGTH).float(),
            "token_type_ids": self.segments,
            "labels": self.ids.gather(1, self.positions),
        }


def _given(seed: int) -> Given:
    random = torch.Generator().manual_seed(seed)
    perm_mask = (torch.rand(2, LENGTH, LENGTH, generator=random) < 0.5).float()
    perm_mask[:, :, seed] = 0  # each sees something
    return Given(
        torch.randint(0, VOCABULARY, (2, LENGTH), generator=random),
        perm_mask,
        torch.tensor([[3, 7, 19, 1], [4, 19, 0, 2]]),
        torch.randint(0, 2, (2, LENGTH), generator=random),
    )


def _largest_difference(left: Tensor, right: Tensor) -> float:
    assert left.shape == right.shape
    return float((left - right).detach().abs().max())


@torch.no_grad()
def test_without_an_order_logits_are_those_of_transformers(pair: Pair) -> None:
    """The content stream alone: each token sees all; also beside padding, which stands behind a text."""
    ids = _given(0).ids
    theirs = pair.theirs(ids).logits
    assert theirs.std() > 0.1  # a model that says something
    assert _largest_difference(pair.ours(ids), theirs) < 1e-5
    keep = torch.arange(LENGTH) < torch.tensor([[13], [LENGTH]])
    ours = pair.ours.unembed(pair.ours.text_features(ids, keep))
    theirs = pair.theirs(ids, attention_mask=keep.float()).logits
    assert _largest_difference(ours[keep], theirs[keep]) < 1e-5


def test_two_streams_and_a_memory_are_those_of_transformers(pair: Pair) -> None:
    """Logits and loss of targets in a text and in the one behind it, the memory, and all gradients."""
    first, second = _given(0), _given(1)
    theirs_first = pair.theirs(first.ids, use_mems=True, **first.theirs)
    features, memory = pair.ours.streams(first.ids, first.perm_mask == 0, first.positions, first.segments)
    logits = pair.ours.unembed(features)
    assert _largest_difference(logits, theirs_first.logits) < 1e-5
    for ours, theirs in zip(memory, theirs_first.mems, strict=True):
        assert _largest_difference(ours, theirs.transpose(0, 1)) < 1e-5
    theirs_second = pair.theirs(second.ids, mems=theirs_first.mems, use_mems=True, **second.theirs)
    visible = F.pad(second.perm_mask == 0, (LENGTH, 0), value=True)
    segments = torch.cat([torch.zeros_like(second.segments), second.segments], dim=1)  # as transformers takes it
    logits_second = pair.ours(second.ids, visible, second.positions, segments, memory)
    assert _largest_difference(logits_second, theirs_second.logits) < 1e-5
    without = pair.ours(second.ids, second.perm_mask == 0, second.positions, second.segments)
    assert _largest_difference(without, logits_second) > 0.01

    loss = torch.zeros(())
    for row, said, answer in ((first, logits, theirs_first), (second, logits_second, theirs_second)):
        one = F.cross_entropy(said.flatten(0, 1), row.theirs["labels"].flatten())
        assert abs(float((one - answer.loss).detach())) < 1e-5
        loss = loss + one
    loss.backward()
    (theirs_first.loss + theirs_second.loss).backward()
    found = FORMAT.to_tensors(pair.ours.shape, {name: value.grad for name, value in pair.ours.named_parameters()})
    expected = {name: value.grad for name, value in pair.theirs.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient is not None and gradient.any(), name
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


def test_a_folder_written_by_transformers_loads(pair: Pair, tmp_path: Path) -> None:
    pair.theirs.save_pretrained(tmp_path)
    loaded = model_folder.load_weights(tmp_path)
    assert isinstance(loaded, XLNet) and not loaded.training
    assert loaded.shape == pair.ours.shape
    ids = _given(0).ids
    with torch.no_grad():
        assert _largest_difference(loaded(ids), pair.theirs(ids).logits) < 1e-5


def test_transformers_loads_our_folder(pair: Pair, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model_folder.save(tmp_path / "model", pair.ours, tokenizer, "# a card\n", {})
    opened, information = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert type(opened) is transformers.XLNetLMHeadModel
    assert not any(information.values()), information
    ids = _given(0).ids
    with torch.no_grad():
        assert _largest_difference(opened.eval()(ids).logits, pair.ours(ids)) < 1e-5


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 11), st.integers(1, 4), st.integers(1, 5), st.booleans(), st.booleans(), st.floats(1e-12, 0.1)
)
def test_config_and_tensors_go_there_and_back(
    num_layers: int, heads: int, half: int, tied: bool, recurrence: bool, epsilon: float
) -> None:
    shape = _shape(
        num_layers=num_layers,
        width=2 * half * heads,
        num_heads=heads,
        num_kv_heads=heads,
        head_width=2 * half,
        tied=tied,
        norm_epsilon=epsilon,
        dropout=0.25,
        options={} if recurrence else {"recurrence": False},
    )
    assert FORMAT.from_config(FORMAT.to_config(shape, {END_OF_TEXT: 3})) == shape
    state = {name: torch.randn(value.shape) for name, value in assemble_any(shape).state_dict().items()}
    there = FORMAT.to_tensors(shape, state)
    back = FORMAT.from_tensors(shape, there)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())
    assert all(value.is_contiguous() for value in there.values())


def test_a_config_of_others_has_the_context_of_their_training() -> None:
    """The settings of the hub's xlnet-base-cased."""
    config = {"model_type": "xlnet", "attn_type": "bi", "bi_data": False, "clamp_len": -1, "d_head": 64}
    config |= {"d_inner": 3072, "d_model": 768, "dropout": 0.1, "ff_activation": "gelu", "layer_norm_eps": 1e-12}
    config |= {"mem_len": None, "n_head": 12, "n_layer": 12, "same_length": False, "untie_r": True}
    shape = FORMAT.from_config(config | {"vocab_size": 32_000})
    assert (shape.context, shape.options, shape.tied) == (512, {"recurrence": False}, True)
    parameters = sum(parameter.numel() for parameter in assemble_any(shape).parameters())
    with torch.device("meta"):
        theirs = transformers.XLNetLMHeadModel(transformers.XLNetConfig.from_dict(config | {"vocab_size": 32_000}))
    assert parameters == sum(parameter.numel() for parameter in theirs.parameters())


@pytest.mark.parametrize("setting", [{"ff_activation": "relu"}, {"attn_type": "uni"}, {"clamp_len": 3}])
def test_settings_that_change_the_result_are_refused(setting: dict[str, Any]) -> None:
    config = FORMAT.to_config(_shape(), {END_OF_TEXT: 0})
    logits = []
    for extra in ({}, setting):
        theirs = transformers.XLNetLMHeadModel(transformers.XLNetConfig.from_dict(config | extra)).eval()
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.normal_()
            logits.append(theirs(_given(0).ids).logits)
    assert _largest_difference(*logits) > 0.01
    with pytest.raises(UserError, match=next(iter(setting))):
        FORMAT.from_config(config | setting)


def test_a_body_without_its_head_is_refused(pair: Pair) -> None:
    with pytest.raises(UserError, match="XLNetLMHeadModel"):
        FORMAT.from_tensors(pair.ours.shape, pair.theirs.transformer.state_dict())
