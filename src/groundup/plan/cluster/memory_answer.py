"""What one asks of memory on many devices, answered: what takes it and when, and what would make it fit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from groundup.errors import UserError
from groundup.plan.cluster.devices import Cluster, Device
from groundup.plan.cluster.layout import Layout, Zero
from groundup.plan.cluster.memory import USABLE, DeviceMemory, Moment, device_memory, fits, usable_bytes
from groundup.plan.cluster.memory_figures import peak_figures
from groundup.plan.cluster.states import STATE_RECIPES, StateRecipe
from groundup.plan.figures import Answer, Chart, Column, Figure, Series, Table, Value
from groundup.plan.memory import Recompute
from groundup.plan.parameters import total
from groundup.shape import Shape

_NOMINAL_SIZES = {"1B": 1e9, "7B": 7e9, "70B": 70e9, "405B": 405e9}
_MOST_DEVICES = 1 << 20


@dataclass(frozen=True)
class MemoryQuestion:
    """What is to be trained, where, and how it is laid out."""

    shape: Shape
    layout: Layout
    recipe: StateRecipe
    device: Device
    flash: bool = True

    def memory(self) -> DeviceMemory:
        """The answer in bytes."""
        return device_memory(self.shape, self.layout, self.recipe, flash=self.flash)


def count_of(cluster: Cluster, gpus: int | None) -> int | None:
    """How many devices were asked for, None where neither says; UserError where both do and differ."""
    if gpus and cluster.count not in (1, gpus):
        raise UserError(f"--hardware {cluster.name} and --gpus {gpus} differ; give one of them")
    return gpus or (cluster.count if cluster.count > 1 else None)


def arrange(devices: int | None, data: int | None, **sizes: Any) -> Layout:
    """A layout of `devices` with these sizes of its groups; data parallelism takes what the others leave.

    Raises:
        UserError: the groups do not make up the devices; it names sizes that would.
    """
    layout = Layout(**sizes)
    model = layout.devices
    if devices is None:
        return replace(layout, data=data or 1)
    named = f"tp {layout.tensor} x pp {layout.pipeline} x cp {layout.context}"
    if devices % model:
        smaller = ", ".join(str(size) for size in range(1, min(devices, 64) + 1) if devices % size == 0)
        raise UserError(f"{named} = {model} does not divide {devices} devices; their product may be {smaller}")
    if data not in (None, devices // model):
        raise UserError(
            f"dp {data} x {named} = {data * model} devices, not {devices}; "
            f"leave --dp open or give --dp {devices // model}"
        )
    return replace(layout, data=devices // model)


def memory_answer(question: MemoryQuestion) -> Answer:
    """The memory of a training step; UserError where the layout does not divide the model."""
    memory = question.memory()
    return Answer(
        title=f"Memory of training on {question.layout.devices} x {question.device.label}",
        figures=_figures(question, memory),
        tables=[_moments_table(memory), _stages_table(memory), _states_table()],
        charts=[_moments_chart(memory), *([_stages_chart(memory)] if len(memory.stages) > 1 else [])],
        notes=[*_verdict(question, memory), *_fixes(question, memory)],
    )


def _figures(question: MemoryQuestion, memory: DeviceMemory) -> list[Figure]:
    shape, layout, recipe = question.shape, question.layout, question.recipe
    usable = usable_bytes(question.device)
    return [
        Figure("parameters", "parameters", total(shape), "count", source="counted from the shape"),
        Figure("devices", "devices", layout.devices, "count", formula="d t p c",
               values={"d": layout.data, "t": layout.tensor, "p": layout.pipeline, "c": layout.context}),
        Figure("batch_size", "sequences a step", layout.batch, "count", formula="b m d",
               values={"b": layout.micro_batch, "m": layout.accumulation, "d": layout.data}),
        Figure("device_bytes", "memory of a device", question.device.memory_bytes, "bytes",
               source=question.device.source),
        Figure("free_bytes", "free at the peak", usable - memory.peak, "bytes", formula="M u - peak",
               values={"M": question.device.memory_bytes, "u": USABLE, "peak": memory.peak},
               source="u: the driver and NCCL take the rest"),
        Figure("state_bytes_per_parameter", f"kept a parameter ({recipe.label})", recipe.total, "bytes",
               formula="weights + gradients + master + optimizer",
               values={"weights": recipe.weights, "gradients": recipe.gradients, "master": recipe.master,
                       "optimizer": recipe.optimizer}, source=recipe.source),
        *peak_figures(shape, layout, recipe, memory, question.flash),
    ]  # fmt: skip


def _moments_table(memory: DeviceMemory) -> Table:
    peak = memory.at_peak
    columns = [Column("moment", "moment"), *(Column(f"{name}_bytes", name, "bytes") for name in Moment._fields)]
    rows = [(name, *moment, moment.total) for name, moment in peak.moments.items()]
    title = f"Moments of a step on stage {peak.stage.index}"
    return Table("moments", title, [*columns, Column("total_bytes", "total", "bytes")], rows)


def _stages_table(memory: DeviceMemory) -> Table:
    columns = [
        Column("stage", "stage", "count"),
        Column("layers", "layers", "count"),
        Column("parameters", "parameters", "count"),
        Column("in_flight", "micro-batches in flight"),
        Column("peak_moment", "peaks at"),
        Column("peak_bytes", "peak", "bytes"),
    ]
    rows = [
        (one.stage.index, one.stage.layers, one.stage.parameters, one.in_flight, one.peak_moment, one.peak)
        for one in memory.stages
    ]
    return Table("stages", "Stages of the pipeline", columns, rows)


def _states_table() -> Table:
    columns = [Column("recipe", "recipe"), Column("bytes_per_parameter", "B a parameter")]
    columns += [Column(f"bytes_{name}", name, "bytes") for name in _NOMINAL_SIZES]
    rows: list[Sequence[Value]] = [
        (recipe.name, recipe.total, *(recipe.total * size for size in _NOMINAL_SIZES.values()))
        for recipe in STATE_RECIPES.values()
    ]
    return Table("states", "Weights, gradients and optimizer states, all devices together", columns, rows)


def _moments_chart(memory: DeviceMemory) -> Chart:
    moments = memory.at_peak.moments
    series = [
        Series(name, list(moments), [getattr(moment, name) for moment in moments.values()])
        for name in Moment._fields
    ]
    return Chart("moments", "Memory within a step", "stack", "moment", "bytes", "", "bytes", series)


def _stages_chart(memory: DeviceMemory) -> Chart:
    names = [f"stage {one.stage.index}" for one in memory.stages]
    at_peaks = [one.moments[one.peak_moment] for one in memory.stages]
    series = [Series(name, names, [getattr(moment, name) for moment in at_peaks]) for name in Moment._fields]
    return Chart("stages", "Memory of each stage at its peak", "stack", "stage", "bytes", "", "bytes", series)


def _verdict(question: MemoryQuestion, memory: DeviceMemory) -> list[str]:
    room = f"{_gb(usable_bytes(question.device))} that a device can give"
    greatest = max(memory.at_peak.moments[memory.at_peak.peak_moment]._asdict().items(), key=lambda item: item[1])
    share = f"most of it {greatest[0]} ({greatest[1] / memory.peak:.0%})"
    if fits(memory, question.device):
        return [f"it fits: {_gb(memory.peak)} of the {room}; {share}"]
    return [f"it does not fit: {_gb(memory.peak)}, more than the {room}; {share}"]


def _fixes(question: MemoryQuestion, memory: DeviceMemory) -> list[str]:
    """The changes that make it fit, one after the other until it does; each names what it leads to."""
    notes: list[str] = []
    while not fits(memory, question.device):
        for change, layout in _changes(question):
            changed = replace(question, layout=layout)
            if (after := changed.memory()).peak < 0.99 * memory.peak:
                question, memory = changed, after
                verdict = "fits" if fits(memory, question.device) else "not enough alone"
                notes.append(f"{'then ' if notes else ''}{change}: {_gb(memory.peak)}, {verdict}")
                break
        else:
            return [
                *notes,
                "no layout of this kind fits; take a smaller model, a shorter --seq or a larger device",
            ]
    return notes


def _changes(question: MemoryQuestion) -> Iterator[tuple[str, Layout]]:
    """What to try next, the cheapest first, of what the model and the number of devices allow."""
    layout, shape = question.layout, question.shape
    if layout.micro_batch > 1:
        steps = layout.micro_batch * layout.accumulation
        yield f"--micro-batch 1 --accumulation {steps}", replace(layout, micro_batch=1, accumulation=steps)
    kinds = get_args(Recompute)
    for kind in kinds[kinds.index(layout.recompute) + 1 :]:
        yield f"--recompute {kind}", replace(layout, recompute=kind)
    if layout.data * layout.context > 1:
        for stage in get_args(Zero)[layout.zero + 1 :]:
            yield f"--zero {stage}", replace(layout, zero=stage)
    for group, option, most in (("tensor", "tp", question.device.node_size), ("pipeline", "pp", shape.num_layers)):
        size = 2 * getattr(layout, group)
        wider = replace(layout, data=layout.data // 2, **{group: size})
        if layout.data % 2 == 0 and size <= most and _divides(wider, shape):
            yield f"--{option} {size} (--dp {wider.data})", _filled(wider)
    for group, option, most in (
        ("data", "dp", _MOST_DEVICES if layout.zero else 0),
        ("tensor", "tp", question.device.node_size),
        ("pipeline", "pp", shape.num_layers),
    ):
        size = 2 * getattr(layout, group)
        more = replace(layout, **{group: size})
        if size <= most and more.devices <= _MOST_DEVICES and _divides(more, shape):
            yield f"--gpus {more.devices} (--{option} {size})", _filled(more)


def _filled(layout: Layout) -> Layout:
    """With as many micro-batches as keep the pipeline busy."""
    return replace(layout, accumulation=max(layout.accumulation, layout.pipeline * layout.virtual_stages))


def _divides(layout: Layout, shape: Shape) -> bool:
    try:
        layout.check(shape)
    except UserError:
        return False
    return True


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"
