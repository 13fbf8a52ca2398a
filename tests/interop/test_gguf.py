"""GGUF files, written with the package `gguf` as llama.cpp's converter does, and read by transformers too."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor
from transformers import AutoModelForCausalLM

from groundup.cli.main import main
from groundup.errors import UserError
from groundup.model.decoder import Decoder
from groundup.model.folder import load, load_any
from groundup.model.registry import build
from groundup.pipeline.stored_models import open_model
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.alphabet import to_characters

TEMPLATE = "{% for message in messages %}{{ message.role + ': ' + message.content }}{% endfor %}"
TOKENIZER = Tokenizer.train(
    ["to be or not to be, that is the 1st question of 23 " * 3], 300, "gpt2", ["<|endoftext|>", "<|im_end|>"]
)
_PARTS = {
    "attention_norm": "attn_norm", "attention.query": "attn_q", "attention.key": "attn_k",
    "attention.value": "attn_v", "attention.output": "attn_output", "attention.query_norm": "attn_q_norm",
    "attention.key_norm": "attn_k_norm",
    "feedforward_norm": "ffn_norm", "feedforward.gate": "ffn_gate", "feedforward.up": "ffn_up",
    "feedforward.down": "ffn_down",
}  # fmt: skip
_WHOLE = {"embedding": "token_embd", "norm": "output_norm", "unembedding": "output"}


def make_model(family: str, tied: bool = True) -> Decoder:
    shape = Shape(
        family=family, num_layers=2, width=64, num_heads=4, num_kv_heads=2, feedforward_width=96,
        head_width=16 if family == "llama" else 128,  # transformers overlooks what such a file says of Qwen3's
        vocabulary_size=TOKENIZER.vocabulary_size, context=32, tied=tied, rope_theta=5000.0, norm_epsilon=1e-5,
    )  # fmt: skip
    model, generator = build(shape, seed=1), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model.eval()


def write(file: Path, model: Decoder, kind: Kind = Kind.F32, **changes: Any) -> Path:
    """The model as a GGUF file; `changes` of the entries that follow those of the shape, None: left out."""
    shape, family = model.shape, model.shape.family
    writer = gguf.GGUFWriter(file, changes.pop("architecture", family))
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.num_layers)
    writer.add_feed_forward_length(shape.feedforward_width)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    entries = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.chat_template": TEMPLATE}
    for key, value in (entries | changes).items():
        if value is not None:
            writer.add_string(key, value)
    _add_vocabulary(writer)
    for name, tensor in model.state_dict().items():
        values = _interleaved(tensor, name, shape).numpy()
        matrix = kind if values.ndim == 2 else Kind.F32
        writer.add_tensor(_theirs(name), gguf.quantize(values, matrix), raw_dtype=matrix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    special = {number: token for token, number in TOKENIZER.special_tokens.items()}
    tokens = [
        special.get(number) or to_characters(TOKENIZER.token_bytes(number))
        for number in range(TOKENIZER.vocabulary_size)
    ]
    writer.add_token_list(tokens)
    writer.add_token_types([3 if number in special else 1 for number in range(len(tokens))])
    writer.add_token_merges([" ".join(map(to_characters, pair)) for pair in TOKENIZER.merges])
    writer.add_bos_token_id(TOKENIZER.special_tokens["<|endoftext|>"])
    writer.add_eos_token_id(TOKENIZER.special_tokens["<|im_end|>"])


def _interleaved(tensor: Tensor, name: str, shape: Shape) -> Tensor:
    """As llama.cpp's `permute`: of Llama's queries and keys, rows half a head apart become neighbours."""
    heads = {"query.weight": shape.num_heads, "key.weight": shape.num_kv_heads}.get(
        name.rpartition("attention.")[2]
    )
    if shape.family != "llama" or heads is None:
        return tensor
    half = shape.head_width // 2
    return tensor.reshape(heads, 2, half, shape.width).swapaxes(1, 2).reshape(tensor.shape).contiguous()


def _theirs(name: str) -> str:
    module = name.removesuffix(".weight")
    if found := re.fullmatch(r"blocks\.(\d+)\.(.+)", module):
        return f"blk.{found[1]}.{_PARTS[found[2]]}.weight"
    return f"{_WHOLE[module]}.weight"


@pytest.fixture
def ids() -> Tensor:
    """(2, 32)."""
    return torch.randint(0, TOKENIZER.vocabulary_size, (2, 32), generator=torch.Generator().manual_seed(3))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("family", "tied", "kind"),
    [("llama", True, Kind.F32), ("llama", False, Kind.Q8_0), ("llama", True, Kind.BF16), ("qwen3", True, Kind.F16),
     ("qwen3", False, Kind.F32), ("qwen3", True, Kind.Q4_1)],
)  # fmt: skip
@torch.no_grad()
def test_it_computes_what_transformers_does(
    family: str, tied: bool, kind: Kind, tmp_path: Path, ids: Tensor
) -> None:
    model = make_model(family, tied)
    loaded = load(write(tmp_path / "model.gguf", model, kind))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32).eval()
    ours = loaded.model(ids)
    assert loaded.model.shape == model.shape
    assert (ours - theirs(ids).logits).abs().max() < 1e-4 * ours.abs().max()
    if kind == Kind.F32:
        assert (ours - model(ids)).abs().max() < 1e-6
    else:
        assert 1e-5 < (ours - model(ids)).abs().mean() < 0.5 * ours.std()


def test_the_tokenizer_is_there(tmp_path: Path) -> None:
    file = write(tmp_path / "model.gguf", make_model("llama"))
    for found in (load(file), load_any(file), open_model(file)):
        tokenizer = found.tokenizer
        assert isinstance(tokenizer, Tokenizer)
        assert tokenizer.special_tokens == TOKENIZER.special_tokens
        assert tokenizer.merges == TOKENIZER.merges
        assert tokenizer.definition.patterns == (r"\p{N}", TOKENIZER.pattern)
        assert tokenizer.usage.roles == {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
        assert tokenizer.chat_template == TEMPLATE
        text = "that is 1 2  question,\n\tör not"
        assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text
    whole = write(tmp_path / "gpt2.gguf", make_model("llama"), **{"tokenizer.ggml.pre": "gpt-2"})
    assert load(whole).tokenizer == TOKENIZER


def test_the_command_line_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(write(tmp_path / "model.gguf", make_model("qwen3")))
    assert main(["generate", file, "--prompt", "to be", "--max-tokens", "4", "--seed", "1"]) == 0
    assert capsys.readouterr().out.startswith("to be")
    (tmp_path / "text.txt").write_text("to be or not to be")
    assert main(["eval", file, "--text", str(tmp_path / "text.txt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "phi3"}, "its architecture is 'phi3'; groundup reads llama, qwen3"),
        ({"llama.rope.scaling.type": "yarn"}, "rotary positions are scaled"),
        ({"tokenizer.ggml.model": "llama"}, "its tokenizer is 'llama', not byte-level BPE"),
        ({"tokenizer.ggml.pre": "viking"}, "cuts text as 'viking' does; groundup knows gpt-2, smollm"),
    ],
)
def test_what_nothing_here_computes_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(write(tmp_path / "model.gguf", make_model("llama"), **changes))
    assert "\n" not in str(error.value)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """Cut off anywhere, or no such file at all."""
    whole = write(tmp_path / "model.gguf", make_model("llama")).read_bytes()
    for length in (0, 10, 200, len(whole) // 2, len(whole) - 100):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(UserError, match="no GGUF file that groundup reads"):
            load(tmp_path / "cut.gguf")
    (tmp_path / "cut.gguf").write_bytes(np.random.default_rng(1).bytes(1000))
    with pytest.raises(UserError, match="no GGUF file"):
        load(tmp_path / "cut.gguf")
    with pytest.raises(UserError, match="is not there"):
        load(tmp_path / "gone.gguf")


def test_a_tensor_too_few_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("qwen3")
    without: Callable[[], dict[str, Tensor]] = lambda: {  # noqa: E731
        name: value
        for name, value in Decoder.state_dict(model).items()
        if name != "blocks.1.feedforward.up.weight"
    }
    monkeypatch.setattr(model, "state_dict", without)
    with pytest.raises(UserError, match=r"missing \['blocks.1.feedforward.up.weight'\]"):
        load(write(tmp_path / "model.gguf", model))


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "model.gguf", make_model("llama"))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"pip install 'groundup\[gguf\]'"):
        load(file)
