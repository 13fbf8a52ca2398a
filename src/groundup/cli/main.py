"""The entry point: registers the verbs, and turns every expected error into one line and an exit code."""

import errno
import json
import os
import sys
from typing import Annotated

import typer

from groundup import __version__
from groundup.cli import (
    bench,
    build,
    chat,
    classify,
    compare,
    doctor,
    dpo,
    evaluate,
    export,
    families,
    feedback,
    fill_mask,
    finetune,
    generate,
    grpo,
    merge,
    plan,
    ppo,
    probe,
    recipes,
    reject,
    report,
    reward,
    scaling,
    sft,
    tokenizer,
    train,
    translate,
    words,
)
from groundup.errors import UserError

app = typer.Typer(
    name="groundup",
    help="Build a language model of your own, from raw text to a served model, and see how it works.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(plan.app, name="plan", help="Say what a budget buys: model, time, memory, cost and loss.")
app.command("build")(build.build)
app.command("train")(train.train)
app.command("generate")(generate.generate)
app.command("chat")(chat.chat)
app.command("feedback")(feedback.feedback)
app.command("translate")(translate.translate)
app.command("fill-mask")(fill_mask.fill_mask)
app.command("eval")(evaluate.evaluate)
app.command("export")(export.export)
app.command("merge")(merge.merge)
app.command("report")(report.report)
app.command("finetune")(finetune.finetune)
app.command("classify")(classify.classify)
app.command("probe")(probe.probe)
app.command("sft")(sft.sft)
app.command("reward")(reward.reward)
app.command("dpo")(dpo.dpo)
app.command("ppo")(ppo.ppo)
app.command("grpo")(grpo.grpo)
app.command("reject")(reject.reject)
app.add_typer(tokenizer.app, help="Train, use, measure and look at tokenizers.")
app.add_typer(scaling.app, name="scaling", help="Runs of many sizes, the law of their loss, its predictions.")
app.add_typer(words.app, help="Word vectors: word2vec and GloVe, trained, measured, exported.")
app.command("neighbours")(words.neighbours)
app.command("analogy")(words.analogy)
app.command("families")(families.families)
app.command("compare")(compare.compare)
app.command("recipes")(recipes.recipes)
app.command("doctor")(doctor.doctor)
app.add_typer(bench.app, name="bench")

USER_ERROR = 2
_RESUMABLE = {"build", "train", "sft", "reward", "dpo", "ppo", "grpo", "reject"}
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)


@app.callback(invoke_without_command=True)
def _groundup(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for what the user can mend, 130 or 143 after a signal."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        return _run(arguments)
    except UserError as error:
        return _fail(str(error), arguments)
    except typer.TyperException as error:
        # typer's own classes give a better message than their text, with the option's name in it.
        message = getattr(error, "format_message", error.__str__)()
        return _fail(f"{message} See `groundup --help`.", arguments)
    except BrokenPipeError:
        return _unread()
    except OSError as error:
        return _fail(explain(error), arguments)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(arguments)


def _run(arguments: list[str]) -> int:
    """As `app(arguments)`, which would turn a KeyboardInterrupt into an exit without a word."""
    command = typer.main.get_command(app)
    try:
        # A verb that starts groundup anew finds here what it was given.
        with command.make_context("groundup", list(arguments), obj=arguments) as context:
            return int(command.invoke(context) or 0)
    except typer.Exit as end:
        return end.exit_code


def _unread() -> int:
    """What reads our output has had enough: Python must not complain either when it closes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _fail(message: str, arguments: list[str]) -> int:
    one_line = " ".join(message.split())
    print(f"error: {one_line}", file=sys.stderr)
    if "--json" in arguments:
        print(json.dumps({"error": one_line}))
    return USER_ERROR


def explain(error: OSError) -> str:
    """One line for what the system refused."""
    place = f" ({error.filename})" if error.filename else ""
    if error.errno in _DISK_IS_FULL:
        return f"the disk is full{place}; make room, then continue with --resume; what was saved before is intact"
    return f"{error.strerror or error}{place}; check the path and its permissions"


def _interrupted(arguments: list[str]) -> int:
    verb = arguments[0]
    hint = f"; `groundup {verb} --resume` continues an unfinished run" if verb in _RESUMABLE else ""
    print(f"stopped{hint}", file=sys.stderr)
    if "--json" in arguments:
        print(json.dumps({"error": f"stopped{hint}"}))
    return 130
