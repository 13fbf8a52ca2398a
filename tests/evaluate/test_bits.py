import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from groundup.errors import UserError
from groundup.evaluate import bits
from groundup.evaluate.bits import Evaluation, evaluate_text, evaluate_tokens
from groundup.model.decoder import Decoder
from groundup.tokenizer import Tokenizer

MakeModel = Callable[[str, int], Decoder]
CONTEXT = 8


def _evaluate(model: Decoder, tokens: np.ndarray, tokenizer: Tokenizer, precision: str = "fp32") -> Evaluation:
    return evaluate_tokens(model, tokens, tokenizer.byte_lengths, device="cpu", precision=precision)


def _by_hand(
    model: Decoder, tokens: list[int], tokenizer: Tokenizer, within_documents: bool = False
) -> tuple[float, int, int]:
    """(nats, tokens, bytes), one token at a time: the part of its window before it goes in, in float64."""
    model.eval()
    nats, count, num_bytes = 0.0, 0, 0
    for position in range(1, len(tokens)):
        if tokens[position] == tokenizer.end_of_text:
            continue
        first = (position - 1) // CONTEXT * CONTEXT
        while within_documents and tokenizer.end_of_text in tokens[first + 1 : position]:
            first += 1
        with torch.no_grad():
            logits = model(torch.tensor([tokens[first:position]]))[0, -1]
        weights = [math.exp(value) for value in logits.double().tolist()]
        nats -= math.log(weights[tokens[position]] / math.fsum(weights))
        count += 1
        num_bytes += len(tokenizer.decode_bytes([tokens[position]]))
    return nats, count, num_bytes


def _tokens(length: int, tokenizer: Tokenizer) -> np.ndarray:
    """Random ids with ends of documents among them."""
    tokens = np.random.default_rng(length).integers(0, tokenizer.vocabulary_size, length).astype(np.uint16)
    tokens[3::7] = tokenizer.end_of_text
    return tokens


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
@pytest.mark.parametrize("length", [2, 8, 9, 10, 16, 17, 18, 41])
def test_figures_are_those_of_a_plain_loop(
    family: str, length: int, make_model: MakeModel, tokenizer: Tokenizer
) -> None:
    """Lengths around the edges of windows: less than one, exactly one, one and a rest of one token, ..."""
    model, tokens = make_model(family, CONTEXT), _tokens(length, tokenizer)
    found = _evaluate(model, tokens, tokenizer)
    nats, count, num_bytes = _by_hand(model, tokens.tolist(), tokenizer)
    assert (found.tokens, found.bytes) == (count, num_bytes)
    assert found.loss == pytest.approx(nats / count, rel=1e-5)
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(nats / count), rel=1e-4)
    assert found.bytes_per_token == num_bytes / count


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("length", [9, 41])
def test_within_documents_nothing_else_is_seen(
    family: str, length: int, make_model: MakeModel, tokenizer: Tokenizer
) -> None:
    model, tokens = make_model(family, CONTEXT), _tokens(length, tokenizer)
    found = evaluate_tokens(
        model,
        tokens,
        tokenizer.byte_lengths,
        device="cpu",
        precision="fp32",
        end_of_text=tokenizer.end_of_text,
    )
    nats, count, _ = _by_hand(model, tokens.tolist(), tokenizer, within_documents=True)
    assert found.tokens == count
    assert found.loss == pytest.approx(nats / count, rel=1e-5)
    assert found.loss != pytest.approx(_evaluate(model, tokens, tokenizer).loss, rel=1e-5)


def test_how_many_windows_are_read_at_once_changes_nothing(
    make_model: MakeModel, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokens = make_model("qwen3", CONTEXT), _tokens(100, tokenizer)
    whole = _evaluate(model, tokens, tokenizer)
    for at_once in (1, 3 * CONTEXT):
        monkeypatch.setattr(bits, "_TOKENS_AT_ONCE", at_once)
        part = _evaluate(model, tokens, tokenizer)
        assert (part.tokens, part.bytes) == (whole.tokens, whole.bytes)
        assert part.loss == pytest.approx(whole.loss, rel=1e-6)


@pytest.mark.parametrize("text", ["To be, or not to be", "生存还是毁灭 🙂", "x" * 100])
def test_a_uniform_model_needs_log2_of_its_vocabulary_a_token(
    text: str, make_model: MakeModel, tokenizer: Tokenizer
) -> None:
    model = make_model("llama", CONTEXT)
    with torch.no_grad():
        model.unembedding.weight.zero_()
    found = evaluate_text(model, tokenizer, text.encode())
    num_tokens, num_bytes = len(tokenizer.encode_ordinary(text)), len(text.encode())
    assert (found.tokens, found.bytes) == (num_tokens, num_bytes)
    expected = math.log2(tokenizer.vocabulary_size) * num_tokens / num_bytes
    assert found.bits_per_byte == pytest.approx(expected, rel=1e-6)
    assert found.perplexity == pytest.approx(tokenizer.vocabulary_size, rel=1e-5)


def test_a_document_is_read_from_its_beginning(make_model: MakeModel, tokenizer: Tokenizer) -> None:
    """Its first token is predicted too, from the mark that ends the document before it."""
    model, text = make_model("qwen3", CONTEXT), b"To be"
    ids = [tokenizer.end_of_text, *tokenizer.encode_ordinary(text)]
    nats, count, _ = _by_hand(model, ids, tokenizer)
    found = evaluate_text(model, tokenizer, text)
    assert found.tokens == count == len(ids) - 1
    assert found.loss == pytest.approx(nats / count, rel=1e-5)


def test_bfloat16_is_near(make_model: MakeModel, tokenizer: Tokenizer) -> None:
    model, tokens = make_model("qwen3", CONTEXT), _tokens(200, tokenizer)
    exact, rounded = (_evaluate(model, tokens, tokenizer, precision) for precision in ("fp32", "bf16"))
    assert exact.loss != rounded.loss
    assert rounded.loss == pytest.approx(exact.loss, rel=0.005)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool, make_model: MakeModel, tokenizer: Tokenizer) -> None:
    model = make_model("qwen3", CONTEXT).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _evaluate(model, _tokens(30, tokenizer), tokenizer)
    assert model.training == training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_progress_ends_at_one(make_model: MakeModel, tokenizer: Tokenizer) -> None:
    shares: list[float] = []
    tokens = _tokens(CONTEXT * 4 + 3, tokenizer)
    evaluate_tokens(
        make_model("qwen3", CONTEXT),
        tokens,
        tokenizer.byte_lengths,
        device="cpu",
        precision="fp32",
        on_progress=shares.append,
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_text_without_tokens_to_predict_is_refused(make_model: MakeModel, tokenizer: Tokenizer) -> None:
    model, end = make_model("qwen3", CONTEXT), tokenizer.end_of_text
    for tokens in ([], [5], [end], [5, end, end]):
        with pytest.raises(UserError, match="fewer than two tokens"):
            _evaluate(model, np.array(tokens, dtype=np.int64), tokenizer)
    with pytest.raises(UserError, match="fewer than two tokens"):
        evaluate_text(model, tokenizer, b"")
