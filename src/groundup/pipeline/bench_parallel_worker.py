"""One process of `groundup bench parallel`: takes steps, and says what it sends, keeps and waits for."""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch.profiler import ProfilerActivity, profile, record_function

from groundup.errors import UserError
from groundup.model.registry import build
from groundup.objective import CAUSAL
from groundup.parallel.agree import agree
from groundup.parallel.grid import Grid
from groundup.parallel.processes import Processes, barrier, from_environment, joined, share
from groundup.pipeline.bench_parallel_trace import STEP, Lane, Recorded, align, read, resolve, seconds
from groundup.pipeline.bench_process import Trial
from groundup.pipeline.sent_rows import counted
from groundup.pipeline.watched_step import StepOfOne, WatchedStep
from groundup.plan.cluster.layout import Layout
from groundup.recipe import ParallelRecipe
from groundup.seeds import derive
from groundup.train.device import set_threads
from groundup.train.step import TrainStep, lay_out
from groundup.train.timing import seconds_of

# So small that a model fed with random tokens stays what it is.
_LR = 1e-6
_WARMUPS, _RECORDED, _MOST_STEPS = 2, 2, 50


def work(job: dict[str, Any]) -> dict[str, Any]:
    """What this process finds of a job: `trial`, `layout`, `parallel`, `seconds`; `error` where it is refused."""
    trial = Trial.from_json(job["trial"])
    set_threads(trial.threads)
    processes = from_environment()
    try:
        with joined(processes, trial.device) if processes else nullcontext():
            return _Worker(trial, Layout(**job["layout"]), ParallelRecipe(**job["parallel"]), processes).measure(
                job["seconds"]
            )
    except UserError as error:
        return {"error": str(error)}


class _Worker:
    """A step of a layout, or of one process alone where there are no others."""

    def __init__(self, trial: Trial, layout: Layout, parallel: ParallelRecipe, processes: Processes | None):
        self._trial, self._processes = trial, processes
        objective = CAUSAL
        how: dict[str, Any] = {"precision": trial.precision, "device": trial.device}
        seed = derive(trial.seed, "weights")
        if processes is None:
            self._grid, self._devices = None, None
            model = build(trial.shape, seed, trial.device)
        else:
            self._grid = Grid(layout, trial.device)
            self._devices = lay_out(trial.shape, objective, trial.settings, parallel, self._grid, seed=seed, **how)
            model = self._devices.model
        self._step = TrainStep(model, objective, trial.settings, devices=self._devices, **how)
        random = np.random.default_rng(derive(trial.seed, "bench"))
        self._windows = random.integers(
            0, trial.shape.vocabulary_size, (trial.batch_size, trial.shape.context + 1)
        )

    def measure(self, least_seconds: float) -> dict[str, Any]:
        """Times of steps, and on several processes what they send and keep, and a step as it was recorded."""
        step_seconds = self._times(least_seconds)
        found = {"step_seconds": float(np.median(step_seconds)), "steps": len(step_seconds)}
        if self._grid is None:
            return found
        with TemporaryDirectory(prefix="groundup-") as folder:
            trace = Path(folder) / "trace.json"
            self._record(trace)
            watched = self._watch()
            own = read(trace, [(record.kind, record.axis, record.bytes) for record in watched.traffic])
        return found | {
            "places": self._places(),
            "sent": counted(watched.traffic),
            "kept": _kept(watched),
            "recorded": self._align(own),
        }

    def _take(self) -> None:
        result = self._step(self._windows, _LR)
        if not result.usable:
            raise UserError(f"the loss became {result.loss} (gradient norm {result.grad_norm})")

    def _times(self, least_seconds: float) -> list[float]:
        """Of as many steps in every process: how many, the first one says."""
        warm = [seconds_of(self._take) for _ in range(_WARMUPS)]
        count = max(3, min(_MOST_STEPS, round(least_seconds / warm[-1])))
        if self._processes:
            count = share(count)
        return [seconds_of(self._take) for _ in range(count)]

    def _record(self, trace: Path) -> None:
        """Write down a few steps under torch.profiler, which all processes begin together."""
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorder:
            for _ in range(_RECORDED):
                barrier()
                with record_function(STEP):
                    self._take()
        recorder.export_chrome_trace(str(trace))

    def _watch(self) -> StepOfOne:
        """A step of the same kind in which all tensors and all that is sent are counted."""
        assert self._devices is not None
        trial, objective = self._trial, self._step.objective
        how: dict[str, Any] = {"precision": trial.precision, "device": trial.device}
        return WatchedStep(objective, trial.settings, devices=self._devices, **how).watched(self._windows)

    def _align(self, own: Recorded) -> dict[str, Any]:
        """This process's step held against the same step in the others."""
        everyones = agree(lambda: (own, self._groups(), self._places()))
        recorded = [one for one, *_ in everyones]
        align(recorded, [groups for _, groups, _ in everyones], [places for *_, places in everyones])
        rank = self._processes.rank if self._processes else 0
        return _as_json(recorded[rank], min(one.step[0] for one in recorded))

    def _places(self) -> dict[str, int]:
        assert self._grid is not None
        return {axis: self._grid.rank(axis) for axis in self._grid.mesh.mesh_dim_names or ()}

    def _groups(self) -> dict[str, str]:
        """For every axis, or axes together, which group this process belongs to: where it is on the others."""
        assert self._grid is not None
        places = self._places()
        wide = [axis for axis in places if self._grid.size(axis) > 1]
        groups = {}
        for chosen in range(1, 1 << len(wide)):
            inside = [axis for number, axis in enumerate(wide) if chosen >> number & 1]
            groups["+".join(inside)] = str({axis: at for axis, at in places.items() if axis not in inside})
        return groups


def _kept(watched: StepOfOne) -> dict[str, int]:
    """Bytes on this process: between steps, as the optimizer begins, and the most while a step is taken."""
    return {
        "weights": watched.standing["weights"],
        "gradients": watched.ready["gradients"],
        "optimizer": watched.standing["optimizer"],
        "weights_at_work": watched.timeline.greatest("weights"),
        "gradients_at_work": watched.timeline.greatest("gradients"),
        "activations_at_work": watched.timeline.greatest("activations"),
    }


def _as_json(one: Recorded, begin: float) -> dict[str, Any]:
    """Times in seconds from the beginning of the first process's step on."""
    lane: Lane = resolve(one)
    communications = [asdict(found) for found in one.communications]
    for found in communications:
        for name in ("begin", "travels", "end"):
            found[name] = round(found[name] - begin, 6)
    wall, idle, exposed = one.step[1] - one.step[0], seconds(lane.idle), seconds(lane.exposed)
    return {
        "step_seconds": wall,
        "compute_seconds": wall - idle - exposed,
        "exposed_seconds": exposed,
        "idle_seconds": idle,
        "begin": round(one.step[0] - begin, 6),
        "last_backward": round(one.update - begin, 6),
        "phases": [(phase, round(a - begin, 6), round(b - begin, 6)) for phase, a, b in lane.phases],
        "idle": [(round(a - begin, 6), round(b - begin, 6)) for a, b in lane.idle],
        "exposed": [(round(a - begin, 6), round(b - begin, 6)) for a, b in lane.exposed],
        "communications": communications,
    }
