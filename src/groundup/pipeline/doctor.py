"""`groundup doctor`: what would go wrong, found before time is spent, in plain sentences."""

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from groundup.data.corpora import CORPORA, default_corpus
from groundup.data.demo import PREFIX
from groundup.data.sources import read
from groundup.data.survey import holds_dialogues
from groundup.errors import UserError
from groundup.files import cache_folder
from groundup.pipeline.build import check_names
from groundup.pipeline.doctor_stages import Finding, dialogues, stage, stage_data
from groundup.pipeline.numbers import bytes_text, human
from groundup.plan.budget import parse_budget
from groundup.plan.hardware import Hardware
from groundup.processor import bf16_instructions
from groundup.recipe import DataRecipe, TrainRecipe, load, ready_recipes
from groundup.run import Run
from groundup.shape import family
from groundup.tokenizer import native

_LEAST_FREE_BYTES = 2 << 30
_LEAST_MEMORY_BYTES = 2 << 30
# What is read of a source to learn what it is.
_LOOK_BYTES = 8 << 20


def examine(subject: str | None) -> list[Finding]:
    """The findings for a run's folder, a recipe, a source or, without a subject, this machine."""
    if subject is None:
        return list(_machine())
    if (Path(subject) / "recipe.toml").is_file():
        return list(_run(Run.open(Path(subject))))
    if subject.endswith(".toml") or subject in ready_recipes():
        return list(_recipe(subject))
    if subject.startswith(PREFIX) or holds_dialogues(subject):
        return list(dialogues(subject))
    return list(_source(subject, DataRecipe()))


def _machine() -> Iterator[Finding]:
    import torch

    from groundup.train.compile import why_not_compiled
    from groundup.train.machine import measure

    yield Finding(True, f"Python {platform.python_version()} and PyTorch {torch.__version__} are installed.")
    load_average = psutil.getloadavg()[0]  # before measuring, which is a load itself
    hardware = measure(TrainRecipe())
    yield Finding(
        True,
        f"{hardware.name} sustains {human(hardware.flops_fp32)}FLOP/s in fp32 and "
        f"{human(hardware.flops_bf16)}FLOP/s in bf16 with {hardware.threads} threads.",
    )
    yield from _precision(hardware)
    missing = why_not_compiled(hardware.device)
    yield Finding(
        missing is None,
        f"Models cannot be compiled here: install {missing}; training works without, up to a fifth slower."
        if missing
        else "Models can be compiled; train.compile=auto does it where it pays within a budget of time.",
    )
    cores = psutil.cpu_count() or 1
    busy = load_average > 0.75 * cores
    advice = "; other programs will slow training, stop them first" if busy else ""
    yield Finding(not busy, f"The load is {load_average:.1f} on {cores} processors{advice}.")
    memory = hardware.memory_bytes
    yield Finding(memory > _LEAST_MEMORY_BYTES, f"{bytes_text(memory)} of memory are free.")
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in ((folder, "the cache"), (Path.cwd(), "this folder")):
        free = shutil.disk_usage(place).free
        yield Finding(free > _LEAST_FREE_BYTES, f"{bytes_text(free)} are free on the disk of {name} ({place}).")
    yield Finding(
        native.module is not None,
        f"The tokenizer's compiled part runs ({native.instructions})."
        if native.module
        else "The tokenizer runs in plain Python, which is slow; install a C++ compiler, then groundup again.",
    )
    yield Finding(True, f"The default corpus here is {default_corpus()}.")


def _precision(hardware: Hardware) -> Iterator[Finding]:
    """Which number format `train.precision=auto` takes, and why."""
    from groundup.model.linear import ONEDNN_IS_FASTER

    ratio = hardware.flops_bf16 / hardware.flops_fp32
    has = ", ".join(bf16_instructions() or []) if hardware.device == "cpu" else ""
    because = f"bf16 products are {ratio:.1f} times as fast as fp32 ones"
    if hardware.precision == "bf16":
        by = f" (the processor has {has})" if has else ""
        yield Finding(True, f"train.precision=auto takes bf16{by}: {because}; weights and optimizer stay in fp32.")
    else:
        without = " (the processor has no instructions for bf16)" if hardware.has_bf16 is False else ""
        yield Finding(True, f"train.precision=auto takes fp32{without}: {because}.")
    if hardware.device == "cpu":
        library = "oneDNN, which is faster than MKL on AMD's processors" if ONEDNN_IS_FASTER else "torch's default"
        yield Finding(True, f"fp32 products are computed by {library}; fp16 and its loss scaling are for GPUs.")


def _recipe(name: str) -> Iterator[Finding]:
    recipe = load(name)
    budget = parse_budget(recipe.budget)
    check_names(recipe)
    if recipe.stage != "pretrain":
        yield Finding(True, f"Recipe {name} is valid; its stage is {recipe.stage}.")
        yield from stage(recipe)
        return
    yield Finding(True, f"Recipe {name} is valid; its budget is {budget.amount:g} {budget.kind}.")
    for source in [*recipe.data.sources, *recipe.data.validation]:
        yield from _source(source, recipe.data)
    for later in recipe.stages:
        if later != "pretrain":
            yield from stage_data(getattr(recipe, later))


def _run(run: Run) -> Iterator[Finding]:
    yield Finding(True, f"The recipe of {run.folder} is valid (seed {run.recipe.seed}).")
    if run.recipe.stages:
        for name in run.recipe.stages:
            folder = run.folder / name
            done = Run(folder).finished
            yield Finding(True, f"Its stage {name} is {'finished' if done else 'still to be done'}: {folder}.")
        return
    if run.recipe.stage != "pretrain":
        yield from stage(run.recipe)
        yield from _progress(run)
        return
    yield from _pretraining(run)


def _pretraining(run: Run) -> Iterator[Finding]:
    from groundup.data import Shards

    traits = family(run.recipe.model.family)
    if not run.plan_file.is_file() and traits.examples != "words":
        yield Finding(False, f"It has no plan yet; `groundup build --resume --out {run.folder}` makes it.")
        return
    for side in ("train", "held-out") if traits.examples == "text" else ():
        try:
            shards = Shards.open(run.shards / side, verify=True)
            yield Finding(True, f"The {side} shards are intact: {shards.num_tokens:,} tokens.")
        except UserError as error:
            yield Finding(False, str(error))
    yield from _progress(run)


def _progress(run: Run) -> Iterator[Finding]:
    from groundup.train.checkpoints import damage, list_checkpoints

    for checkpoint in list_checkpoints(run.checkpoints):
        problem = damage(checkpoint)
        yield Finding(problem is None, f"Checkpoint {checkpoint.name} is {problem or 'intact'}.")
    if run.finished:
        yield Finding(True, "It is finished.")
    else:
        yield Finding(False, f"It is not finished; `groundup build --resume --out {run.folder}` continues it.")


def _source(source: str, options: DataRecipe) -> Iterator[Finding]:
    if source == "-":
        yield Finding(True, "Standard input is read when the build begins; it cannot be checked before.")
        return
    reading = read([source], field=options.field, split=options.split)
    num_bytes = documents = invalid = 0
    for part in reading:
        num_bytes += len(part.data)
        documents += part.ends_document
        invalid += not _is_utf8(part.data)
        if num_bytes > _LOOK_BYTES:
            break
    if not num_bytes:
        yield Finding(False, f"{source} holds no text; name another source.")
        return
    whole = num_bytes <= _LOOK_BYTES
    yield Finding(
        True,
        f"{source} is readable: {documents:,} documents, {bytes_text(num_bytes)}{'' if whole else ' and more'}.",
    )
    if invalid:
        yield Finding(True, f"{invalid} of its parts are not valid UTF-8; they are kept byte by byte.")
    if reading.skipped:
        yield Finding(True, f"{len(reading.skipped)} of its files are not text and would be skipped.")
    if whole and num_bytes < 1 << 20:
        yield Finding(False, f"{bytes_text(num_bytes)} are little to learn from; 1 MB or more is better.")
    if source in CORPORA:
        yield Finding(True, CORPORA[source].attribution)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
