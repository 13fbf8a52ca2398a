"""Where the time of a training step goes: steps recorded by torch.profiler, sorted by kind of work and by module.

Runs in the process of `bench_worker`. An operator's own time, without that of the operators that it calls, counts
once. What kind of work it is follows from where it was called: in which module, in the loss or in the update. In
the backward pass a node of the graph has the number of the operator of the forward pass that it belongs to.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import nn
from torch._C._profiler import _RecordFunctionFast as annotation
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from groundup.objective import Batch, Loss, Objective
from groundup.pipeline.bench_flops import PRODUCTS, Shapes, operator_flops
from groundup.pipeline.bench_process import Trial
from groundup.pipeline.bench_step import make_step
from groundup.train.timing import repeat

KINDS = (
    "matrix products", "attention", "loss", "norms and pointwise", "casts and copies", "optimizer",
    "framework overhead",
)  # fmt: skip
"""The kinds of work in the order of the table; overhead is what the clock shows beside the operators' own time."""

_STEP, _BATCH, _FORWARD, _MODULE = "groundup.step", "groundup.batch", "groundup.forward", "groundup.module "
_BACKWARD = "autograd::engine::evaluate_function: "
_COMPILED, _DISPATCH = "Torch-Compiled Region", "PythonDispatchMode"
_STOPPED = "groundup.stopped"
_LOSS = "loss"
_MOST_STEPS, _MOST_OPERATORS = 5, 12

_COPIES = {"copy_", "_to_copy", "clone", "cat", "stack", "fill_", "zero_", "contiguous", "repeat"}
# Operators that only look at a tensor in another way, take memory, or hand on to others.
_BOOKKEEPING = {
    "view", "_unsafe_view", "as_strided", "t", "numpy_T", "transpose", "permute", "reshape", "slice", "select",
    "split", "unsqueeze", "squeeze", "expand", "expand_as", "narrow", "flatten", "unflatten", "detach", "detach_",
    "alias", "chunk", "unbind", "resolve_conj", "resolve_neg", "result_type", "promote_types", "lift_fresh",
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "zeros", "zeros_like", "new_zeros",
    "ones", "ones_like", "full", "new_full", "to", "type_as", "item", "_local_scalar_dense",
    "linear", "matmul", "embedding", "softmax", "log_softmax", "rms_norm", "layer_norm",
    "scaled_dot_product_attention",
}  # fmt: skip


def record(trial: Trial, seconds: float, timeline: Path) -> dict[str, Any]:
    """Record a few steps, write them to `timeline` (in Chrome's trace format), and sum them up.

    Gives seconds, calls and floating-point operations a step, as the rows `kinds`, `modules` and `operators`;
    `seconds` is how long steps are timed before, without the recorder.
    """
    compiled = trial.settings.compile == "on"
    if compiled:
        _name_compiled_kernels()
    step = make_step(trial, lambda model, objective: _annotate(model, objective, compiled))
    undisturbed = repeat(step, seconds).median
    num_steps = max(1, min(_MOST_STEPS, round(seconds / undisturbed)))
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorder:
        for _ in range(num_steps):
            with annotation(_STEP):
                step()
    recorder.export_chrome_trace(str(timeline))
    summary = summarise(recorder.events(), num_steps)
    return {"steps": num_steps, "undisturbed_step_seconds": undisturbed} | summary


def _name_compiled_kernels() -> None:
    """Have the compiler's own kernels appear in the recording."""
    from torch._inductor import config

    config.cpp.enable_kernel_profile = True


def _annotate(model: nn.Module, objective: Objective, compiled: bool) -> Objective:
    """Make modules and the objective say in the recording where they begin and end.

    Not within compiled blocks, where the compiler would have to follow.
    """
    for name, module in model.named_modules():
        if name and not (compiled and name.startswith("blocks.")):
            _annotate_module(module, f"{_MODULE}{name} {type(module).__name__}")

    def collate(*arguments: Any) -> Batch:
        with annotation(_BATCH):
            return objective.collate(*arguments)

    def loss(*arguments: Any) -> Loss:
        with annotation(_FORWARD):
            return objective.loss(*arguments)

    return replace(objective, collate=collate, loss=loss)


def _annotate_module(module: nn.Module, name: str) -> None:
    running: list[annotation] = []

    def enter(*_: Any) -> None:
        running.append(annotation(name))
        running[-1].__enter__()

    def leave(*_: Any) -> None:
        if sys.exc_info()[0]:
            with annotation(_STOPPED):
                pass
        running.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(enter)
    # Recomputation leaves a block by an exception, as soon as it has what it needs.
    module.register_forward_hook(leave, always_call=True)


class Place(NamedTuple):
    """Where an operator was called: forward, backward, update or batch; the module, or `loss`, and its class."""

    phase: str
    module: str | None = None
    module_class: str = ""


_BETWEEN = Place("update")
"""Of what is called by the step itself: clipping, the optimizer, copies of the weights."""


@dataclass
class _Tally:
    """What was counted of some operators, over all steps."""

    seconds: float = 0.0
    calls: int = 0
    flops: float = 0.0
    phases: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, seconds: float, flops: float, phase: str) -> None:
        self.seconds += seconds
        self.calls += 1
        self.flops += flops
        self.phases[phase] += seconds

    def row(self, num_steps: int, wall: float) -> dict[str, Any]:
        """A step's mean; `wall` is the seconds of all steps."""
        return {
            "seconds": self.seconds / num_steps,
            "share": self.seconds / wall,
            "calls": self.calls / num_steps,
            "flops": self.flops / num_steps,
            "flops_per_second": self.flops / self.seconds if self.flops else None,
            "forward_seconds": self.phases["forward"] / num_steps,
            "backward_seconds": self.phases["backward"] / num_steps,
        }


def summarise(events: Iterable[FunctionEvent], num_steps: int) -> dict[str, Any]:
    """The rows of `record` from the profiler's events."""
    roots = sorted((event for event in events if event.cpu_parent is None), key=_start)
    places = dict(_forward_places(roots))
    wall = sum(event.cpu_time_total for event in roots if event.name == _STEP) / 1e6
    kinds, modules, operators = (defaultdict[str, _Tally](_Tally) for _ in range(3))
    for event, place in _placed(roots, places):
        if not _is_operator(event.name) or _hands_over(event):
            continue
        name = event.name.rpartition("::")[2]
        seconds, flops = event.self_cpu_time_total / 1e6, operator_flops(name, cast(Shapes, event.input_shapes))
        keys = (kind_of(name, place), _module_name(place), _operator_name(name))
        for tallies, key in zip((kinds, modules, operators), keys, strict=True):
            tallies[key].add(seconds, flops, place.phase)
    kinds[KINDS[-1]].seconds = max(0.0, wall - sum(tally.seconds for tally in kinds.values()))
    return {
        "step_seconds": wall / num_steps,
        "kinds": [{"kind": kind} | kinds[kind].row(num_steps, wall) for kind in KINDS],
        "modules": _rows("module", modules, num_steps, wall),
        "operators": _rows("operator", operators, num_steps, wall)[:_MOST_OPERATORS],
    }


def _rows(title: str, tallies: dict[str, _Tally], num_steps: int, wall: float) -> list[dict[str, Any]]:
    """The dearest first."""
    dearest = sorted(tallies.items(), key=lambda item: -item[1].seconds)
    return [{title: name} | tally.row(num_steps, wall) for name, tally in dearest]


def _start(event: FunctionEvent) -> float:
    return float(event.time_range.start)


def _placed(
    events: Iterable[FunctionEvent], places: dict[int, Place], place: Place = _BETWEEN
) -> Iterator[tuple[FunctionEvent, Place]]:
    """Every event with its place; `places` of the forward pass, by the graph's sequence numbers."""
    for event in events:
        own = _enter(event, place, places)
        yield event, own
        yield from _placed(_carried_out(sorted(event.cpu_children, key=_start)), places, own)


def _enter(event: FunctionEvent, place: Place, places: dict[int, Place]) -> Place:
    """The place of what happens inside `event`, which itself was called at `place`."""
    if event.name.startswith(_MODULE):
        module, module_class = event.name.removeprefix(_MODULE).rsplit(" ", 1)
        return Place(place.phase, module, module_class)
    if event.name == _FORWARD:
        return Place("forward", _LOSS)
    if event.name == _BATCH:
        return Place("batch")
    if event.name.startswith(_COMPILED):
        return Place(place.phase, "blocks.* (compiled)")
    if event.name.startswith(_BACKWARD):
        return places.get(event.sequence_nr, Place("forward"))._replace(phase="backward")
    return place


def _forward_places(roots: list[FunctionEvent]) -> Iterator[tuple[int, Place]]:
    """Of each sequence number the place: the last operator that bears a number is the one that used it up."""
    for event, place in _placed(roots, {}):
        if place.phase == "forward" and event.sequence_nr >= 0:
            yield event.sequence_nr, place


def _is_operator(name: str) -> bool:
    """Whether this is an operator that may do work, not a frame around some."""
    operator = "::" in name and not name.startswith(("autograd::", "torch::autograd::"))
    is_bookkeeping = name.rpartition("::")[2] in _BOOKKEEPING
    return (operator and not is_bookkeeping) or "cpp_fused" in name


def _hands_over(event: FunctionEvent) -> bool:
    """Whether an operator only asks selective recomputation what to do.

    If it is then computed, it is recorded again within; if its result had been kept, it is not.
    """
    return any(child.name == _DISPATCH for child in event.cpu_children)


def _carried_out(events: list[FunctionEvent]) -> list[FunctionEvent]:
    """Without the operator in which recomputation left a module, as it had all that it needs."""
    names = [event.name for event in events]
    if _STOPPED not in names or len(events) < 2:
        return events
    stop = names.index(_STOPPED)
    return events if names[stop - 1].startswith(_MODULE) else events[: stop - 1] + events[stop:]


def kind_of(operator: str, place: Place) -> str:
    """The kind of work, one of `KINDS`, that an operator does at a place."""
    if place.phase == "update":
        return "optimizer"
    if place.module == _LOSS:
        return "loss"
    # Within compiled blocks modules are not known: there a batch of products, or a softmax, can only be attention.
    tells = "attention" in operator or "softmax" in operator or operator in {"bmm", "baddbmm"}
    if tells or "Attention" in place.module_class:
        return "attention"
    if operator in PRODUCTS:
        return "matrix products"
    return "casts and copies" if operator in _COPIES else "norms and pointwise"


def _module_name(place: Place) -> str:
    """A module's name with its blocks' numbers left out, or what else was going on."""
    if place.phase in {"update", "batch"}:
        return place.phase
    return re.sub(r"\.\d+\b", ".*", place.module) if place.module else "elsewhere"


def _operator_name(name: str) -> str:
    """A compiled kernel's name without its numbers."""
    return re.sub(r"^graph_\d+_|_\d+$", "", name)
