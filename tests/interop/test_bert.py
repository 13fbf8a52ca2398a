"""BERT against transformers' own, with the same weights, and its folders in both directions."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from groundup.errors import UserError
from groundup.interop.bert import FORMAT
from groundup.model import folder as model_folder
from groundup.model.families.bert import Bert
from groundup.model.registry import build_any
from groundup.objective import IGNORED
from groundup.objective.masked import MaskedBatch, loss
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer

from .conftest import randomise

SPECIAL = ("<|endoftext|>", "<|mask|>", "<|cls|>", "<|sep|>", "<|pad|>")
SHAPE = Shape(
    family="bert",
    num_layers=3,
    width=32,
    num_heads=4,
    num_kv_heads=4,
    head_width=8,
    feedforward_width=72,
    vocabulary_size=261,
    context=20,
    norm_epsilon=1e-12,
    options={"next_sentence": True},
)
_ALONE = SHAPE.model_copy(update={"options": {}})
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["a"], vocabulary_size=261, special_tokens=SPECIAL)


@pytest.fixture(scope="module")
def batch() -> MaskedBatch:
    """Pairs of texts; id 0 is transformers' padding, whose embedding never learns there."""
    generator = torch.Generator().manual_seed(3)
    inputs, targets = (torch.randint(1, 256, (3, 20), generator=generator) for _ in range(2))
    targets[torch.rand(targets.shape, generator=generator) > 0.3] = IGNORED
    segments = (torch.arange(20) >= 11).long().expand(3, 20)
    return MaskedBatch(targets, inputs, segments, torch.tensor([0, 1, 1]))


def _theirs(kind: Any = transformers.BertForPreTraining, shape: Shape = SHAPE) -> Any:
    special = {"<|pad|>": 0}
    config = transformers.BertConfig.from_dict(FORMAT.to_config(shape, special) | {"attn_implementation": "eager"})
    model = kind(config).eval()
    randomise(model)
    return model


def _stored(model: torch.nn.Module, folder: Path) -> Tensors:
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def _without(file: Path, *keys: str) -> None:
    """Take keys out of a config.json: folders of others do not have what we write beside."""
    content = {key: value for key, value in json.loads(file.read_text()).items() if key not in keys}
    file.write_text(json.dumps(content))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Bert, Any]:
    theirs = _theirs()
    ours = build_any(SHAPE)
    ours.load_state_dict(FORMAT.from_tensors(SHAPE, _stored(theirs, tmp_path / "stored")))
    assert isinstance(ours, Bert)
    return ours.eval(), theirs


def _difference(left: torch.Tensor, right: torch.Tensor) -> float:
    assert left.shape == right.shape
    return float((left - right).abs().max())


def _answer(theirs: Any, batch: MaskedBatch) -> Any:
    return theirs(
        batch.inputs_BT,
        token_type_ids=batch.segments_BT,
        labels=batch.targets,
        next_sentence_label=batch.origins_B,
    )


@torch.no_grad()
def test_logits_of_both_heads_are_those_of_transformers(pair: tuple[Bert, Any], batch: MaskedBatch) -> None:
    ours, theirs = pair
    answer = _answer(theirs, batch)
    features = ours.features(batch.inputs_BT, batch.segments_BT)
    assert answer.prediction_logits.std() > 0.1  # a model that says something
    assert _difference(ours(batch.inputs_BT, batch.segments_BT), answer.prediction_logits) < 1e-5
    assert _difference(ours.next_sentence_logits(features), answer.seq_relationship_logits) < 1e-5
    body = theirs.bert(batch.inputs_BT, token_type_ids=batch.segments_BT)
    assert _difference(features, body.last_hidden_state) < 1e-5
    assert _difference(ours.pooled(features), body.pooler_output) < 1e-5


@torch.no_grad()
def test_padding_is_treated_as_by_transformers(pair: tuple[Bert, Any], batch: MaskedBatch) -> None:
    ours, theirs = pair
    keep = torch.arange(20) < torch.tensor([[20], [13], [1]])
    expected = theirs(batch.inputs_BT, attention_mask=keep.long()).prediction_logits
    assert _difference(ours(batch.inputs_BT, keep_BT=keep)[keep], expected[keep]) < 1e-5


def test_loss_and_gradients_are_those_of_transformers(pair: tuple[Bert, Any], batch: MaskedBatch) -> None:
    """Of both objectives together, for every parameter."""
    ours, theirs = pair
    mine, other = loss(ours, batch), _answer(theirs, batch).loss
    assert abs(float((mine.mean - other).detach())) < 1e-5
    mine.mean.backward()
    other.backward()
    gradients = FORMAT.to_tensors(SHAPE, {name: value.grad for name, value in ours.named_parameters()})
    expected = {name: value.grad for name, value in theirs.named_parameters()}
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.any() or name.endswith("self.key.bias"), name  # which moves all scores of a query alike
        assert (gradients[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6, name


@torch.no_grad()
def test_a_folder_of_both_heads_loads(
    pair: tuple[Bert, Any], batch: MaskedBatch, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    pair[1].save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    _without(tmp_path / "config.json", "next_sentence", "add_cross_attention", "is_decoder")
    loaded = model_folder.load_any(tmp_path).model
    assert loaded.shape == SHAPE
    assert not loaded.training
    expected = _answer(pair[1], batch).prediction_logits
    assert _difference(loaded(batch.inputs_BT, batch.segments_BT), expected) < 1e-5


def test_a_tokenizer_of_another_model_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Unless all that it has too much is special tokens, as where one was added behind the others."""
    _theirs(shape=SHAPE.model_copy(update={"vocabulary_size": 258})).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    assert model_folder.load_any(tmp_path).tokenizer == tokenizer
    larger = Tokenizer.train(["abab"], vocabulary_size=262, special_tokens=SPECIAL)
    larger.save(tmp_path)
    _theirs(shape=SHAPE.model_copy(update={"vocabulary_size": 256})).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has 262 tokens, but the model only 256; put the tokenizer there that it"):
        model_folder.load_any(tmp_path)


@torch.no_grad()
def test_a_folder_of_a_masked_model_loads_without_opinion_on_next_sentences(
    batch: MaskedBatch, tmp_path: Path
) -> None:
    theirs = _theirs(transformers.BertForMaskedLM)
    theirs.save_pretrained(tmp_path)
    _without(tmp_path / "config.json", "next_sentence")
    loaded = model_folder.load_weights(tmp_path)
    assert isinstance(loaded, Bert)
    assert _difference(loaded(batch.inputs_BT), theirs(batch.inputs_BT).logits) < 1e-5
    assert not loaded.next_sentence_logits(loaded.features(batch.inputs_BT)).any()


@torch.no_grad()
def test_the_hubs_own_file_loads(pair: tuple[Bert, Any], batch: MaskedBatch, tmp_path: Path) -> None:
    """Both heads in a `BertForMaskedLM`, TensorFlow's names of norms, positions and the repeated matrix."""
    tensors = _stored(pair[1], tmp_path)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(20)[None]
    old["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    save_file(old, tmp_path / "model.safetensors")
    _without(tmp_path / "config.json", "next_sentence", "architectures", "tie_word_embeddings")
    loaded = model_folder.load_weights(tmp_path)
    expected = pair[0](batch.inputs_BT, batch.segments_BT)
    assert torch.equal(loaded(batch.inputs_BT, batch.segments_BT), expected)


def test_a_body_without_heads_is_refused(tmp_path: Path) -> None:
    _theirs(transformers.BertModel).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="without the head that predicts tokens; save it"):
        model_folder.load_weights(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("hidden_act", "relu"), ("is_decoder", True), ("type_vocab_size", 4), ("tie_word_embeddings", False)],
)
def test_variants_that_are_not_computed_are_refused(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{key}={value!r}"):
        FORMAT.from_config(FORMAT.to_config(SHAPE, {}) | {key: value})


@torch.no_grad()
@pytest.mark.parametrize("shape", [SHAPE, _ALONE], ids=["pairs", "masked"])
def test_transformers_loads_our_folder(
    shape: Shape, batch: MaskedBatch, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """With nothing left over, as what it is; and in any case as a masked model."""
    model = build_any(shape).eval()
    randomise(model)
    model_folder.save(tmp_path / "model", model, tokenizer, "# a card\n", {})
    kind = transformers.BertForMaskedLM if shape == _ALONE else transformers.BertForPreTraining
    opened, information = kind.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(information.values()), information
    assert opened.config.architectures == [kind.__name__]
    assert opened.config.pad_token_id == tokenizer.special_tokens["<|pad|>"]
    masked = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
    expected = model(batch.inputs_BT, batch.segments_BT)
    assert _difference(masked(batch.inputs_BT, token_type_ids=batch.segments_BT).logits, expected) < 1e-5
    again = model_folder.load_weights(tmp_path / "model")
    assert again.shape == shape
    assert torch.equal(again(batch.inputs_BT, batch.segments_BT), expected)


@torch.no_grad()
def test_a_model_without_pairs_leaves_the_pooler_of_others_aside(
    pair: tuple[Bert, Any], batch: MaskedBatch, tmp_path: Path
) -> None:
    """As when transformers has opened our folder as `BertForPreTraining`, with heads of its own, and saved it."""
    pair[1].config.next_sentence = False
    pair[1].save_pretrained(tmp_path)
    loaded = model_folder.load_weights(tmp_path)
    assert loaded.shape == _ALONE
    assert _difference(loaded(batch.inputs_BT), pair[0](batch.inputs_BT)) < 1e-6
