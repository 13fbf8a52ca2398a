"""`groundup plan dryrun`: a recipe's step on many devices, rehearsed here, beside what formulas say."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from groundup.errors import UserError
from groundup.pipeline.sent_rows import beside, counted
from groundup.plan.candidates import ladder
from groundup.plan.cluster.devices import Cluster, parse_hardware
from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.layout_question import nearest_batch
from groundup.plan.cluster.memory import FORMULAS_ALONE, device_memory, device_stages
from groundup.plan.cluster.search import search
from groundup.plan.cluster.sent import NumberBytes, Sent, step_sent
from groundup.plan.cluster.stages import Stage
from groundup.plan.cluster.states import StateRecipe
from groundup.plan.figures import Answer, Column, Figure, Table, Value
from groundup.plan.hardware import Precision
from groundup.plan.models import parse_shape
from groundup.plan.optimizer_memory import state_bytes as optimizer_bytes
from groundup.plan.parallel import group_sizes, refuse_unsupported, resolve
from groundup.plan.parameters import total
from groundup.recipe import ParallelRecipe, Recipe
from groundup.shape import Shape, family

if TYPE_CHECKING:
    from groundup.pipeline.watched_step import StepOfOne
    from groundup.train.memory import Category

# Where neither recipe nor planner says how large the batch is: Llama 3's (arXiv:2407.21783).
_TOKENS_A_STEP = 4e6
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
_ZERO = "Rajbhandari et al. 2020, arXiv:1910.02054"


@dataclass(frozen=True)
class Rehearsed:
    """What was asked, as it is rehearsed: a process `rank` of a layout."""

    shape: Shape
    layout: Layout
    recipe: Recipe
    cluster: Cluster
    precision: Precision
    rank: int
    is_planned: bool

    @property
    def place(self) -> int:
        """The process's place in the pipeline, which is the outermost axis."""
        return self.rank // (self.layout.devices // self.layout.pipeline)

    @property
    def size(self) -> NumberBytes:
        """Bytes of a number, by what it is."""
        weights = 2 if self.precision == "bf16-weights" else 4
        values = 4 if self.precision == "fp32" else 2
        return NumberBytes(weights, _BYTES[self.recipe.parallel.reduce], values, weights)

    @property
    def states(self) -> StateRecipe:
        """Bytes a parameter. ZeRO-1 and 2 have whole weights to compute with beside the divided ones."""
        optimizer = optimizer_bytes(self.shape, self.recipe.train) / total(self.shape)
        working = 2 if self.precision == "bf16-weights" else 4
        has_copy = self.layout.zero in (1, 2) or self.precision == "bf16-weights"
        return StateRecipe(
            self.precision,
            self.precision,
            weights=working + (2 if self.precision == "bf16" else 0),
            gradients=4,
            master=4 if has_copy else 0,
            optimizer=optimizer,
            source=_ZERO,
            value_bytes=self.size.values,
        )


def asked(recipe: Recipe, hardware: str, params: str | None, shape: str | None, rank: int) -> Rehearsed:
    """What the words of the command line mean; UserError for what a user can mend."""
    if family(recipe.model.family).experts:
        raise UserError(
            f"model.family={recipe.model.family}: which expert gets a token depends on values, which a dry run "
            "does not have; use a family without experts, or measure it with groundup bench parallel"
        )
    cluster = parse_hardware(hardware)
    refuse_unsupported(recipe, cluster.count)
    model = _model(recipe, params, shape)
    is_planned = recipe.parallel == ParallelRecipe()
    precision: Precision = "bf16" if recipe.train.precision == "auto" else recipe.train.precision
    whole = Rehearsed(model, Layout(), recipe, cluster, precision, rank, is_planned)
    layout = _planned(whole) if is_planned else _wanted(whole)
    if not 0 <= rank < layout.devices:
        raise UserError(f"--rank {rank}: there are {layout.devices} processes; use 0 to {layout.devices - 1}")
    parallel = recipe.parallel.model_copy(update={"zero": layout.zero})
    return replace(whole, layout=layout, recipe=recipe.model_copy(update={"parallel": parallel}))


def _model(recipe: Recipe, params: str | None, shape: str | None) -> Shape:
    """The model that is asked for, or the recipe's, if it says how large that is."""
    context, vocabulary = recipe.model.context, recipe.tokenizer.vocabulary_size
    if params or shape:
        return parse_shape(params, shape, context, vocabulary)
    if context and vocabulary and recipe.model.num_layers and recipe.model.width:
        return ladder(recipe.model, vocabulary, context)[0]
    raise UserError(
        "a dry run needs a model, and the recipe leaves its size to the planner; give --params 7B, --shape NAME, "
        "or --set model.num_layers, model.width, model.context and tokenizer.vocabulary_size"
    )


def _planned(asked: Rehearsed) -> Layout:
    """The planner's best layout."""
    shape, devices = asked.shape, asked.cluster.count
    batch = asked.recipe.train.batch_size or nearest_batch(_TOKENS_A_STEP, shape.context, devices)
    fixed = {"micro_batch": asked.recipe.train.micro_batch} if asked.recipe.train.micro_batch else {}
    return search(shape, asked.cluster, batch, asked.states, fixed=fixed, limit=1)[0].layout


def _wanted(asked: Rehearsed) -> Layout:
    """What [parallel] says; where it says no batch, the smallest that fills a pipeline twice."""
    recipe, devices = asked.recipe, asked.cluster.count
    sizes, micro_batch = group_sizes(recipe.parallel, devices), recipe.train.micro_batch or 1
    batch = recipe.train.batch_size or 2 * sizes.pipeline * sizes.data * micro_batch
    return resolve(recipe, devices, asked.shape, batch, micro_batch)


def dry_run(asked: Rehearsed) -> Answer:
    """Rehearse it, and say beside each figure what the formula says."""
    from groundup.pipeline.rehearsal import rehearse  # two seconds, which a wrong question is spared

    seen = rehearse(
        asked.shape,
        asked.layout,
        asked.recipe.train,
        asked.recipe.parallel,
        precision=asked.precision,
        rank=asked.rank,
    )
    stage = device_stages(asked.shape, asked.layout)[asked.place]
    optimizer = asked.recipe.train.optimizer
    theory = step_sent(asked.shape, asked.layout, asked.place, asked.size, optimizer=optimizer)
    return Answer(
        title=f"Dry run of process {asked.rank} of {asked.layout.devices}",
        figures=[
            *_layout_figures(asked, stage),
            Figure("peak_bytes", "memory at the peak", seen.timeline.peak, "bytes",
                   source="counted: tensors alive, no allocator, no kernels"),
            Figure("sent_bytes", "sent in a step", sum(record.sent_bytes for record in seen.traffic), "bytes",
                   source="counted: collectives of the step, each as a ring"),
            Figure("theory_sent_bytes", "sent in a step, in theory", sum(row.bytes for row in theory), "bytes"),
        ],
        tables=[
            Table("memory", "Memory of this process",
                  [Column("moment", "moment"), Column("category", "what"),
                   Column("counted_bytes", "counted", "bytes"),
                   Column("formula_bytes", "formula", "bytes"), Column("difference", "difference", "share")],
                  _memory_rows(asked, seen, stage)),
            Table("sent", "Sent in a step",
                  [Column("purpose", "what"), Column("kind", "kind"), Column("axis", "over"),
                   Column("number", "number", "count"), Column("counted_bytes", "counted", "bytes"),
                   Column("theory_bytes", "theory", "bytes"), Column("difference", "difference", "share")],
                  _sent_rows(seen, theory)),
        ],
        notes=_notes(asked, seen),
    )  # fmt: skip


def _layout_figures(asked: Rehearsed, stage: Stage) -> list[Figure]:
    layout = asked.layout
    sizes = {"data": layout.data, "tensor": layout.tensor, "context": layout.context, "pipeline": layout.pipeline}
    return [
        Figure(
            "devices", "devices", layout.devices, "count", formula="data tensor context pipeline", values=sizes
        ),
        *(Figure(name, name, size, "count") for name, size in sizes.items()),
        Figure("zero", "ZeRO", layout.zero, "count"),
        Figure("micro_batch", "sequences a micro-batch", layout.micro_batch, "count"),
        Figure("accumulation", "micro-batches a step", layout.accumulation, "count"),
        Figure("recompute", "recomputation", layout.recompute),
        Figure("precision", "precision", asked.precision),
        Figure("stage", "place in the pipeline", asked.place, "count"),
        Figure("layers", "layers of this process", stage.layers, "count"),
        Figure("parameters", "parameters of its stage", stage.parameters, "count"),
    ]


def _memory_rows(asked: Rehearsed, seen: "StepOfOne", stage: Stage) -> list[list[Value]]:
    """Between two steps, when gradients are complete, and when it is the most."""
    weights, gradients, optimizer = _own_states(asked, stage)
    rows = [
        _row("between steps", "weights", seen.standing["weights"], weights),
        _row("between steps", "optimizer", seen.standing["optimizer"], optimizer),
        _row("before the update", "gradients", seen.ready["gradients"], gradients),
    ]
    memory = device_memory(asked.shape, asked.layout, asked.states, constants=FORMULAS_ALONE).stages[asked.place]
    moment = memory.moments[memory.peak_moment]
    master = asked.states.master * stage.parameters / asked.layout.tensor / _shards(asked.layout)
    formula: dict[Category, float] = {
        "weights": moment.weights + master,
        "gradients": moment.gradients,
        "optimizer": moment.optimizer - master,
        "activations": moment.activations + moment.logits,
        "other": moment.other,
    }
    rows += [_row("at the peak", name, seen.at_peak[name], bytes_) for name, bytes_ in formula.items()]
    return [*rows, _row("at the peak", "total", seen.timeline.peak, memory.peak)]


def _own_states(asked: Rehearsed, stage: Stage) -> tuple[float, float, float]:
    """Float32 weights, their gradients and the optimizer's states, as they are kept: from ZeRO-1 on divided."""
    parameters = stage.parameters / asked.layout.tensor / _shards(asked.layout)
    return 4 * parameters, 4 * parameters, asked.states.optimizer * parameters


def _shards(layout: Layout) -> int:
    return layout.zero_devices if layout.zero else 1


def _row(moment: str, name: str, counted: float, formula: float) -> list[Value]:
    return [moment, name, counted, formula, _difference(counted, formula)]


def _difference(counted: float, formula: float | None) -> float | None:
    return counted / formula - 1 if formula else None


def _sent_rows(seen: "StepOfOne", theory: list[Sent]) -> list[list[Value]]:
    """By kind and axis, the most bytes first; what theory leaves out has no difference from it."""
    found = sorted(beside(counted(seen.traffic), theory), key=lambda row: -row["bytes"])
    rows: list[list[Value]] = [
        [row["purpose"], row["kind"], row["axis"], row["count"], row["bytes"], row["theory_bytes"],
         _difference(row["bytes"], row["theory_bytes"])]
        for row in found
    ]  # fmt: skip
    number, sent, expected = (sum(row[name] or 0 for row in found) for name in ("count", "bytes", "theory_bytes"))
    return [*rows, ["all", None, None, number, sent, expected, _difference(sent, expected)]]


def _notes(asked: Rehearsed, seen: "StepOfOne") -> list[str]:
    layout = asked.layout
    device, peak = asked.cluster.device, seen.timeline.peak
    notes = [
        f"the peak is {peak / device.memory_bytes:.0%} of the {device.memory_bytes / 1e9:.0f} GB: {device.label}",
        "counted are the bytes of tensors, with the operators of a CPU and fused attention: an allocator's slack, "
        "kernels' scratch and the driver come on top",
    ]
    if asked.is_planned:
        notes.append("[parallel] says nothing: this is the planner's best layout (`groundup plan layout`)")
    if layout.zero in (1, 2):
        notes.append(
            f"ZeRO-{layout.zero} keeps everything divided between steps; during a step weights are whole beside "
            "their divided originals, as the formula counts them"
        )
    if layout.zero >= 2 and layout.pipeline > 1:
        notes.append("a pipeline's schedule keeps whole gradients until the last micro-batch, with every ZeRO")
    return notes
