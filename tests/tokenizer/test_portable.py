import pytest
from tokenizers import Regex, pre_tokenizers

from groundup.errors import UserError
from groundup.tokenizer.portable import check_portable
from groundup.tokenizer.pretokenize import PATTERNS, splitter


def isolated(pattern: str, text: str) -> list[str]:
    return [piece for piece, _ in pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(text)]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^a", "b\na"),
        (r"\(a$", "(a\nb"),
        (r"a\Z", "a\n"),
        (r"\N+", "ab\n"),
        ("[a[b]]+", "a]b"),
        ("[^a&&b]+", "a&bc"),
        (r"\w+", "\u203f²x"),
        (r"\W+", "a²²\u203f"),
        (r"\b|a", "a²a"),
        (r"[\w-]+", "a\u200d"),
        (r"a(?m:.+)", "ab\nc"),
    ],
)
def test_what_the_engines_read_differently_is_refused(pattern: str, text: str) -> None:
    assert splitter(pattern)(text) != isolated(pattern, text)
    with pytest.raises(UserError, match="which Hugging Face reads otherwise; ") as caught:
        check_portable(pattern)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"[\^$&\[]+", "a^$[&"),
        (r"[^\]a-]+", "]ab-"),
        (r"\$\^|\[\[|\\", r"$^[[\[a"),
        (r"\A\s|\s\z", " a \n"),
        (r"(?<![^\n])a|b(?![^\n])", "a b\na b"),
        (r"(?i:a)(?-i:b)", "Ab AB"),
        (r"[]a]+", "]a"),
        (r"[\p{L}\p{M}\p{N}\p{Pc}]+", "\u203f²x-é٣ Ⅷⓐ\u200d"),
        (r"\\w+", r"\ww"),
        (r"\\\\w+", r"\\ww"),
    ],
)
def test_what_they_read_alike_is_not(pattern: str, text: str) -> None:
    check_portable(pattern)
    assert splitter(pattern)(text) == isolated(pattern, text)


@pytest.mark.parametrize("name", PATTERNS)
def test_our_own_patterns_are_portable(name: str) -> None:
    check_portable(PATTERNS[name])


def test_the_place_is_named() -> None:
    with pytest.raises(UserError, match=r"has \$ at character 4, .*; write "):
        check_portable(r"a\\b$")
