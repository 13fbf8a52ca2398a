"""The C++ part of the tokenizer (`native/`), where it was compiled; plain Python does the same elsewhere.

The environment variable GROUNDUP_TOKENIZER chooses: `plain` (Python), or the instruction set `portable`, `avx2` or
`avx512`; by default the best that this processor has.
"""

import os
from typing import Any

from groundup.errors import UserError
from groundup.tokenizer import unicode

PATTERNS = ("gpt2", "cl100k", "cl100k-tiktoken", "qwen2", "o200k")
"""Names of the patterns that it cuts by itself, in the order of its `Pattern`."""
TIES = ("hf", "raw", "cs336")
"""Rules for equal counts, in the order of its `Ties`."""
MOST_TOKENS = 1 << 20
"""Its tables hold no more."""


def check_size(text: bytes | memoryview) -> None:
    """UserError if places in the text do not fit into 32 bits."""
    if len(text) >= 1 << 32:
        raise UserError(f"{len(text):,} bytes of text at once are too many; give them in parts of less than 4 GiB")


def _load() -> tuple[Any, str]:
    wanted = os.environ.get("GROUNDUP_TOKENIZER", "")
    if wanted == "plain":
        return None, wanted
    try:
        from groundup.tokenizer import _native
    except ImportError:
        if wanted:
            raise UserError(
                f"GROUNDUP_TOKENIZER={wanted} needs the compiled part of the tokenizer; "
                "install groundup where there is a C++ compiler"
            ) from None
        return None, "plain"
    _native.set_classes(unicode.packed_runs())
    name = _native.use(wanted)
    if not name:
        raise UserError(
            f"GROUNDUP_TOKENIZER={wanted} is not plain, portable, avx2 or avx512, or this processor lacks it"
        )
    return _native, name


module, instructions = _load()
"""The extension module (None where plain Python serves), and the name of the code that runs."""
