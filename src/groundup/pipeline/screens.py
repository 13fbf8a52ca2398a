"""What is said of a machine, a text, a plan and an outcome."""

from typing import Any

from groundup.pipeline.display import Display
from groundup.pipeline.numbers import bytes_text, human, seconds_text
from groundup.pipeline.prepare import Text
from groundup.plan.budget import Budget
from groundup.plan.choose import Plan
from groundup.plan.hardware import Hardware
from groundup.run import Run
from groundup.train.checkpoints import TrainState

# Repetition costs little up to about 4 times, and is worth almost nothing from 16 times on (Muennighoff et al.
# 2023, arXiv:2305.16264).
_MANY_EPOCHS = 8


def say_machine(hardware: Hardware, display: Display) -> None:
    """What was measured."""
    display.say(
        f"machine: {hardware.name}, {hardware.threads} threads, {bytes_text(hardware.memory_bytes)} free; "
        f"{human(hardware.flops_fp32)}FLOP/s in fp32, {human(hardware.flops_bf16)}FLOP/s in bf16, "
        f"{bytes_text(hardware.memory_bandwidth)}/s"
    )


def say_text(text: Text, display: Display) -> None:
    """What was read, and under which licence."""
    manifest = text.store.manifest
    cut = ", as much as the budget can use" if manifest["truncated"] else ""
    display.say(
        f"text: {', '.join(manifest['sources'])}: {bytes_text(text.train_bytes)} to train on{cut}, "
        f"{bytes_text(text.held_out_bytes)} held out, {manifest['documents']:,} documents"
    )
    for attribution in manifest["attribution"]:
        display.say(f"      {attribution}")


def say_plan(plan: Plan, budget: Budget, display: Display) -> None:
    """The plan, before anything is spent on it."""
    shape, many = plan.shape, plan.devices > 1
    display.table(
        f"Plan for a budget of {budget_text(budget)}",
        [
            (
                "model",
                f"{shape.family}, {human(plan.parameters)} parameters: {shape.num_layers} layers, "
                f"width {shape.width}, {shape.num_heads} heads ({shape.num_kv_heads} key/value), "
                f"context {shape.context}, vocabulary {shape.vocabulary_size:,}",
            ),
            (
                "training",
                f"{human(plan.tokens)} tokens ({plan.epochs:.2f} epochs) in {plan.steps:,} steps of "
                f"{plan.batch_size} sequences, learning rate {plan.lr:.2g}, {plan.precision}"
                f"{', compiled' if plan.compile else ''}",
            ),
            ("computation", f"{human(plan.flops)}FLOP at {human(plan.tokens_per_second)} tokens/s"),
            ("memory", f"{bytes_text(plan.peak_bytes)} at the peak{' of each device' if many else ''}"),
            ("time", f"{seconds_text(plan.train_seconds)} of training"),
            (
                "expected",
                f"{plan.bits_per_byte:.2f} bits per byte ({plan.bits_per_byte_low:.2f} to "
                f"{plan.bits_per_byte_high:.2f}; {plan.law})",
            ),
        ],
    )
    if many:
        display.say(f"{plan.devices} devices: times leave out what they send each other")
    if plan.epochs > _MANY_EPOCHS:
        display.warn(
            f"the text will be read {plan.epochs:.0f} times; beyond about {_MANY_EPOCHS} times a model learns it "
            "by heart rather than more from it: add text, or give a smaller --budget"
        )


def say_kept(state: TrainState, display: Display) -> None:
    """Which model is kept, where the run has looked for the best one, and whether it ended because of that."""
    best = state.best
    if not best.step:
        return
    kept = f"the model of step {best.step:,} is kept, whose held-out loss was the lowest ({best.loss:.4f})"
    if state.stopped_early:
        measured = f"{best.stale} validation{'s' if best.stale > 1 else ''} did not improve on it"
        kept = f"stopped early after step {state.step:,}: {kept}; {measured}"
    display.say(kept, style="bold")


def say_outcome(outcome: dict[str, Any], run: Run, display: Display) -> None:
    """What came of it, and what to do next."""
    display.say(
        f"done: {outcome['bits_per_byte']:.3f} bits per byte on held-out text (counting pairs of tokens: "
        f"{outcome['bigram_bits_per_byte']:.3f}), {human(outcome['tokens'])} "
        f"tokens in {seconds_text(outcome['train_seconds'])}, {human(outcome['tokens_per_second'])} tokens/s, "
        f"{outcome['utilisation']:.0%} of peak",
        style="bold",
    )
    display.say(f"model   {run.model}")
    display.say(f"report  {run.report_file}")
    display.say(f"try     groundup generate {run.folder} --prompt 'Once'")


def budget_text(budget: Budget) -> str:
    """A budget for people."""
    if budget.kind == "seconds":
        return seconds_text(budget.amount)
    unit = {"flops": "FLOP", "tokens": " tokens", "steps": " steps"}[budget.kind]
    return f"{human(budget.amount)}{unit}"
