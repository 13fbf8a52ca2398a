"""What one asks of the memory of inference, answered: weights, keys and values, and how many sequences fit."""

from groundup.plan.cluster.devices import Device
from groundup.plan.cluster.inference import InferenceMemory, cache_bytes_per_token, inference_memory
from groundup.plan.cluster.memory import USABLE, usable_bytes
from groundup.plan.figures import Answer, Chart, Column, Figure, Series, Table
from groundup.plan.parameters import total
from groundup.shape import Shape

_BATCHES = (1, 8, 64)


def inference_answer(
    shape: Shape, device: Device, batch: int, *, tensor: int = 1, weight_bits: float = 16, cache_bits: float = 16
) -> Answer:
    """The memory of serving `batch` sequences as long as the shape's context on `tensor` devices.

    Raises:
        UserError: `tensor` does not divide the heads.
    """

    def serve(sequences: int, context: int) -> InferenceMemory:
        return inference_memory(
            shape, sequences, context, weight_bits=weight_bits, cache_bits=cache_bits, tensor=tensor
        )

    memory, usable = serve(batch, shape.context), usable_bytes(device)
    room = max(0, int((usable - memory.weights) / ((memory.cache + memory.logits) / batch)))
    contexts = sorted({max(1, shape.context >> shift) for shift in range(4)})
    batches = sorted({*_BATCHES, batch})
    columns = [Column("batch", "sequences", "count")]
    columns += [Column(f"bytes_{context}", f"{context} tokens", "bytes") for context in contexts]
    by_context = [serve(batch, context) for context in contexts]
    return Answer(
        title=f"Memory of inference on {tensor} x {device.label}",
        figures=[
            Figure("parameters", "parameters", total(shape), "count", source="counted from the shape"),
            Figure("peak_bytes", "memory, a device", memory.total, "bytes", formula="weights + cache + logits",
                   values={"weights": memory.weights, "cache": memory.cache, "logits": memory.logits}),
            Figure("device_bytes", "memory of a device", device.memory_bytes, "bytes", source=device.source),
            Figure("free_bytes", "free", usable - memory.total, "bytes", formula="M u - peak",
                   values={"M": device.memory_bytes, "u": USABLE, "peak": memory.total},
                   source="u: the driver and NCCL take the rest"),
            Figure("weights_bytes", "weights", memory.weights, "bytes", formula="N w / 8 / t",
                   values={"N": total(shape), "w": weight_bits, "t": tensor}),
            Figure("cache_bytes", "keys and values", memory.cache, "bytes", formula="b s C / t",
                   values={"b": batch, "s": shape.context, "C": cache_bytes_per_token(shape, cache_bits),
                           "t": min(tensor, shape.num_kv_heads)}),
            Figure("cache_bytes_per_token", "keys and values of a token", cache_bytes_per_token(shape, cache_bits),
                   "bytes", formula="2 L k d w / 8",
                   values={"L": shape.num_layers, "k": shape.num_kv_heads, "d": shape.head_width, "w": cache_bits},
                   source="Shazeer 2019, arXiv:1911.02150"),
            Figure("logits_bytes", "logits", memory.logits, "bytes", formula="4 b v / t",
                   values={"b": batch, "v": shape.vocabulary_size, "t": tensor}),
            Figure("largest_batch", f"sequences of {shape.context} tokens that fit", room, "count",
                   formula="floor(max(0, M u - weights) b / (cache + logits))",
                   values={"M": device.memory_bytes, "u": USABLE, "b": batch, "weights": memory.weights,
                           "cache": memory.cache, "logits": memory.logits}),
        ],
        tables=[
            Table("batches", "Memory by sequences at once and tokens in each", columns,
                  [(one, *(serve(one, context).total for context in contexts)) for one in batches]),
        ],
        charts=[
            Chart("contexts", f"Memory of {batch} sequences by their length", "stack", "tokens", "bytes", "tokens",
                  "bytes", [
                      Series("weights", contexts, [one.weights for one in by_context]),
                      Series("keys and values", contexts, [one.cache for one in by_context]),
                      Series("logits", contexts, [one.logits for one in by_context]),
                  ]),
        ],
        notes=[_verdict(memory, usable, room, shape.context)],
    )  # fmt: skip


def _verdict(memory: InferenceMemory, usable: float, room: int, context: int) -> str:
    needs, has = f"{memory.total / 1e9:,.1f} GB", f"the {usable / 1e9:,.1f} GB that a device can give"
    if memory.total <= usable:
        return f"it fits: {needs} of {has}; at most {room} sequences of {context} tokens would"
    needs = f"{needs}, more than {has}"
    if room:
        return f"it does not fit: {needs}; {room} sequences at once would, or a larger --tp, or fewer --cache-bits"
    cures = "a larger --tp, fewer --weight-bits or a shorter --seq"
    return f"it does not fit: {needs}, nor does one sequence; try {cures}"
