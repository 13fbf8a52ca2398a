"""Reading and writing tokenizers in other people's formats, recognised by their content."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from groundup.errors import UserError
from groundup.tokenizer import gpt2_files, huggingface, rank_file
from groundup.tokenizer.definition import Definition
from groundup.tokenizer.model_folder import read_json

write_definition = huggingface.write_folder
_RANK_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")


def read_definition(
    path: Path, pattern: str | None = None, special_tokens: Mapping[str, int] | Iterable[str] | None = None
) -> Definition:
    """Read a byte-level BPE tokenizer; UserError if it is not there or not understood.

    Args:
        path: a tokenizer.json, a rank file of tiktoken's, GPT-2's vocab.json or merges.txt (the other stands
            beside it), or a folder with one of these, taken in this order: tokenizer.json, vocab.json, a file
            `*.tiktoken`.
        pattern: how text is cut, by name or as a regular expression, for formats that do not say it.
        special_tokens: with their ids, or names that get the ids after the last; for rank files, which have none.
    """
    file = find_file(path)
    if _is_rank_file(file):
        return rank_file.read_file(file, pattern, special_tokens)
    if file.suffix == ".txt":
        return gpt2_files.read_files(file.with_name("vocab.json"), file, pattern)
    content = read_json(file)
    if isinstance(content, dict) and content and all(isinstance(number, int) for number in content.values()):
        return gpt2_files.read_files(file, file.with_name("merges.txt"), pattern)
    return huggingface.read_file(file, content)


def find_file(path: Path) -> Path:
    """The file that holds a folder's tokenizer, or `path` itself if that is no folder."""
    if not path.is_dir():
        return path
    files = [path / "tokenizer.json", path / "vocab.json", *sorted(path.glob("*.tiktoken"))]
    return next((file for file in files if file.exists()), files[0])


def _is_rank_file(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return _RANK_LINE.match(opened.readline(1 << 16)) is not None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; give a tokenizer's file or folder") from None
