"""A planner's answer with every kind of figure, table and chart, long names and hostile text."""

from groundup.plan.figures import Answer, Chart, Column, Figure, Series, Table, Value

STAGES = [f"pipeline stage {stage}, first micro-batches" for stage in range(4)]
PARTS = ["weights", "gradients", "optimizer states", "activations", "logits", "communication buffers", "other"]


def stack() -> Chart:
    """Seven parts, so that hues repeat, of which one is zero in all but the last stage."""
    series = [
        Series(part, STAGES, [(place + 1) * 1e9 * (stage == 3 if part == "logits" else 1) for stage in range(4)])
        for place, part in enumerate(PARTS)
    ]
    return Chart("memory", "Memory by stage", "stack", "", "bytes at the peak", "", "bytes", series)


def bars() -> Chart:
    """Two figures beside each other, of which one is unknown once."""
    names = ["data 64, tensor 8, pipeline 1, ZeRO-1", "data 512, ZeRO-3", "data 8, tensor 8, pipeline 8"]
    series = [
        Series("compute", names, [1.25, 0.9, 1.1]),
        Series("exposed communication", names, [0.21, float("nan"), 0.05]),
    ]
    return Chart("time", "Where a step's time goes", "bars", "", "seconds a step", "", "seconds", series)


def lines(names: int = 2) -> Chart:
    """Loss against time on an axis of decades."""
    times = [60.0 * 4**power for power in range(8)]
    series = [
        Series(f"law {name}", times, [1.8 - 0.1 * name + 2 / time**0.2 for time in times]) for name in range(names)
    ]
    return Chart("front", "What less and more would buy", "lines", "training time", "expected bits per byte",
                 "seconds", "bits per byte", series, log_x=True)  # fmt: skip


def points() -> Chart:
    """Parameters against computation, both in decades."""
    series = [Series("fitted runs", [1e18, 1e20, 1e22], [3e8, 3e9, 4e10])]
    return Chart("runs", "Best size for a computation", "points", "computation", "parameters", "flops", "count",
                 series, log_x=True, log_y=True)  # fmt: skip


def timeline() -> Chart:
    """More bars over numbers than names would have room for."""
    moments: list[Value] = [0.01 * moment for moment in range(60)]
    series = [Series(part, moments, [1e9 + 1e7 * moment for moment in range(60)]) for part in PARTS[:3]]
    return Chart("timeline", "Within a step", "stack", "time in the step", "bytes", "seconds", "bytes", series)


def layouts(rows: int = 3) -> Table:
    """More columns than 80 characters hold."""
    columns = [
        Column("layout", "layout"), Column("data", "data"), Column("tensor", "tensor"),
        Column("pipeline", "pipeline"),
        Column("micro_batch", "micro-batch", "count"), Column("memory", "memory", "bytes"),
        Column("step_seconds", "a step", "seconds"), Column("tokens_per_second", "throughput", "tokens/s"),
        Column("mfu", "MFU", "share"), Column("usd_per_hour", "price", "usd/h"), Column("usd", "cost", "usd"),
        Column("bits_per_byte", "expected", "bits per byte"), Column("fits", "fits"),
    ]  # fmt: skip
    body = [
        ("ZeRO-1, recompute selective, 1F1B", 64, 8, 1 + row, 4, 7.1e10 + 1e9 * row, 1.318, 1.59e6, 0.4521, 2150.0,
         183_456.0, 0.8312, "yes" if row else None)
        for row in range(rows)
    ]  # fmt: skip
    return Table("layouts", "Layouts, the best first", columns, body)


def answer(hostile: str = "") -> Answer:
    """All of it; `hostile` is put wherever text may come from elsewhere."""
    return Answer(
        title=f"Plan for 7.2B parameters on h100x512 {hostile}".strip(),
        figures=[
            Figure("family", "family", f"llama {hostile}".strip()),
            Figure("parameters", "parameters", 7_241_732_096, "count", formula="L (4 d^2 + 3 d f) + 2 V d",
                   values={"L": 32, "d": 4096, "f": 14336, "V": 32000}, source="counted from the shape"),
            Figure("bits_per_byte", "expected loss", 0.8312, "bits per byte",
                   formula=f"E + A / N^a + B / D^b {hostile}".strip(),
                   values={"E": 1.8172, "A": 482.01, "a": 0.3478, "B": 2085.43, "b": 0.3658, "N": 7.24e9,
                           "D": 1.4e11, "law": f"a long name of a law, fitted to many runs {hostile}".strip()},
                   source=f"Besiroglu et al. 2024 {hostile}".strip(), low=0.79, high=0.88),
            Figure("flops", "computation", 6.08e21, "flops", formula="6 N D", values={"N": 7.24e9, "D": 1.4e11}),
            Figure("train_seconds", "training time", 200_000.0, "seconds", formula="flops / (devices peak mfu)",
                   values={"peak": 989e12, "mfu": 0.45, "devices": 512}),
            Figure("usd", "cost", 71_111.0, "usd", formula="hours devices price", values={"price": 2.5},
                   source="prices.csv, 2026-05", low=56_900.0, high=142_000.0),
            Figure("energy_kwh", "energy", 19_900.0, "kwh"),
            Figure("co2", "carbon dioxide", 7_900.0, "kg", source="regions.csv"),
            Figure("unknown", "noise scale", float("nan"), "tokens"),
        ],
        tables=[layouts(), Table("none", "Nothing to show", [Column("name", "name")], [])],
        charts=[stack(), bars(), lines(), points(), timeline()],
        notes=["time binds: with twice the devices the loss would be lower by less than its interval is wide",
               f"next best: 5.1B parameters {hostile}".strip()],
    )  # fmt: skip
