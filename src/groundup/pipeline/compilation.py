"""What is known of compiling a model's block on this machine: remembered from run to run."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from groundup.files import cache_folder, fingerprint, write_json
from groundup.plan.choose import Plan
from groundup.plan.compile import UNKNOWN, Compilation
from groundup.plan.hardware import Hardware
from groundup.train.compile import why_not_compiled

# Compiled code that is in the cache is loaded in a fraction of the time that it took to make (LOG.md).
_LOADING_SHARE = 0.25


def expected_compilation(plan: Plan, hardware: Hardware) -> Compilation | None:
    """What compiling the plan's model would cost and save; None where it is impossible."""
    if why_not_compiled(hardware.device):
        return None
    known = _file(plan, hardware)
    if not known.is_file():
        return UNKNOWN
    made = Compilation(**json.loads(known.read_text("utf-8")))
    return Compilation(made.seconds * _LOADING_SHARE, made.saving)


def remember_compilation(plan: Plan, hardware: Hardware, seconds: float, tokens_per_second: float) -> None:
    """Keep what a compiled run showed: `seconds` to compile, and the median throughput after it.

    The first measurement of the cost stays, since later ones load from the cache.
    """
    known = _file(plan, hardware)
    known.parent.mkdir(parents=True, exist_ok=True)
    first = json.loads(known.read_text("utf-8"))["seconds"] if known.is_file() else seconds
    saving = 1 - plan.eager_tokens_per_second / tokens_per_second
    write_json(known, asdict(Compilation(first, saving)))


def _file(plan: Plan, hardware: Hardware) -> Path:
    """One file for all models whose blocks compile to the same code: depth and vocabulary do not count."""
    shape = plan.shape.model_dump(exclude={"num_layers", "vocabulary_size", "tied"})
    key = [shape, plan.micro_batch, plan.precision, plan.recompute, hardware.name, hardware.threads]
    return cache_folder() / "compilations" / f"{fingerprint([*key, torch.__version__])}.json"
