"""The C++ part of the word vectors (`native/`), where it was compiled; plain Python does the same elsewhere.

The environment variable GROUNDUP_WORDS=plain chooses Python.
"""

import os
from types import ModuleType


def kernels() -> ModuleType:
    """The module with `train`, `learn` and `glove`: compiled, or `plain`."""
    from groundup.words import plain

    if os.environ.get("GROUNDUP_WORDS") == "plain":
        return plain
    try:
        from groundup.words import _native
    except ImportError:
        return plain
    return _native
