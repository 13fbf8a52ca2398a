"""The planner's speed formula against measured steps, over the ladder of shapes.

    python benchmarks/speed_model.py

Prints milliseconds a step, measured and by formula, and the median error; `groundup.plan.speed` holds the fit.
"""

import statistics

from groundup.plan.candidates import ladder
from groundup.plan.speed import step_seconds
from groundup.recipe import ModelRecipe, TrainRecipe
from groundup.train.allocator import keep_freed_memory
from groundup.train.machine import measure, measure_step_seconds


def main() -> None:
    keep_freed_memory()
    settings = TrainRecipe(optimizer="adamw")
    hardware = measure(settings)
    print(hardware)
    errors = []
    print("layers width context batch vocabulary   measured ms  formula ms  error")
    for context, batch_size, vocabulary in ((128, 8, 2048), (128, 16, 4096), (256, 8, 4096), (256, 16, 8192)):
        for shape in ladder(ModelRecipe(), vocabulary, context)[:9]:
            measured = measure_step_seconds(shape, batch_size, settings, hardware)
            formula = step_seconds(shape, batch_size, hardware, hardware.precision)
            errors.append(abs(formula / measured - 1))
            print(
                f"{shape.num_layers:6d} {shape.width:5d} {context:7d} {batch_size:5d} {vocabulary:10d}"
                f" {1000 * measured:13.1f} {1000 * formula:11.1f} {formula / measured - 1:+6.0%}"
            )
    print(f"median error {statistics.median(errors):.0%}, largest {max(errors):.0%}")


if __name__ == "__main__":
    main()
