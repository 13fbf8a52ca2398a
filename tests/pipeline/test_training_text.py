import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from groundup.data.text import PART_BYTES
from groundup.pipeline.training_text import TrainingText
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.pretokenize import as_bytes, as_text, splitter


def pieces(documents: Iterable[bytes], pattern: str) -> Counter[bytes]:
    split = splitter(Tokenizer.train([], 256, pattern, ()).pattern)
    return Counter(as_bytes(piece) for document in documents for piece in split(as_text(document)))


def long_text(shared_data: Path) -> bytes:
    """More than a part, with a run of line ends where the first part would end."""
    text = (shared_data / "pretrain_en" / "tinyshakespeare.txt").read_bytes()
    text = re.sub(rb"\n+", b"\n\n\n\n", text) * 8
    return text[: PART_BYTES - 2] + b" end.\n\n\n\n\n\nStart " + text[: 1 << 20]


@pytest.mark.parametrize("pattern", ["cl100k", "o200k"])
def test_a_long_document_is_cut_where_no_piece_is(shared_data: Path, tmp_path: Path, pattern: str):
    whole = long_text(shared_data)
    assert len(whole) > PART_BYTES
    (tmp_path / "long.txt").write_bytes(whole)
    (tmp_path / "short.txt").write_bytes(b"one\n")
    told: list[int] = []
    text = TrainingText([str(tmp_path)], "text", "none", pattern, told.append)
    parts = list(text)
    assert len(parts) > 2
    assert pieces(parts, pattern) == pieces([whole, b"one\n"], pattern)
    assert text.num_bytes == text.total_bytes == sum(told) == len(whole) + 4
    assert text.num_documents == 2


def test_the_sample_is_spread_over_the_text_and_bounded(tmp_path: Path):
    lines = b"".join(b"%015d\n" % number for number in range(1 << 20))
    (tmp_path / "lines.txt").write_bytes(lines)
    text = TrainingText([str(tmp_path / "lines.txt")], "text", "none", "gpt2", lambda _: None)
    for _ in text:
        pass
    numbers = [int(line) for line in b"".join(text.sample).split()]
    assert 1 << 20 <= sum(map(len, text.sample)) <= 2 << 20
    assert sum(numbers) / len(numbers) == pytest.approx((1 << 20) / 2, rel=0.05)


def test_a_sample_of_many_small_documents_is_bounded_too(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a short document of a few words"}\n' * 100_000)
    text = TrainingText([str(tmp_path / "rows.jsonl")], "text", "none", "gpt2", lambda _: None)
    assert sum(1 for _ in text) == text.num_documents == 100_000
    assert sum(map(len, text.sample)) <= 2 << 20


def test_how_much_there_is_to_read_is_known_of_plain_files_only(tmp_path: Path, shared_data: Path):
    (tmp_path / "a.txt").write_bytes(b"abc")
    sources = [str(tmp_path / "a.txt")]
    assert TrainingText(sources, "text", "none", "gpt2", print).total_bytes == 3
    sources.append(str(shared_data / "pretrain_zh" / "luxun.jsonl.xz"))
    assert TrainingText(sources, "text", "none", "gpt2", print).total_bytes is None
