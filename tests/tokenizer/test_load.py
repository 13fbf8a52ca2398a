from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers

from groundup.errors import UserError
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.files import write_definition
from groundup.tokenizer.library import LibraryTokenizer
from groundup.tokenizer.load import load_tokenizer

from .test_gpt2_files import write_pair


def test_bytes_bpe_is_ours_in_any_format(trained: Callable[[str], Tokenizer], tmp_path: Path) -> None:
    tokenizer = trained("gpt2")
    vocabulary, merges = write_pair(tmp_path, tokenizer)
    for path in (tmp_path, vocabulary, merges):
        assert load_tokenizer(path) == tokenizer
    write_definition(tmp_path, trained("cl100k")._definition)
    assert load_tokenizer(tmp_path) == trained("cl100k")


@pytest.mark.parametrize("algorithm", ["wordpiece", "unigram", "unigram-bytes"])
def test_other_models_are_the_librarys(algorithm: str, texts: dict[str, str], tmp_path: Path) -> None:
    tokenizer = LibraryTokenizer.train([texts["english"][:5000]], 400, algorithm)  # type: ignore[arg-type]
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path) == load_tokenizer(tmp_path / "tokenizer.json") == tokenizer


def test_bpe_over_characters_is_the_librarys(tmp_path: Path) -> None:
    """Llama 2's form."""
    vocabulary = {
        "<unk>": 0,
        **{f"<0x{byte:02X}>": 1 + byte for byte in range(256)},
        "▁": 257,
        "a": 258,
        "▁a": 259,
    }
    peer = tokenizers.Tokenizer(models.BPE(vocabulary, [("▁", "a")], byte_fallback=True, unk_token="<unk>"))
    peer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    peer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    peer.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    assert isinstance(tokenizer, LibraryTokenizer)
    for text in ("a a", "中 é"):
        assert tokenizer.encode(text) == list(tokenizer.encode_iterable(iter(text))) == peer.encode(text).ids


@pytest.mark.parametrize(
    "content", ["x", "[]", "{}", '{"model": []}', '{"model": {"type": "Unigram"}, "decoder": null}']
)
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=str(tmp_path)) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        load_tokenizer(tmp_path)
