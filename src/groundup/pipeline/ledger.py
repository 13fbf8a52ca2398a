"""`groundup plan ledger`: finds out what was named (a published model, a run, a model folder) and counts it."""

from pathlib import Path

from groundup.errors import UserError, nearest
from groundup.interop.config import shape_in
from groundup.interop.stored import read_shape, stored_tensors
from groundup.plan.figures import Answer
from groundup.plan.ledger_answer import ledger_answer, stored_answer
from groundup.plan.models import NAMED
from groundup.plan.stored import trained
from groundup.run import Run
from groundup.shape import Shape


def ledger_of(subject: str, length: int | None = None) -> Answer:
    """The ledger of a published model by name, a run's folder or a Hugging Face folder.

    UserError where `subject` is none of them, or a folder whose architecture is not known and that has no weights.
    """
    folder = Path(subject)
    model = NAMED.get(subject.strip().lower())
    if model and not folder.is_dir():
        return ledger_answer(model.shape, f"Ledger of {model.name}", length, model.source)
    if (folder / "recipe.toml").is_file():
        return ledger_answer(
            _shape_of_run(Run.open(folder)), f"Ledger of the run {folder}", length, "its plan.json"
        )
    if (folder / "config.json").is_file():
        return _ledger_of_folder(folder, length)
    if folder.is_dir():
        raise UserError(f"{folder} is neither a run's folder (recipe.toml) nor a model's (config.json)")
    known = {one.name for one in NAMED.values()}
    raise UserError(f"no model '{subject}'{nearest(subject.lower(), known)}; or give a run's or a model's folder")


def _shape_of_run(run: Run) -> Shape:
    plan = run.read_json(run.plan_file)
    if not plan:
        raise UserError(f"the run in {run.folder} has no plan yet; continue it with --resume --out {run.folder}")
    return Shape(**plan["shape"])


def _ledger_of_folder(folder: Path, length: int | None) -> Answer:
    """By our own categories where the architecture is known, by the names of the stored tensors elsewhere."""
    stored = stored_tensors(folder)
    title = f"Ledger of {folder}"
    try:
        shape = read_shape(folder, shape_in)
    except UserError as error:
        if not any(tensor.parameters for tensor in trained(stored)):
            raise UserError(f"{error}; and there is no model.safetensors with weights to count") from None
        return stored_answer(stored, title, str(error))
    return ledger_answer(shape, title, length, "its config.json", stored)
