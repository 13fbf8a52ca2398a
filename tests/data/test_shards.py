from pathlib import Path

import numpy as np
import pytest

from groundup.data import Shards, encode
from groundup.errors import UserError
from groundup.tokenizer import Tokenizer

from .conftest import MakeStore


@pytest.fixture
def shards(make_store: MakeStore, tokenizer: Tokenizer, tmp_path: Path) -> Shards:
    """Three shards."""
    store = make_store(b"".join(b"%d and so on\n" % number for number in range(220_000)))
    return encode(store, np.array([[0, store.total_bytes]]), tokenizer, tmp_path / "shards", name="train")


def test_reading_crosses_shards(shards: Shards) -> None:
    files = sorted(shards.folder.glob("*.npy"))
    whole = np.concatenate([np.load(path) for path in files])
    assert len(files) >= 3 and shards.num_tokens == len(whole)
    first = len(np.load(files[0]))
    for start, length in [(0, 0), (0, 5), (first - 1, 1), (first, 1), (first - 3, 7), (5, len(whole) - 7)]:
        read = shards.read(start, length)
        assert read.dtype == whole.dtype and (read == whole[start : start + length]).all()
    assert (shards.read(len(whole) - 2, 2) == whole[-2:]).all()


@pytest.mark.parametrize(("start", "length"), [(-1, 2), (0, 10**9), (10**9, 0)])
def test_reading_beyond_the_tokens_is_an_error(shards: Shards, start: int, length: int) -> None:
    with pytest.raises(IndexError):
        shards.read(start, length)


def test_a_shard_of_the_wrong_size_is_named(shards: Shards) -> None:
    path = shards.folder / "shard-00001.npy"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"shard-00001\.npy: has \d+ bytes instead of \d+"):
        Shards.open(shards.folder)


def test_a_missing_shard_is_named(shards: Shards) -> None:
    (shards.folder / "shard-00002.npy").unlink()
    with pytest.raises(UserError, match=r"shard-00002\.npy: is missing"):
        Shards.open(shards.folder)


def test_a_changed_bit_is_noticed_on_request(shards: Shards) -> None:
    Shards.open(shards.folder, verify=True)
    path = shards.folder / "shard-00000.npy"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    Shards.open(shards.folder)
    with pytest.raises(UserError, match=r"shard-00000\.npy: its content is not what was written"):
        Shards.open(shards.folder, verify=True)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a folder of token shards"):
        Shards.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"tokens": 3}')
    with pytest.raises(UserError, match="not a folder of token shards"):
        Shards.open(tmp_path)
