"""Texts that try the cutting of text: long enough for several windows of 64 bytes, and full of what decides."""

from hypothesis import strategies as st

from groundup.tokenizer import unicode

FRAGMENTS = [
    *"'sStTſmdaAbBéßΩǅʰªЖ中文のя٣½1२9🙂 .,/!_-\u0301\u200d\u2028\u3000\u00a0\x85\x1c",
    *("'re", "'LL", "'ve", "'ſ", "'s'S", "x'", "//", "/\n", "\n/", ".\n", "e\u0301", "\U0001f1e9", "\ufffd"),
    *(" ", "  ", "\t", "\n", "\n\n", "\r\n", " \n", "\n ", "\u2003\n", "\v", "the", "Word", "HTTPServer", "123"),
]
"""Strings at which the patterns' alternatives meet."""

_BORDERS = [point + step for point, _ in unicode.runs() for step in (-1, 0)]
"""First and last code points of the runs of one class."""

ANY_CHARACTER = (
    st.characters(exclude_categories=["Cs"])
    | st.integers(0, 0x323AF).filter(lambda point: not 0xD800 <= point < 0xE000).map(chr)
    | st.sampled_from([chr(point) for point in _BORDERS if point >= 0 and not 0xD800 <= point < 0xE000])
)
_REPEATS = st.sampled_from([1] * 12 + [2, 2, 3, 3, 4, 5, 14, 15, 16, 17, 31, 62, 63, 64, 65, 66])
_RUNS = st.builds(str.__mul__, st.sampled_from(FRAGMENTS) | ANY_CHARACTER, _REPEATS)

LONG_TEXT = st.lists(_RUNS, min_size=30, max_size=110).map("".join).filter(lambda text: len(text) > 40)
"""Text of about 70 to 400 characters, with any code points but the surrogates."""

_DAMAGED = [
    *(b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xed\xb2\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80"),
    *(b"\xe4\xb8", b"\xe4", b"\xf0\x9f\x99", b"\xc3", b"\x80", b"\xff", b"\xe5\x80", b"\xe5\xe5\x80\x80", b"\xe9"),
]
LONG_BYTES = st.lists(
    st.sampled_from(_DAMAGED) | st.sampled_from(FRAGMENTS).map(str.encode) | st.binary(min_size=1, max_size=4),
    min_size=30,
    max_size=160,
).map(b"".join)
"""About 70 to 400 bytes that are UTF-8 here and there."""
