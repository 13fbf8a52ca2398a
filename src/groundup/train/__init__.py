"""The loop: optimizers, schedules, precision, checkpoints, metrics."""
