"""The memory of a training step over time: which bytes are live after every operator, and what they are for.

PyTorch tells of every tensor that is made (a dispatch mode sees each operator's results), and a weak reference
tells when a tensor's storage is gone, so the sums are exact, on any device. Not counted is what no tensor holds:
scratch memory inside kernels, the allocator's slack, the process itself.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    is_traceable_wrapper_subclass_type,
)
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from groundup.model.registry import build
from groundup.objective import CAUSAL, Batch, Loss, Objective
from groundup.plan.hardware import Precision
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
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
    objective = CAUSAL
    model = build(shape, device=device)
    take_step = _WatchedStep(model, objective, settings, precision=precision, device=device)
    windows = np.random.default_rng(0).integers(0, shape.vocabulary_size, (batch_size, shape.context + 1))
    return [take_step.watched(windows) for _ in range(num_steps)]


def peak_of(step: Callable[[], None], standing: Iterable[Tensor]) -> int:
    """The greatest sum of bytes in tensors while a step is taken, those that stand before it included."""
    tensors = list(standing)
    tracker = Tracker(tensors[0].device)
    tracker.note("other", tensors)
    with tracker:
        step()
    return tracker.timeline().peak


class _WatchedStep(TrainStep):
    """A training step that tells a tracker where it stands."""

    def __init__(self, model: nn.Module, objective: Objective, settings: TrainRecipe, **options: Any):
        super().__init__(model, Objective(objective.collate, self._loss), settings, **options)
        self._inner_loss = objective.loss
        self._tracker = Tracker(torch.device(self.device))
        for parameter in self._computing.parameters():
            parameter.register_post_accumulate_grad_hook(self._note_gradient)

    def watched(self, windows: npt.NDArray[np.int64]) -> Timeline:
        """Take a step and return its time line."""
        self._tracker = tracker = Tracker(torch.device(self.device))
        models = [self.model] if self._computing is self.model else [self.model, self._computing]
        tracker.note("weights", (tensor for model in models for tensor in model.parameters()))
        tracker.note("weights", (tensor for model in models for tensor in model.buffers()))
        tracker.note("optimizer", self._states())
        with tracker:
            self(windows, 1e-6)
            tracker.note("optimizer", self._states())
        return tracker.timeline()

    def accumulate(self, windows: npt.NDArray[np.int64], first: int = 0) -> tuple[float, int]:
        """Forward and backward; what follows is the update."""
        made = super().accumulate(windows, first)
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


class Tracker(TorchDispatchMode):
    """Keeps the life of every storage that operators make on one device.

    What a storage is for often shows later than its birth (a product turns out to be a gradient): it is then taken
    to have been that from the beginning. What gives its memory back and takes it again are weights that FSDP
    gathers.
    """

    def __init__(self, device: torch.device):
        super().__init__()
        self.phase: Phase = "forward"
        self.looks = True
        self._device = device
        self._phases: list[Phase] = []
        self._lives: list[_Life] = []
        self._living: MutableMapping[torch.UntypedStorage, _Life] = WeakIdKeyDictionary()
        self._in_loss = False
        self._newly_computed: list[_Life] = []

    def __enter__(self) -> Self:
        """Operators are seen from here on, and storages that change their size."""
        self._resize = torch.UntypedStorage.resize_
        torch.UntypedStorage.resize_ = self._seen_to_resize()  # type: ignore[method-assign, assignment]
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """No longer."""
        super().__exit__(*error)
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(is_traceable_wrapper_subclass_type(kind) for kind in types):
            return NotImplemented  # it comes again, as what is computed on this device
        if not self.looks:
            return func(*args, **(kwargs or {}))
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

    def living(self) -> dict[Category, int]:
        """The bytes that are live now, by category."""
        lives = [life for life in self._lives if life.death is None]
        return {
            category: sum(life.bytes for life in lives if life.category == category) for category in CATEGORIES
        }

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
        leaves = (part for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) for part in _parts(leaf))
        return [leaf for leaf in leaves if leaf.device.type == self._device.type]

    def _life(self, tensor: Tensor, category: Category = "other") -> _Life:
        """The life of the storage of `tensor`; one not seen before begins here."""
        storage = tensor.untyped_storage()
        life = self._living.get(storage)
        if life is None:
            life = self._begin(storage, category)
        return life

    def _begin(self, storage: torch.UntypedStorage, category: Category) -> _Life:
        life = self._living[storage] = _Life(storage.nbytes(), category, birth=len(self._phases))
        self._lives.append(life)
        weakref.finalize(storage, self._end, life).atexit = False
        return life

    def _end(self, life: _Life) -> None:
        if life.death is None:
            life.death = len(self._phases)

    def _seen_to_resize(self) -> Callable[[torch.UntypedStorage, int], None]:
        """The method that changes a storage's size, which is no operator, and then tells of it."""

        def resize_(storage: torch.UntypedStorage, size: int) -> None:
            self._resize(storage, size)
            if (life := self._living.get(storage)) is not None and life.bytes != size:
                life.category = "weights"
                self._end(life)
                self._begin(storage, "weights")

        return resize_

    def _settle(self) -> None:
        """What a pass through the model has left behind is kept for the backward pass."""
        for life in self._newly_computed:
            if life.death is None and life.category == "other":
                life.category = "activations"
        self._newly_computed.clear()


def _parts(tensor: Tensor) -> list[Tensor]:
    """What of a tensor that is divided over devices lies on this one; itself otherwise."""
    if not is_traceable_wrapper_subclass_type(type(tensor)):
        return [tensor]
    names, _ = cast(Any, tensor).__tensor_flatten__()
    held = (getattr(tensor, name) for name in names)
    return [part for inner in held if isinstance(inner, Tensor) for part in _parts(inner)]


def _recomputes() -> bool:
    """Whether a checkpoint computes a part of the forward pass again: only then are saved tensors diverted."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
