"""The memory of a training step over time: which bytes are live after every operator, and what they are for.

PyTorch tells of every tensor that is made (a dispatch mode sees each operator's results), and a weak reference
tells when a tensor's storage is gone, so the sums are exact, on any device. Not counted is what no tensor holds:
scratch memory inside kernels, the allocator's slack, the process itself.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from groundup.model.registry import build
from groundup.objective import OBJECTIVES, Batch, Loss, Objective
from groundup.plan.hardware import Precision
from groundup.recipe import TrainRecipe
from groundup.shape import Shape, family
from groundup.train.step import TrainStep

Phase = Literal["forward", "backward", "update"]
"""`update` is all that follows the last backward pass: clipping, the optimizer's step, clearing the gradients."""
Category = Literal["weights", "gradients", "optimizer", "activations", "other"]
"""`weights` have their copies in shorter types with them; `other` comes and goes."""
PHASES: tuple[Phase, ...] = get_args(Phase)
CATEGORIES: tuple[Category, ...] = get_args(Category)


@dataclass(frozen=True)
class Timeline:
    """Live bytes after each operator of one step: the operator's phase, and int64 (operators,) by category."""

    phases: tuple[Phase, ...]
    bytes: dict[Category, npt.NDArray[np.int64]]

    @property
    def total(self) -> npt.NDArray[np.int64]:
        """All categories together, int64 (operators,)."""
        return np.sum(list(self.bytes.values()), axis=0)

    @property
    def peak(self) -> int:
        """The greatest total."""
        return int(self.total.max())

    def greatest(self, category: Category) -> int:
        """The most bytes that one category holds at any time."""
        return int(self.bytes[category].max())

    def peaks(self) -> dict[Phase, dict[str, int]]:
        """The bytes by category, and their `total`, at the moment of each phase when the total is greatest."""
        phases, total = np.array(self.phases), self.total
        found: dict[Phase, dict[str, int]] = {}
        for phase in PHASES:
            moment = np.where(phases == phase, total, -1).argmax()
            found[phase] = {name: int(values[moment]) for name, values in self.bytes.items()}
            found[phase]["total"] = int(total[moment])
        return found

    def as_json(self) -> dict[str, Any]:
        """Plain values: `phases`, `bytes` by category, and `peaks`."""
        values = {name: series.tolist() for name, series in self.bytes.items()}
        return {"phases": list(self.phases), "bytes": values, "peaks": self.peaks()}


def record_steps(
    shape: Shape,
    settings: TrainRecipe,
    *,
    precision: Precision,
    batch_size: int,
    device: str = "cpu",
    num_steps: int = 2,
) -> list[Timeline]:
    """The time lines of the first steps of a new model on random tokens.

    The first one begins without optimizer states, the others with them. Blocks are not compiled, since operators
    inside compiled code cannot be seen.
    """
    torch.manual_seed(0)
    settings = settings.model_copy(update={"compile": "off"})
    objective = OBJECTIVES[family(shape.family).objective]
    model = build(shape, device=device)
    take_step = _WatchedStep(model, objective, settings, precision=precision, device=device)
    windows = np.random.default_rng(0).integers(0, shape.vocabulary_size, (batch_size, shape.context + 1))
    return [take_step.watched(windows) for _ in range(num_steps)]


def peak_of(step: Callable[[], None], standing: Iterable[Tensor]) -> int:
    """The greatest sum of bytes in tensors while a step is taken, those that stand before it included."""
    tensors = list(standing)
    tracker = _Tracker(tensors[0].device)
    tracker.note("other", tensors)
    with tracker:
        step()
    return tracker.timeline().peak


class _WatchedStep(TrainStep):
    """A training step that tells a tracker where it stands."""

    def __init__(self, model: nn.Module, objective: Objective, settings: TrainRecipe, **options: Any):
        super().__init__(model, Objective(objective.collate, self._loss), settings, **options)
        self._inner_loss = objective.loss
        self._tracker = _Tracker(torch.device(self.device))
        for parameter in self._computing.parameters():
            parameter.register_post_accumulate_grad_hook(self._note_gradient)

    def watched(self, windows: npt.NDArray[np.int64]) -> Timeline:
        """Take a step and return its time line."""
        self._tracker = tracker = _Tracker(torch.device(self.device))
        models = [self.model] if self._computing is self.model else [self.model, self._computing]
        tracker.note("weights", (tensor for model in models for tensor in model.parameters()))
        tracker.note("weights", (tensor for model in models for tensor in model.buffers()))
        tracker.note("optimizer", self._states())
        with tracker:
            self(windows, 1e-6)
            tracker.note("optimizer", self._states())
        return tracker.timeline()

    def accumulate(self, windows: npt.NDArray[np.int64]) -> tuple[float, int]:
        """Forward and backward; what follows is the update."""
        made = super().accumulate(windows)
        self._tracker.note(
            "gradients", (weight.grad for weight in self.model.parameters() if weight.grad is not None)
        )
        self._tracker.phase = "update"
        return made

    def _loss(self, model: nn.Module, batch: Batch) -> Loss:
        with self._tracker.loss():
            return self._inner_loss(model, batch)

    def _note_gradient(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._tracker.note("gradients", [parameter.grad])

    def _states(self) -> Iterable[Tensor]:
        states = cast(dict[Any, dict[str, Any]], self.optimizer.state)
        return [value for state in states.values() for value in state.values() if isinstance(value, Tensor)]


@dataclass
class _Life:
    """A storage: its bytes, its use, and the operators after which it is live: from `birth` to before `death`."""

    bytes: int
    category: Category
    birth: int
    death: int | None = None


class _Tracker(TorchDispatchMode):
    """Keeps the life of every storage that operators make on one device.

    What a storage is for often shows later than its birth (a product turns out to be a gradient): it is then taken
    to have been that from the beginning.
    """

    def __init__(self, device: torch.device):
        super().__init__()
        self.phase: Phase = "forward"
        self._device = device
        self._phases: list[Phase] = []
        self._lives: list[_Life] = []
        self._living: MutableMapping[torch.UntypedStorage, _Life] = WeakIdKeyDictionary()
        self._in_loss = False
        self._newly_computed: list[_Life] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        computes_model = self._in_loss or (self.phase == "backward" and _recomputes())
        if not computes_model:
            self._settle()
        shortens = func is torch.ops.aten._to_copy.default and self._life(args[0]).category == "weights"
        for tensor in self._tensors(result):
            life = self._life(tensor, "weights" if shortens else "other")
            if computes_model and life.birth == len(self._phases):
                self._newly_computed.append(life)
        self._phases.append(self.phase)
        return result

    @contextmanager
    def loss(self) -> Iterator[None]:
        """A context in which the loss is computed: what is made in it and outlives it are activations."""
        self.phase, self._in_loss = "forward", True
        yield
        self._in_loss = False
        self._settle()
        self.phase = "backward"

    def note(self, category: Category, tensors: Iterable[Tensor]) -> None:
        """Say what tensors are for, whether or not they were seen to be made."""
        for tensor in self._tensors(list(tensors)):
            self._life(tensor).category = category

    def timeline(self) -> Timeline:
        """What was seen until now."""
        changes = {category: np.zeros(len(self._phases) + 1, np.int64) for category in CATEGORIES}
        for life in self._lives:
            changes[life.category][life.birth] += life.bytes
            if life.death is not None:
                changes[life.category][life.death] -= life.bytes
        return Timeline(tuple(self._phases), {name: change.cumsum()[:-1] for name, change in changes.items()})

    def _tensors(self, tree: Any) -> list[Tensor]:
        """The tensors of a result that lie on the device that is watched."""
        leaves = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
        return [leaf for leaf in leaves if leaf.device.type == self._device.type]

    def _life(self, tensor: Tensor, category: Category = "other") -> _Life:
        """The life of the storage of `tensor`; one not seen before begins here."""
        storage = tensor.untyped_storage()
        life = self._living.get(storage)
        if life is None:
            life = self._living[storage] = _Life(storage.nbytes(), category, birth=len(self._phases))
            self._lives.append(life)
            weakref.finalize(storage, self._end, life).atexit = False
        return life

    def _end(self, life: _Life) -> None:
        life.death = len(self._phases)

    def _settle(self) -> None:
        """What a pass through the model has left behind is kept for the backward pass."""
        for life in self._newly_computed:
            if life.death is None and life.category == "other":
                life.category = "activations"
        self._newly_computed.clear()


def _recomputes() -> bool:
    """Whether a checkpoint computes a part of the forward pass again: only then are saved tensors diverted."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
