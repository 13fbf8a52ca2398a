"""`groundup plan calibrate`: a probe of this machine, on which all later plans rest."""

from dataclasses import replace
from statistics import median

from groundup.pipeline.calibration import is_busy, remember_probe
from groundup.pipeline.display import Display
from groundup.plan.calibration import TimedStep, fit_speed
from groundup.plan.figures import Answer, Chart, Column, Figure, Series, Table
from groundup.plan.hardware import Hardware
from groundup.plan.memory import decided_recompute
from groundup.plan.speed import step_seconds
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.allocator import keep_freed_memory
from groundup.train.machine import measure, measure_step_seconds

# (layers, width, context, sequences, vocabulary): far apart in each, so that each part of a step weighs in some.
_PROBES = (
    (2, 64, 128, 8, 512), (8, 64, 64, 16, 512), (4, 128, 128, 16, 2048), (12, 128, 128, 4, 1024),
    (3, 128, 512, 4, 4096), (2, 192, 64, 64, 16384), (5, 192, 256, 8, 2048), (6, 256, 256, 8, 4096),
    (2, 256, 1024, 2, 1024), (3, 384, 128, 8, 16384), (6, 384, 256, 8, 8192), (8, 512, 256, 4, 4096),
    (4, 512, 64, 4, 8192), (3, 640, 512, 2, 2048), (4, 768, 128, 8, 4096),
)  # fmt: skip
# With building a model and warming up, a minute for all of them.
_SECONDS_A_PROBE = 2.0
# A step that the formula misses by more, fitted to the others, was disturbed, and is timed once more.
_FAR_OFF = 0.2


def calibrate(settings: TrainRecipe, display: Display) -> Answer:
    """Measure the machine and time steps of models far apart; keep both, and say how well the formula fits."""
    measured = [measure(settings)]
    keep_freed_memory()
    with display.stage("timing training steps", len(_PROBES)) as progress:
        steps: list[TimedStep] = []
        for probe in _PROBES:
            if len(steps) == len(_PROBES) // 2:
                measured.append(measure(settings))
            steps.append(_timed(probe, settings, measured[0]))
            progress(len(steps))
        hardware = _middle([*measured, measure(settings)])
        disturbed = [index for index in range(len(steps)) if _error(index, steps, hardware) > _FAR_OFF]
        for index in disturbed:
            again = _timed(_PROBES[index], settings, hardware)
            steps[index] = min(again, steps[index], key=lambda step: step.seconds)
    if is_busy(hardware) or len(disturbed) > len(_PROBES) // 3:
        display.warn("other programs were running; stop them and calibrate again, or plans will be wrong")
    calibration = remember_probe(hardware, settings, steps)
    return _answer(calibration.calibrated(), steps)


def _middle(measured: list[Hardware]) -> Hardware:
    """The middle of each rate: one measurement may be disturbed, or its buffers may happen to fit a cache."""
    rates = ("flops_fp32", "flops_bf16", "memory_bandwidth")
    return replace(measured[0], **{rate: median(getattr(one, rate) for one in measured) for rate in rates})


def _timed(probe: tuple[int, int, int, int, int], settings: TrainRecipe, hardware: Hardware) -> TimedStep:
    layers, width, context, batch_size, vocabulary = probe
    head_width = 32 if width < 384 else 64
    shape = Shape(
        family="qwen3",
        num_layers=layers,
        width=width,
        num_heads=width // head_width,
        num_kv_heads=width // head_width,
        head_width=head_width,
        feedforward_width=width * 8 // 3 // 32 * 32,
        vocabulary_size=vocabulary,
        context=context,
    )
    precision = hardware.precision if settings.precision == "auto" else settings.precision
    eager = settings.model_copy(update={"compile": "off"})
    seconds = measure_step_seconds(shape, batch_size, eager, hardware, seconds=_SECONDS_A_PROBE)
    return TimedStep(shape, batch_size, precision, settings.optimizer, decided_recompute(settings), seconds)


def _answer(hardware: Hardware, steps: list[TimedStep]) -> Answer:
    """The machine's figures, and each step beside what the formula says of it without having seen it."""
    expected = [_left_out(index, steps, hardware) for index in range(len(steps))]
    errors = [abs(formula / step.seconds - 1) for formula, step in zip(expected, steps, strict=True)]
    names = [f"{step.shape.num_layers} x {step.shape.width}" for step in steps]
    rows = [
        (name, step.shape.context, step.batch_size, step.shape.vocabulary_size, step.seconds, formula, error)
        for name, step, formula, error in zip(names, steps, expected, errors, strict=True)
    ]
    columns = [
        Column("layers_x_width", "layers x width"),
        Column("context", "context", "tokens"),
        Column("batch_size", "sequences", "count"),
        Column("vocabulary_size", "vocabulary", "count"),
        Column("seconds", "measured", "seconds"),
        Column("formula_seconds", "formula", "seconds"),
        Column("error", "error", "share"),
    ]
    source = "measured by this probe"
    return Answer(
        title=f"Calibration of {hardware.name}",
        figures=[
            Figure("threads", "threads", hardware.threads, "count", source=source),
            Figure("memory_bytes", "memory that is free", hardware.memory_bytes, "bytes", source=source),
            Figure("flops_fp32", "products in fp32", hardware.flops_fp32, "flops/s", source=source),
            Figure("flops_bf16", "products in bf16", hardware.flops_bf16, "flops/s", source=source),
            Figure("memory_bandwidth", "memory traffic", hardware.memory_bandwidth, "bytes/s", source=source),
            Figure(
                "median_error",
                "error of the speed formula",
                median(errors),
                "share",
                source=f"median of the {len(steps)} steps, each left out of its own fit",
            ),
            Figure("largest_error", "largest of them", max(errors), "share", source="as the median"),
        ],
        tables=[Table("steps", "Training steps", columns, rows)],
        charts=[
            Chart(
                name="steps",
                title="Each step, measured and by formula",
                kind="points",
                x_label="measured",
                y_label="formula",
                x_unit="seconds",
                y_unit="seconds",
                series=[Series("steps", [step.seconds for step in steps], expected)],
                log_x=True,
                log_y=True,
            )
        ],
        notes=["stored; every later plan for this machine uses it"],
    )


def _error(index: int, steps: list[TimedStep], hardware: Hardware) -> float:
    return abs(_left_out(index, steps, hardware) / steps[index].seconds - 1)


def _left_out(index: int, steps: list[TimedStep], hardware: Hardware) -> float:
    """What the formula says of a step when it is fitted to the others."""
    step, others = steps[index], steps[:index] + steps[index + 1 :]
    settings = TrainRecipe(optimizer=step.optimizer, recompute=step.recompute)
    fitted = replace(hardware, speed=fit_speed(others, hardware))
    return step_seconds(step.shape, step.batch_size, fitted, step.precision, settings)
