"""Where in a text its tokens stand."""

import numpy as np
from numpy.typing import NDArray


def token_offsets(lengths: NDArray[np.int32], text: bytes, *, characters: bool) -> list[tuple[int, int]]:
    """Start and end of each token in `text`, in characters or in bytes.

    Args:
        lengths: bytes of each token, int32 (T,); together they are the text.
        text: UTF-8, or other bytes, each of which counts as a character.
        characters: a token with a part of a character gets the whole of it.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    starts = ends - lengths
    if characters and not text.isascii():
        # Characters begun before each byte, and the whole text's at its end.
        data = np.frombuffer(text, np.uint8)
        begun = np.concatenate([[0], np.cumsum((data & 0xC0) != 0x80)])
        starts, ends = begun[starts + 1] - 1, begun[ends]
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
