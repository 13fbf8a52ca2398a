"""Memory of one of the processes that train together: what one alone takes, less what the layout divides."""

from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.memory import MemoryConstants, device_memory
from groundup.plan.cluster.states import StateRecipe
from groundup.plan.hardware import Precision
from groundup.plan.memory import ALLOCATOR_SLACK, PROCESS_BYTES, train_bytes
from groundup.plan.optimizer_memory import state_bytes, update_bytes
from groundup.plan.parameters import total
from groundup.recipe import TrainRecipe
from groundup.shape import Shape


def device_bytes(
    shape: Shape, layout: Layout, precision: Precision, settings: TrainRecipe, share: int | None = None
) -> int:
    """Resident bytes of a device's process at the peak of training; of the device with the most.

    Where every device has the whole model and optimizer it takes what a single one does. Where they are divided,
    the published formulas (`groundup.plan.cluster.memory`) say what each has, with the bytes that our precisions
    and optimizers keep of a parameter, beside the same process.

    Args:
        shape: of the model.
        layout: of model and batch over the devices.
        precision: see `groundup.train.precision`.
        settings: of which optimizer, `recompute` and `ema` count.
        share: sequences of a step on the device, by default those of `layout`.
    """
    if layout.tensor == layout.context == layout.pipeline == 1 and layout.zero == 0:
        return train_bytes(shape, layout.micro_batch, precision, settings, share or layout.batch // layout.data)
    kept = _kept(shape, precision, settings)
    tensors = device_memory(shape, layout, kept, constants=MemoryConstants(logit_bytes=2 * kept.value_bytes)).peak
    update = update_bytes(shape, settings) / (layout.tensor * layout.pipeline)
    return PROCESS_BYTES + int(ALLOCATOR_SLACK * tensors + update)


def _kept(shape: Shape, precision: Precision, settings: TrainRecipe) -> StateRecipe:
    """Bytes a parameter from step to step: bfloat16 is beside a float32 original, an average of weights too."""
    plain = precision == "fp32"
    average = 4 if settings.ema is not None else 0
    return StateRecipe(
        name=settings.optimizer,
        label=f"{precision}, {settings.optimizer}",
        weights=4 if plain else 6,
        gradients=4,
        master=average,
        optimizer=state_bytes(shape, settings) / total(shape),
        source="groundup.plan.optimizer_memory",
        value_bytes=4 if plain else 2,
    )
