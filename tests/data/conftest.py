"""Small real stores, tokenizers and shards for the tests of groundup.data."""

from collections.abc import Callable
from pathlib import Path

import pytest

from groundup.data import DocumentStore, stage
from groundup.tokenizer import Tokenizer

MakeStore = Callable[..., DocumentStore]


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """Give texts, one a file, and get them staged in that order."""

    def make(*documents: bytes) -> DocumentStore:
        folder = tmp_path / "documents"
        folder.mkdir()
        for number, document in enumerate(documents):
            (folder / f"{number:06d}.txt").write_bytes(document)
        return stage([str(folder)], tmp_path / "store")

    return make


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    text = "the quick brown fox jumps over the lazy dog; le cœur a ses raisons. " * 20
    return Tokenizer.train([text], vocabulary_size=300)
