"""Errors that a user can cause, and how they are told."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """What is wrong, with what value, and what to do, in one line.

    The command line prints it without a traceback and exits with code 2; nothing has been overwritten.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint naming what the user probably meant: `; did you mean 'lr'?`, or the known names."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}"
