"""Loading whatever tokenizer a file or folder holds."""

from pathlib import Path
from typing import TypeAlias

from groundup.tokenizer.files import find_file
from groundup.tokenizer.library import LibraryTokenizer
from groundup.tokenizer.model_folder import read_json
from groundup.tokenizer.tokenizer import Tokenizer

AnyTokenizer: TypeAlias = Tokenizer | LibraryTokenizer


def load_tokenizer(path: Path) -> AnyTokenizer:
    """A `Tokenizer` of byte-level BPE in any format, a `LibraryTokenizer` of any other tokenizer.json.

    UserError if the file is not there, or neither reads it.
    """
    return LibraryTokenizer.load(path) if _is_for_the_library(find_file(Path(path))) else Tokenizer.load(path)


def _is_for_the_library(file: Path) -> bool:
    """Whether it is a tokenizer.json whose model is not BPE over bytes."""
    if file.suffix != ".json":
        return False
    content = read_json(file)
    try:
        return not (content["model"].get("type", "BPE") == "BPE" and "ByteLevel" in str(content["decoder"]))
    except (KeyError, TypeError, AttributeError):
        return False
