from pathlib import Path

import pytest

from groundup.pipeline.tokenizing import compare, find
from groundup.tokenizer import Tokenizer


def test_the_sample_is_shared_out_among_sources(tmp_path: Path):
    for name, line in (("a.txt", "plain words\n"), ("b.txt", "天地玄黄\n")):
        (tmp_path / name).write_text(line * 100_000, "utf-8")
    tokenizer = Tokenizer.train(["plain words\n"], 270)
    sources = [str(tmp_path / name) for name in ("a.txt", "b.txt")]
    (row,) = compare({"one": tokenizer}, sources, 200_000, lambda _: None)
    assert [inner["bytes"] for inner in row["by_source"]] == pytest.approx([100_000, 100_000], abs=20)
    assert row["bytes"] == sum(inner["bytes"] for inner in row["by_source"])
    (whole,) = compare({"one": tokenizer}, sources, 1 << 30, lambda _: None)
    assert whole["bytes"] == 12 * 100_000 + 13 * 100_000


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "any.tiktoken"])
def test_tokenizers_are_found_in_folders_and_runs(tmp_path: Path, name: str):
    for folder in ("", "tokenizer", "model"):
        inside = tmp_path / (folder or "itself") / folder
        inside.mkdir(parents=True)
        (inside / name).write_text("{}")
        assert find(tmp_path / (folder or "itself")) == inside / name
        assert find(inside / name) == inside / name
    (tmp_path / "text.txt").write_text("text")
    assert find(tmp_path / "text.txt") is find(tmp_path) is find(tmp_path / "nothing") is None
