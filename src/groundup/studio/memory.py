"""The page about the memory of a training step: what is live after each operator, beside the planner's formula."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from groundup.studio.curves import thin
from groundup.studio.page import asset, plotly, render_page

_STYLES = ["report.css", "bench.css", "memory.css"]
_CATEGORIES = {
    "weights": ("Weights", "the parameters, the tables of positions, and their copies in shorter types"),
    "optimizer": ("Optimizer states", "what the optimizer remembers from step to step; made in the first step"),
    "gradients": ("Gradients", "one number a parameter, from the backward pass until the update is done"),
    "activations": ("Activations", "what the forward pass keeps for the backward pass"),
    "other": ("Other", "what comes and goes: ids, logits of a chunk, gradients on their way back"),
}
_PHASES = ("forward", "backward", "update")


def render_memory(subject: Mapping[str, Any], memory: Mapping[str, Any]) -> str:
    """The page that shows what `pipeline.bench_memory.memory_timeline` has found of `subject`."""
    scripts = [plotly(), asset("plotting.js"), asset("memory.js")]
    return render_page("memory.html.j2", _STYLES, scripts, memory_facts(subject, memory))


def memory_facts(subject: Mapping[str, Any], memory: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows, as plain data."""
    first, *_, later = memory["steps"]
    titles = [(name, title) for name, (title, _) in _CATEGORIES.items()]
    return {
        "subject": subject,
        "memory": memory,
        "categories": [
            memory["categories"][name] | {"name": name, "title": title, "what": what}
            for name, (title, what) in _CATEGORIES.items()
        ],
        "phases": [memory["phases"][name] | {"name": name} for name in _PHASES],
        "figures": {"titles": titles, "first": curves(first), "later": curves(later)},
    }


def curves(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step as stacked areas: places of operators, bytes by category there, and where phases begin and end.

    At most 1500 places, with every stretch's least and greatest total among them.
    """
    totals = np.array([step["bytes"][name] for name in _CATEGORIES], dtype=np.float64).sum(axis=0)
    places = thin(totals).tolist()
    return {
        "places": places,
        "bytes": {name: [step["bytes"][name][place] for place in places] for name in _CATEGORIES},
        "stretches": stretches(step["phases"]),
    }


def stretches(phases: Sequence[str]) -> list[dict[str, Any]]:
    """Operators of one phase in a row: the phase, and the places where it begins and where the next one does."""
    made, place = [], 0
    for phase, operators in groupby(phases):
        begin, place = place, place + sum(1 for _ in operators)
        made.append({"phase": phase, "begin": begin, "end": place})
    return made
