"""Tokenizers of others without a token for a few bytes (SmolLM2's): read, and true to Hugging Face's library."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from groundup.errors import UserError
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.alphabet import to_characters
from groundup.tokenizer.encode import PlainEncoder

LACKING = b"\x04\x1d\xc0\xf1\xff"
WHOLE = Tokenizer.train(["to be or not to be, that is the question " * 3], 300, "gpt2")


def write(folder: Path, lacking: bytes) -> Path:
    """`WHOLE` without the tokens of these bytes, and with ids that leave no gaps, in `folder`."""
    WHOLE.save(folder)
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    names = [
        name
        for name in content["model"]["vocab"]
        if name not in {to_characters(bytes([byte])) for byte in lacking}
    ]
    content["model"]["vocab"] = {name: number for number, name in enumerate(names)}
    for token in content["added_tokens"]:
        token["id"] = content["model"]["vocab"][token["content"]]
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    return folder


@pytest.mark.parametrize(
    "text", ["that is", "to \x04be,\x1d or\x1d \x04\x04not", "\x04", "é\x04 日本 \U000f1234", "to \x1d,\x04 ,", ""]
)
def test_ids_are_those_of_the_library(text: str, tmp_path: Path) -> None:
    ours = Tokenizer.load(write(tmp_path, LACKING))
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = ours.encode_ordinary(text)
    assert ids == theirs.encode(text).ids == ours.encode_array(text).tolist()
    plain = np.empty(len(text.encode()), np.uint32)
    assert plain[: PlainEncoder(ours.definition).encode(text.encode(), plain)].tolist() == ids
    left = text.translate({4: None, 0x1D: None})
    assert ours.decode(ids) == left
    places = ours.encode_with_offsets(text)[1]
    if text.isascii():
        assert [left[start:end] for start, end in places] == [ours.decode([number]) for number in ids]


def test_it_is_stored_and_copied_as_it_is(tmp_path: Path) -> None:
    ours = Tokenizer.load(write(tmp_path / "one", LACKING))
    ours.save(tmp_path / "two")
    assert Tokenizer.load(tmp_path / "two") == ours == pickle.loads(pickle.dumps(ours))
    assert ours.definition.lacking == LACKING
    assert WHOLE.definition.lacking == b""
    assert ours.vocabulary_size == WHOLE.vocabulary_size - len(LACKING)


@pytest.mark.parametrize("lacking", [b"\n", b"\x04\n", b"\xe2"])
def test_bytes_that_text_has_must_be_there(lacking: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"lacks {len(lacking)} of the 256 bytes, the first 0x{lacking[-1]:02X}"):
        Tokenizer.load(write(tmp_path, lacking))
