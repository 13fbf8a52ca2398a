import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from groundup.errors import UserError
from groundup.interop.t5 import FORMAT
from groundup.model import folder as model_folder
from groundup.model.encoder_decoder import EncoderDecoder
from groundup.model.position_bias import RelativeBias
from groundup.model.registry import assemble_any, build_any
from groundup.objective import OBJECTIVES, Setting
from groundup.serve.beam import Search, beam_search
from groundup.shape import FAMILIES, Shape
from groundup.tokenizer import Tokenizer

from .conftest import randomise

SPECIAL = {"<|endoftext|>": 1, "<|sep|>": 2, "<|pad|>": 0}
_NUMBERS = {"num_layers": 3, "width": 32, "num_heads": 4, "num_kv_heads": 4, "head_width": 6, "context": 40}
SHAPES = {
    "1.0": _NUMBERS | {"feedforward_width": 40, "vocabulary_size": 300},
    "1.1": _NUMBERS
    | {"feedforward_width": 56, "vocabulary_size": 300, "tied": False, "norm_epsilon": 1e-4, "dropout": 0.2}
    | {"options": {"gated": True, "decoder_layers": 2, "num_buckets": 8, "max_distance": 20}},
}


class Pair(NamedTuple):
    ours: EncoderDecoder
    theirs: transformers.T5ForConditionalGeneration


def _largest_difference(left: torch.Tensor, right: torch.Tensor) -> float:
    assert left.shape == right.shape
    return float((left - right).detach().abs().max())


@pytest.fixture(params=sorted(SHAPES))
def pair(request: pytest.FixtureRequest) -> Pair:
    shape = Shape(family="t5", **SHAPES[request.param])
    config = transformers.T5Config.from_dict(FORMAT.to_config(shape, SPECIAL))
    theirs = transformers.T5ForConditionalGeneration(config).eval()
    if not shape.tied:  # transformers 5 ties what it makes anew
        theirs.lm_head.weight = torch.nn.Parameter(torch.zeros(300, 32))
    with torch.no_grad():  # theirs starts from the global generator
        for parameter in theirs.parameters():
            parameter.fill_(1.0 if parameter.dim() == 1 else 0.0)
    randomise(theirs)
    ours = build_any(shape).eval()
    assert isinstance(ours, EncoderDecoder)
    ours.load_state_dict(FORMAT.from_tensors(shape, theirs.state_dict()))
    return Pair(ours, theirs)


SOURCE = torch.randint(3, 300, (3, 30), generator=torch.Generator().manual_seed(1))
TARGET = torch.randint(3, 300, (3, 12), generator=torch.Generator().manual_seed(2))
KEEP = torch.arange(30) < torch.tensor([[30], [17], [4]])


def _theirs(model: Any, **changes: Any) -> Any:
    return model(input_ids=SOURCE, attention_mask=KEEP.long(), **{"decoder_input_ids": TARGET} | changes)


def test_logits_are_those_of_transformers(pair: Pair) -> None:
    expected = _theirs(pair.theirs).logits
    assert expected.std() > 0.1
    assert _largest_difference(pair.ours(SOURCE, KEEP, TARGET), expected) < 1e-5


def test_features_are_those_of_their_encoder(pair: Pair) -> None:
    expected = pair.theirs.encoder(input_ids=SOURCE, attention_mask=KEEP.long()).last_hidden_state
    assert _largest_difference(pair.ours.text_features(SOURCE, KEEP)[KEEP], expected[KEEP]) < 1e-5


def test_loss_and_gradients_are_those_of_transformers(pair: Pair) -> None:
    """Of rows of pairs, through the objective; theirs starts the decoder with `<|pad|>`, so ours is told to."""
    rows = np.full((3, 41), -1)
    for row, (num_source, num_target) in enumerate([(20, 11), (5, 3), (9, 7)]):
        parts = [SOURCE[row, :num_source].numpy(), [0], TARGET[row, :num_target].numpy(), [1]]
        filled = np.concatenate(parts)
        rows[row, : len(filled)] = filled
    objective = OBJECTIVES["translation"](Setting(special={"<|sep|>": 0, "<|pad|>": 0}))
    batch = objective.collate(rows)
    ours = objective.loss(pair.ours, batch)
    theirs = pair.theirs(input_ids=batch.source_BS, attention_mask=batch.keep_BS.long(), labels=batch.targets).loss
    assert ours.num_targets == 11 + 3 + 7 + 3
    assert abs(ours.mean.item() - theirs.item()) < 1e-5
    ours.mean.backward()
    theirs.backward()
    state = {name: value.grad for name, value in pair.ours.named_parameters()}
    found = FORMAT.to_tensors(pair.ours.shape, state)
    expected = {name: value.grad for name, value in pair.theirs.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.any(), name
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_beam_search_finds_what_theirs_finds(pair: Pair, beams: int) -> None:
    """With a token as the end that the model does write."""
    longest = beam_search(pair.ours, SOURCE, KEEP, Search(begin=0, end=1, max_tokens=20, beams=1))
    end = longest[0][0].ids[7]
    found = beam_search(pair.ours, SOURCE, KEEP, Search(0, end, max_tokens=20, beams=beams, length_penalty=0.0))
    expected = pair.theirs.generate(
        input_ids=SOURCE,
        attention_mask=KEEP.long(),
        eos_token_id=end,
        num_beams=beams,
        max_new_tokens=20,
        do_sample=False,
        early_stopping=True,
        length_penalty=0.0,
    )
    for targets, row in zip(found, expected.tolist(), strict=True):
        ids = [*targets[0].ids, *([end] if targets[0].finished else [])]
        assert row[: len(ids) + 1] == [0, *ids]
        assert set(row[len(ids) + 1 :]) <= {0, end}  # theirs fills up with either
    assert any(targets[0].finished for targets in found)


def test_buckets_are_those_of_transformers() -> None:
    offsets = torch.arange(-700, 701)
    reference = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket
    for num_buckets, max_distance in ((32, 128), (8, 20), (4, 3), (64, 500)):
        for both_ways in (True, False):
            bias = RelativeBias(num_buckets, max_distance, 1, both_ways=both_ways)
            expected = reference(offsets, both_ways, num_buckets, max_distance)
            assert torch.equal(bias.bucket(offsets), expected)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Bytes and the special tokens of the family."""
    special = ["<|endoftext|>", *FAMILIES["t5"].special_tokens]
    return Tokenizer.train(["a"], vocabulary_size=256 + len(special), special_tokens=special)


def test_a_folder_written_by_transformers_loads(pair: Pair, tmp_path: Path) -> None:
    pair.theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    loaded = model_folder.load_weights(tmp_path)
    assert loaded.shape == pair.ours.shape.model_copy(update={"context": config.get("n_positions", 512)})
    assert _largest_difference(loaded(SOURCE, KEEP, TARGET), pair.ours(SOURCE, KEEP, TARGET)) == 0


def test_transformers_loads_our_folder(pair: Pair, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model_folder.save(tmp_path / "model", pair.ours, tokenizer, "# a card\n", {})
    opened, information = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert type(opened) is transformers.T5ForConditionalGeneration
    assert not any(information.values()), information
    assert _largest_difference(_theirs(opened.eval()).logits, pair.ours(SOURCE, KEEP, TARGET)) < 1e-5
    assert opened.config.decoder_start_token_id == tokenizer.special_tokens["<|pad|>"]
    assert opened.config.eos_token_id == tokenizer.end_of_text
    back = model_folder.load_weights(tmp_path / "model")
    assert back.shape == pair.ours.shape
    assert _largest_difference(back(SOURCE, KEEP, TARGET), pair.ours(SOURCE, KEEP, TARGET)) == 0


@pytest.mark.parametrize("pair", ["1.0"], indirect=True)
def test_the_hubs_own_t5_file_loads(pair: Pair, tmp_path: Path) -> None:
    """t5-small has three copies of the embedding, a table that nothing reads, and few settings."""
    pair.theirs.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    for name in ("encoder.embed_tokens", "decoder.embed_tokens", "lm_head"):
        tensors[f"{name}.weight"] = tensors["shared.weight"].clone()
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(32, 4)
    save_file(tensors, file)
    names = "d_ff d_kv d_model dropout_rate layer_norm_epsilon model_type num_heads num_layers vocab_size".split()
    config = json.loads((tmp_path / "config.json").read_text())
    few = {name: config[name] for name in names} | {"relative_attention_num_buckets": 32, "n_positions": 512}
    (tmp_path / "config.json").write_text(json.dumps(few))
    loaded = model_folder.load_weights(tmp_path)
    assert _largest_difference(loaded(SOURCE, KEEP, TARGET), pair.ours(SOURCE, KEEP, TARGET)) == 0


@pytest.mark.parametrize("pair", ["1.1"], indirect=True)
def test_an_untied_model_that_transformers_made_tied_loads(pair: Pair, tmp_path: Path) -> None:
    pair.theirs.lm_head.weight = pair.theirs.shared.weight
    pair.theirs.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    loaded = model_folder.load_weights(tmp_path)
    assert _largest_difference(loaded(SOURCE, KEEP, TARGET), _theirs(pair.theirs).logits) < 1e-5


@st.composite
def _shapes(draw: st.DrawFn) -> Shape:
    heads, num_layers = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    options: dict[str, Any] = {
        "gated": draw(st.sampled_from([True, None])),
        "decoder_layers": draw(st.sampled_from([None, num_layers + 1])),
        "num_buckets": draw(st.sampled_from([None, 16])),
        "max_distance": draw(st.sampled_from([None, 64])),
    }
    return Shape(
        family="t5",
        num_layers=num_layers,
        width=draw(st.integers(1, 20)),
        num_heads=heads,
        num_kv_heads=heads,
        head_width=draw(st.integers(2, 8)),
        feedforward_width=draw(st.integers(1, 20)),
        vocabulary_size=draw(st.integers(2, 60)),
        context=draw(st.integers(8, 99)),
        tied=draw(st.booleans()),
        norm_epsilon=draw(st.floats(1e-8, 0.1)),
        dropout=draw(st.floats(0, 0.9)),
        options={name: value for name, value in options.items() if value is not None},
    )


@settings(max_examples=30, deadline=None)
@given(_shapes())
def test_config_and_tensors_go_there_and_back(shape: Shape) -> None:
    assert FORMAT.from_config(json.loads(json.dumps(FORMAT.to_config(shape, SPECIAL)))) == shape
    state = {name: torch.randn(value.shape) for name, value in assemble_any(shape).state_dict().items()}
    back = FORMAT.from_tensors(shape, FORMAT.to_tensors(shape, state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())


def test_an_unknown_feed_forward_block_is_refused_by_name() -> None:
    config = FORMAT.to_config(Shape(family="t5", **SHAPES["1.0"]), SPECIAL) | {"feed_forward_proj": "gated-silu"}
    with pytest.raises(UserError, match="'gated-silu'"):
        FORMAT.from_config(config)
