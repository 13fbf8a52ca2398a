"""The ledger of a model: every weight by category, what it takes in bytes, and the operations of a token."""

from collections.abc import Collection, Mapping, Sequence

from groundup.plan.cluster.inference import cache_bytes_per_token
from groundup.plan.figures import Answer, Chart, Column, Figure, Series, Table, Unit
from groundup.plan.flops import forward_flops_by_part, forward_flops_per_token
from groundup.plan.parameters import active, ledger, non_embedding, total
from groundup.plan.stored import StoredTensor, patterns, trained
from groundup.plan.tensors import heads_of, product_matrices, size_text, tensors_of
from groundup.shape import Shape

# Counts have no unit, so that they are written in full: a ledger is exact.
# Bytes a parameter; those of scales, which 8 and 4 bits need besides, are not counted.
_PRECISIONS = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5}
_EMBEDDINGS = ("embedding", "position", "unembedding")
_CACHE_BITS = 16


def ledger_answer(
    shape: Shape, title: str, length: int | None = None, source: str = "", stored: Sequence[StoredTensor] = ()
) -> Answer:
    """The ledger of `shape`; attention looks back over `length` tokens (default: the context).

    `source` says where the shape is from; `stored` are the tensors of its folder, to be compared with.
    """
    length = length or shape.context
    return Answer(
        title=title,
        figures=[
            *_size_figures(shape),
            *_byte_figures(total(shape)),
            *_token_figures(shape, length),
            *_matrix_figures(shape),
        ],
        tables=[_weights_table(shape), _matrices_table(shape), _heads_table(shape), _flops_table(shape, length)],
        charts=[
            _bars("parameters_by_category", "Parameters by category", "parameters",
                  _nonzero(ledger(shape)), "count"),
            _bars("flops_by_part", "Operations of a token by part, forward", "operations",
                  forward_flops_by_part(shape, length), "flops"),
        ],
        notes=[
            _counts_note(shape),
            _heads_note(shape),
            *([f"shape: {source}"] if source else []),
            *([_stored_note(shape, stored)] if stored else []),
        ],
    )  # fmt: skip


def stored_answer(tensors: Sequence[StoredTensor], title: str, why: str) -> Answer:
    """The ledger of a file whose architecture is not known (`why`): its tensors by the pattern of their names."""
    kept = trained(tensors)
    parameters = sum(tensor.parameters for tensor in kept)
    rows = [
        (one.name, one.parameters, one.parameters / parameters, one.copies, size_text(one.dimensions), one.dtype)
        for one in patterns(kept)
    ]
    columns = [
        Column("pattern", "tensors"),
        Column("parameters", "parameters"),
        Column("share", "share", "share"),
        Column("copies", "how many"),
        Column("size", "size of each"),
        Column("dtype", "format"),
    ]
    return Answer(
        title=title,
        figures=[
            Figure("parameters", "parameters", parameters, "", source="summed over the file's tensors"),
            Figure("stored_bytes", "bytes as stored", sum(tensor.num_bytes for tensor in kept), "bytes"),
            *_byte_figures(parameters),
        ],
        tables=[Table("weights", "Tensors by the pattern of their names", columns, rows)],
        charts=[_bars("parameters_by_pattern", "Parameters by pattern", "parameters", _by_name(rows), "count")],
        notes=[f"{why}: tensors are counted as the file names them, and operations are not known"],
    )


def _size_figures(shape: Shape) -> list[Figure]:
    counts = ledger(shape)
    return [
        Figure("family", "family", shape.family),
        Figure("parameters", "parameters", total(shape), "", formula=" + ".join(_nonzero(counts)),
               values=_nonzero(counts), source="equal to what torch counts; a tied unembedding counts once"),
        Figure("non_embedding_parameters", "without embeddings", non_embedding(shape), "",
               formula="N - embedding - position - unembedding",
               values={"N": total(shape)} | {name: counts[name] for name in _EMBEDDINGS},
               source="what Kaplan et al. 2020 (arXiv:2001.08361) call N"),
        Figure("num_layers", "layers", shape.num_layers),
        Figure("width", "width", shape.width),
        Figure("num_heads", "heads", shape.num_heads),
        Figure("num_kv_heads", "key/value heads", shape.num_kv_heads),
        Figure("feedforward_width", "feed-forward width", shape.feedforward_width),
        *_experts_figures(shape),
        Figure("vocabulary_size", "vocabulary", shape.vocabulary_size),
        Figure("context", "context", shape.context, "tokens"),
    ]  # fmt: skip


def _byte_figures(parameters: int) -> list[Figure]:
    return [
        Figure(f"{name}_bytes", f"weights in {name}", parameters * size, "bytes", formula="N b",
               values={"N": parameters, "b": size},
               source="without scales of quantization" if name.startswith("int") else "")
        for name, size in _PRECISIONS.items()
    ]  # fmt: skip


def _token_figures(shape: Shape, length: int) -> list[Figure]:
    forward = forward_flops_per_token(shape, length)
    stored = sum(matrix.parameters for name, matrix in product_matrices(shape).items() if name != "embedding")
    in_products = stored - (total(shape) - active(shape))
    cache = int(cache_bytes_per_token(shape, _CACHE_BITS))
    heads_width = shape.num_heads * shape.head_width
    attention = {"P": in_products, "L": shape.num_layers, "W": heads_width, "T": length}
    source = "multiplication and addition count as two; causal attention; Kaplan et al. 2020 (arXiv:2001.08361)"
    return [
        Figure("forward_flops_per_token", "operations of a token, forward", forward, "flops",
               formula="2 P + 2 L W T", values=attention, source=source),
        Figure("train_flops_per_token", "operations of a token, training", 3 * forward, "flops",
               formula="3 (2 P + 2 L W T)", values=attention, source=f"the backward pass costs twice; {source}"),
        Figure("kv_cache_bytes_per_token", "key/value cache of a token", cache, "bytes",
               formula="2 L K d b / 8",
               values={"L": shape.num_layers, "K": shape.num_kv_heads, "d": shape.head_width, "b": _CACHE_BITS},
               source="a key and a value for each layer and key/value head, in 16 bits"),
        Figure("kv_cache_bytes", f"key/value cache of {length:,} tokens", length * cache, "bytes",
               formula="T c", values={"T": length, "c": cache}),
    ]  # fmt: skip


def _experts_figures(shape: Shape) -> list[Figure]:
    """How many experts a layer has, and what a token meets of them; nothing without experts."""
    if not (shape.num_experts and shape.experts_per_token):
        return []
    counts = ledger(shape)
    values = {"N": total(shape), "E": shape.num_experts, "K": shape.experts_per_token}
    return [
        Figure("num_experts", "experts", shape.num_experts),
        Figure("experts_per_token", "experts of a token", shape.experts_per_token),
        Figure("expert_width", "width of an expert", shape.expert_width),
        Figure("active_parameters", "active parameters", active(shape), "",
               formula="N - (gate + up + down) (1 - K / E)",
               values=values | {name: counts[name] for name in ("gate", "up", "down")},
               source="those that one token meets"),
    ]  # fmt: skip


def _matrix_figures(shape: Shape) -> list[Figure]:
    """The parameters as textbooks count them, and the three ways of counting the matrices that hold them."""
    matrices = product_matrices(shape)
    counts = {name: matrix.parameters for name, matrix in matrices.items()}
    whole = sum(matrix.copies for matrix in matrices.values())
    split, all_split = _cut_by_heads(shape, ("query", "key", "value")), _cut_by_heads(shape, heads_of(shape))
    return [
        Figure("matrix_parameters", "parameters in matrices", sum(counts.values()), "",
               formula=" + ".join(counts), values=counts,
               source="embedding and unembedding each, tied or not; no biases, norms or learned positions"),
        Figure("matrix_count", "matrices", whole, "", formula="2 + L m",
               values={"L": shape.num_layers, "m": (whole - 2) // shape.num_layers},
               source="query, key, value and output as one matrix for all heads of a layer"),
        Figure("matrix_count_split", "query, key, value by head", split, "", formula="2 + L m",
               values={"L": shape.num_layers, "m": (split - 2) // shape.num_layers},
               source="output as one matrix for all heads of a layer"),
        Figure("matrix_count_all_split", "and output by head", all_split, "",
               formula="2 + L m", values={"L": shape.num_layers, "m": (all_split - 2) // shape.num_layers}),
    ]  # fmt: skip


def _cut_by_heads(shape: Shape, categories: Collection[str]) -> int:
    """How many matrices there are where those of `categories` are cut into one for each head."""
    heads = heads_of(shape)
    return sum(
        matrix.copies * (heads[name] if name in categories else 1)
        for name, matrix in product_matrices(shape).items()
    )


def _weights_table(shape: Shape) -> Table:
    """Everything that torch counts."""
    counts, parameters = ledger(shape), total(shape)
    rows = [
        (name, count, count / parameters, sum(part.copies for part in tensors_of(shape)[name]),
         ", ".join(str(part) for part in tensors_of(shape)[name]))
        for name, count in _nonzero(counts).items()
    ]  # fmt: skip
    columns = [
        Column("category", "category"),
        Column("parameters", "parameters"),
        Column("share", "share", "share"),
        Column("tensors", "tensors"),
        Column("sizes", "sizes"),
    ]
    return Table("weights", "Every weight, biases with their matrices", columns, rows)


def _matrices_table(shape: Shape) -> Table:
    """The matrices alone, as textbooks count."""
    matrices = product_matrices(shape)
    parameters = sum(matrix.parameters for matrix in matrices.values())
    rows = [
        (name, one.parameters, one.parameters / parameters, one.copies, one.size) for name, one in matrices.items()
    ]
    columns = [
        Column("category", "category"),
        Column("parameters", "parameters"),
        Column("share", "share", "share"),
        Column("matrices", "matrices"),
        Column("size", "size of each"),
    ]
    return Table("matrices", "The matrices, embedding and unembedding each", columns, rows)


def _heads_table(shape: Shape) -> Table:
    """Attention's matrices cut into one for each head: rows of query, key and value, columns of the output."""
    rows = []
    for name, heads in heads_of(shape).items():
        matrix = product_matrices(shape)[name]
        out, into = matrix.dimensions
        part = (out, into // heads) if name == "output" else (out // heads, into)
        rows.append((name, heads, matrix.copies * heads, part[0] * part[1], size_text(part)))
    columns = [
        Column("category", "category"),
        Column("heads", "heads of a layer"),
        Column("matrices", "matrices"),
        Column("parameters", "parameters of each"),
        Column("size", "size of each"),
    ]
    return Table("heads", "Attention's matrices, cut by head", columns, rows)


def _flops_table(shape: Shape, length: int) -> Table:
    parts = forward_flops_by_part(shape, length)
    whole = sum(parts.values())
    columns = [
        Column("part", "part"),
        Column("forward_flops", "forward", "flops"),
        Column("train_flops", "training", "flops"),
        Column("share", "share", "share"),
    ]
    rows = [(name, flops, 3 * flops, flops / whole) for name, flops in parts.items()]
    return Table("flops", f"Operations of a token that looks back over {length:,}", columns, rows)


def _counts_note(shape: Shape) -> str:
    """How the two ways of counting parameters come to differ."""
    counts, matrices = ledger(shape), sum(matrix.parameters for matrix in product_matrices(shape).values())
    tied = -_unembedding(shape) if shape.tied else 0
    biases = total(shape) - matrices - tied - counts["position"] - counts["norm"]
    parts = [
        (tied, "unembedding, which is the embedding transposed"),
        (counts["position"], "learned positions"),
        (counts["norm"], "norms"),
        (biases, "biases"),
    ]
    steps = "".join(f" {'-' if number < 0 else '+'} {abs(number):,} ({what})" for number, what in parts if number)
    return f"{total(shape):,} parameters = {matrices:,} in the matrices{steps}"


def _unembedding(shape: Shape) -> int:
    """Parameters of the unembedding's matrix, tied or not."""
    return product_matrices(shape)["unembedding"].parameters


def _heads_note(shape: Shape) -> str:
    whole = sum(matrix.copies for matrix in product_matrices(shape).values())
    split, all_split = _cut_by_heads(shape, ("query", "key", "value")), _cut_by_heads(shape, heads_of(shape))
    return (
        f"the same weights are {whole:,} matrices with one for all heads of a layer, as they are stored; "
        f"{split:,} with a query, key and value matrix for each head, as attention is drawn; "
        f"{all_split:,} with the output cut by head too"
    )


def _stored_note(shape: Shape, stored: Sequence[StoredTensor]) -> str:
    """Whether the file holds what the configuration says."""
    held = sum(tensor.parameters for tensor in trained(stored))
    expected = total(shape)
    if held == expected:
        return f"the files hold exactly these {held:,} parameters"
    if shape.tied and held == expected + _unembedding(shape):
        return f"the files hold {held:,} parameters: the tied unembedding is stored beside the embedding"
    return f"the files hold {held:,} parameters, {held - expected:+,} against the configuration's {expected:,}"


def _bars(name: str, title: str, label: str, values: Mapping[str, float], unit: Unit) -> Chart:
    series = [Series(label, list(values), list(values.values()))]
    return Chart(name, title, "bars", "", label, "", unit, series)


def _nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _by_name(rows: Sequence[tuple[str, int, float, int, str, str]]) -> dict[str, int]:
    """The largest patterns' parameters; several formats or sizes under one name are added."""
    sums: dict[str, int] = {}
    for name, parameters, *_ in rows:
        sums[name] = sums.get(name, 0) + parameters
    return dict(list(sums.items())[:12])
