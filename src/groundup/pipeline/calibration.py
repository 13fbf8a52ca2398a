"""What is remembered of this machine between commands: one file for each processor and choice of device."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import psutil
from filelock import FileLock

from groundup.errors import UserError
from groundup.files import cache_folder, fingerprint, write_json
from groundup.plan.calibration import Calibration, PastRun, TimedStep
from groundup.plan.hardware import Hardware
from groundup.processor import cores_for, processor_name
from groundup.recipe import TrainRecipe


def load_calibration(settings: TrainRecipe) -> Calibration | None:
    """What is known of this machine with the recipe's device and threads; None before the first measurement."""
    file = _file(settings)
    if not file.is_file():
        return None
    try:
        return Calibration.from_json(json.loads(file.read_text("utf-8")))
    except (ValueError, KeyError, TypeError, UserError):
        # Written by another version, or by hand: nothing that a new calibration would not bring back.
        return None


def calibrated(hardware: Hardware, settings: TrainRecipe) -> Hardware:
    """Hardware as just measured, with the speed weights of this machine where it was calibrated."""
    known = load_calibration(settings)
    return known.calibrated(hardware) if known else hardware


def text_names(sources: Sequence[str]) -> tuple[str, ...]:
    """What tells one text from another in what is remembered: paths in full, other sources as they are written."""
    return tuple(str(Path(name).resolve()) if Path(name).exists() else name for name in sources)


def remember_run(hardware: Hardware, settings: TrainRecipe, run: PastRun, step: TimedStep | None) -> None:
    """Keep how a finished run compares with its plan, and the time of its step where it tells something."""

    def add(known: Calibration | None) -> Calibration:
        known = known or Calibration(replace(hardware, speed=None), date.today().isoformat())
        known = known.with_run(run)
        return known.with_step(step) if step else known

    _update(settings, add)


def remember_probe(hardware: Hardware, settings: TrainRecipe, steps: list[TimedStep]) -> Calibration:
    """Keep a probe of the machine in place of all steps that were timed before; past runs stay."""

    def put(known: Calibration | None) -> Calibration:
        made = Calibration(hardware, date.today().isoformat(), probed=True, steps=steps)
        return replace(made, runs=known.runs) if known else made

    return _update(settings, put)


def is_busy(hardware: Hardware) -> bool:
    """Whether other programs were running beside the training, whose load is the number of its threads."""
    return psutil.getloadavg()[0] > hardware.threads + 1


def _update(settings: TrainRecipe, change: Callable[[Calibration | None], Calibration]) -> Calibration:
    file = _file(settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):
        changed = change(load_calibration(settings))
        write_json(file, changed.as_json())
    return changed


def _file(settings: TrainRecipe) -> Path:
    key = [processor_name(), psutil.cpu_count(), settings.device, settings.threads or cores_for()]
    return cache_folder() / "machines" / f"{fingerprint(key)}.json"
