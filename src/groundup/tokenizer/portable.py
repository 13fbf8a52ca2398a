"""Regular expressions that two engines read alike: Python's `regex`, and Oniguruma inside Hugging Face's files."""

import regex

from groundup.errors import UserError

_TOKENS = regex.compile(
    r"(?s)(?P<set>\[\^?\]?(?:\\.|[^\]\\])*+\])|(?P<flags>\(\?[a-zA-Z-]+[:)])|(?P<escape>\\.)|(?P<anchor>[\^$])"
)
_ESCAPE = regex.compile(r"(?s)\\(.)")


def check_portable(pattern: str) -> None:
    r"""UserError for what the engines take differently, so that the same file would give other ids elsewhere.

    These are `^`, `$` and `\Z` (they stop at other line ends), sets inside sets, flags but `i`, `\N`, and `\w`,
    `\W`, `\b` and `\B`, whose letters differ.
    """
    for token in _TOKENS.finditer(pattern):
        if advice := _advice(token):
            raise UserError(
                f"pattern {pattern!r} has {token[0]} at character {token.start()}, which Hugging Face reads "
                f"otherwise; {advice}"
            )


def _advice(token: regex.Match[str]) -> str | None:
    """What to write instead of a part of a pattern; None if it is portable."""
    kind, text = token.lastgroup, token[0]
    if kind == "anchor":
        return r"write \A, \z, (?<![^\n]) or (?![^\n])"
    if kind == "flags" and set(text) - set("(?i-:)"):
        return "use no flags but (?i:...)"
    escapes = set(_ESCAPE.findall(text))
    if escapes & {"w", "W"} or (kind == "escape" and escapes & {"b", "B"}):
        return r"write out the letters, such as [\p{L}\p{M}\p{N}\p{Pc}]"
    if kind == "escape" and escapes & {"Z", "N"}:
        return r"write \z for the end of the text, [^\n] for any character of a line"
    if kind == "set" and ("[" in (bare := _ESCAPE.sub("", text[1:])) or "&&" in bare):
        return r"write one set without others inside, [ in it as \["
    return None
