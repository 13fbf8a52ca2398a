"""A stage on many devices: what was arranged on one is laid out over them, and put together again in the end."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import nn

from groundup.errors import UserError
from groundup.model.decoder import Decoder
from groundup.objective import Objective
from groundup.parallel.divided import whole
from groundup.parallel.grid import Grid
from groundup.parallel.many import ManyDevices
from groundup.pipeline.tuning.job import TuneJob
from groundup.plan.parallel import group_sizes, resolve
from groundup.recipe import TrainRecipe
from groundup.train import checkpoints
from groundup.train.checkpoints import TrainState
from groundup.train.step import lay_out
from groundup.train.trained import load_trained
from groundup.tune.rollouts import Question, Rollout, Rollouts, Writer


def lay_out_job(
    job: TuneJob,
    model: nn.Module,
    objective: Objective,
    settings: TrainRecipe,
    arrange: Callable[[Decoder], nn.Module],
) -> ManyDevices:
    """This process's part of `model`, which `arrange` made of the stage's decoder, and of every step with it.

    UserError for a layout that the stage cannot have.
    """
    assert job.processes is not None and settings.batch_size is not None
    recipe, shape = job.recipe.model_copy(deep=True), job.start.model.shape
    recipe.model.family = shape.family
    sizes = group_sizes(recipe.parallel, job.processes.world_size)
    whole = _kept_whole(job)
    if wrong := [name for name in whole if getattr(sizes, name) > 1]:
        raise UserError(
            f"{recipe.stage}{' of adapters' if job.settings.lora else ''} cannot have parallel.{wrong[0]}="
            f"{getattr(sizes, wrong[0])}; use {' and '.join(f'parallel.{name}=1' for name in whole)}, and "
            "parallel.zero to divide weights"
        )
    share = settings.batch_size // sizes.data
    settings = settings.model_copy(update={"micro_batch": math.gcd(settings.micro_batch or share, share) or 1})
    recipe.train = settings
    layout = resolve(recipe, job.processes.world_size, shape, settings.batch_size or 1, settings.micro_batch or 1)
    devices = lay_out(
        shape,
        objective,
        settings,
        recipe.parallel,
        Grid(layout, job.device),
        precision=job.precision,
        device=job.device,
        seed=job.seed("weights"),
        kind=partial(ManyDevices, arrange=arrange),
    )
    devices.load(model.state_dict())
    return devices


def _kept_whole(job: TuneJob) -> tuple[str, ...]:
    """The groups of devices over which this stage cannot be divided: matrices, sequences, layers."""
    if job.settings.lora or job.recipe.stage not in {"sft", "dpo"}:
        return "tensor", "context", "pipeline"
    return () if job.recipe.stage == "sft" else ("context", "pipeline")


def take_trained(job: TuneJob, model: nn.Module, state: TrainState) -> None:
    """Give the model of one process what all of them have trained, from their last checkpoint."""
    load_trained(model, checkpoints.load_weights(job.run.checkpoints / f"step-{state.kept_step}"))


@dataclass
class SharedWriter(Writer):
    """Each process answers some of the questions, and all get all answers.

    While `devices` train, the model that writes is part of `trained`, a whole copy in each process, which first
    takes the weights that they have come to.
    """

    trained: nn.Module | None = None
    devices: ManyDevices | None = None

    def copies(self, model: nn.Module) -> list[nn.Module]:
        """The model of this process, and its part of the one that is trained."""
        return [model] if self.devices is None else [model, self.devices.trained]

    def write(self, questions: Sequence[Question], seeds: Sequence[int]) -> Rollouts:
        """As one process would; all must ask the same."""
        if self.devices is not None and self.trained is not None:
            _copy_weights(self.devices.trained, self.trained)
        rank, size = dist.get_rank(), dist.get_world_size()
        own = super().write(questions[rank::size], seeds[rank::size]) if rank < len(questions) else None
        parts: list[list[Rollout]] = [[] for _ in range(size)]
        dist.all_gather_object(parts, own.items if own else [])
        items = [parts[place % size][place // size] for place in range(len(questions))]
        return Rollouts(items, self.manner.missing_end)


@torch.no_grad()
def _copy_weights(divided: nn.Module, model: nn.Module) -> None:
    own = model.state_dict()
    for name, tensor in divided.state_dict().items():
        own[name].copy_(whole(tensor))
