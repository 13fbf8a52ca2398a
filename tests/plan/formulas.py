"""Works out the formula of a planner's figure from the values beside it, as a reader with a calculator would."""

import math
import re
from collections.abc import Iterable

import pytest

from groundup.plan.figures import Figure

_FUNCTIONS = {"max": max, "min": min, "round": round, "floor": math.floor, "log2": math.log2}
_TOKEN = re.compile(r"[A-Za-z_]\w*|\d+(?:\.\d+)?(?:e[+-]?\d+)?|\S")


def evaluate(figure: Figure) -> float:
    """What the formula comes to; symbols beside each other are multiplied, `^` is a power."""
    code, before = "", ""
    for token in _TOKEN.findall(figure.formula):
        if (token == "(" or token[0].isalnum()) and (before == ")" or before[:1].isalnum()):
            code += "" if before in _FUNCTIONS else "*"
        code += "**" if token == "^" else token
        before = token
    # Symbols such as `lambda` are not in use, so that Python's own grammar can take the rest.
    return float(eval(code, {"__builtins__": {}}, _FUNCTIONS | dict(figure.values)))


def check_formulas(figures: Iterable[Figure]) -> int:
    """Every figure that has a formula has the value that comes out of it; how many have one."""
    explained = [figure for figure in figures if figure.formula]
    for figure in explained:
        assert figure.value == pytest.approx(evaluate(figure), rel=1e-7), figure
    return len(explained)
