"""The recipe: one typed object that says everything about a run, loaded from TOML, overridden by `--set`.

A field that is None is left to the planner; the recipe written into a run's folder has every field filled in.
"""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w
from pydantic import ByteSize, Field, ValidationError

from groundup.errors import UserError, nearest
from groundup.recipe_stages import (
    DpoRecipe,
    GrpoRecipe,
    PpoRecipe,
    RejectRecipe,
    RewardRecipe,
    Section,
    SftRecipe,
    Stage,
)


class DataRecipe(Section):
    """Where the text comes from and which part is held out."""

    sources: list[str] = Field(default=[], description="files, folders, globs, '-', corpora, hf:NAME")
    validation: list[str] = Field(default=[], description="held-out text of your own, instead of a split")
    field: str = Field(default="text", description="the field of .jsonl and .parquet that holds the text")
    source_field: str | None = Field(default=None, description="of pairs: the field of the text that is read")
    target_field: str | None = Field(default=None, description="of pairs: the field of the text to be written")
    split: Literal["none", "blank-lines", "endoftext"] = Field(
        default="none", description="how a text file is cut into documents"
    )
    holdout: float = Field(default=0.01, ge=0, le=0.5, description="the share of the text never trained on")
    holdout_bytes: int = Field(default=65_536, ge=1, description="but at least this many bytes")
    limit_bytes: int | None = Field(default=None, ge=1, description="read at most this much text")
    packing: Literal["stream", "documents"] = Field(
        default="stream", description="documents: attention does not cross their borders within a window"
    )


class TokenizerRecipe(Section):
    """The byte-level BPE tokenizer."""

    file: str | None = Field(default=None, description="use this tokenizer.json instead of training one")
    vocabulary_size: int | None = Field(default=None, ge=257, description="bytes + merges + special tokens")
    pattern: str = Field(default="cl100k", description="gpt2, cl100k, qwen2, o200k or a regular expression")
    sample_bytes: int = Field(default=8 << 20, ge=1, description="train on a sample of this size")


class ModelRecipe(Section):
    """The model's family and shape."""

    family: str = Field(default="qwen3", description="qwen3, gpt2, bert, ...; `groundup families` lists them")
    num_layers: int | None = Field(default=None, ge=1)
    width: int | None = Field(default=None, ge=1)
    num_heads: int | None = Field(default=None, ge=1)
    num_kv_heads: int | None = Field(default=None, ge=1)
    head_width: int | None = Field(default=None, ge=2)
    feedforward_width: int | None = Field(default=None, ge=1)
    context: int | None = Field(default=None, ge=8, description="tokens that the model sees at once")
    tied: bool = Field(default=True, description="the unembedding is the embedding, transposed")
    rope_theta: float = Field(default=10_000.0, gt=0)
    num_experts: int | None = Field(default=None, ge=1, description="of each layer of a mixture of experts")
    experts_per_token: int | None = Field(
        default=None, ge=1, description="how many of them a token passes through"
    )
    expert_width: int | None = Field(
        default=None,
        ge=1,
        description="feed-forward width of one; feedforward_width is that of a token's together",
    )
    router_aux_loss_coef: float = Field(
        default=0.001, ge=0, description="how much the loss asks routers to load experts evenly"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of activations that training leaves out")
    options: dict[str, Any] = Field(default={}, description="what only this family has: model.options.NAME")


class TrainRecipe(Section):
    """The training loop."""

    batch_size: int | None = Field(default=None, ge=1, description="sequences per optimizer step")
    micro_batch: int | None = Field(default=None, ge=1, description="sequences per forward pass")
    optimizer: str = Field(default="muon", description="muon, adamw, lion, adafactor or sgd")
    lr: float | None = Field(default=None, gt=0, description="the peak learning rate")
    lr_scale: float = Field(default=1.0, gt=0, description="times the planner's rate, which follows the size")
    batch_warmup: float = Field(
        default=0.0, ge=0, le=1, description="the share of the run in which the batch grows"
    )
    batch_warmup_from: float = Field(
        default=0.25, gt=0, le=1, description="its first size, as a share of the batch"
    )
    schedule: Literal["linear", "cosine", "trapezoid", "wsd", "constant"] = Field(default="linear")
    warmup: float = Field(default=0.03, ge=0, lt=1, description="the share of the run that warms up")
    cooldown: float = Field(default=0.2, gt=0, le=1, description="the share of the run in which a trapezoid falls")
    final_lr: float = Field(default=0.02, ge=0, le=1, description="the last learning rate, as a share of lr")
    weight_decay: float = Field(default=0.1, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0, description="what AdamW adds to the root of the second moment")
    clip: float = Field(default=1.0, gt=0, description="the largest norm of the gradient")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="the share of each target that is spread over the whole vocabulary"
    )
    ema: float | None = Field(default=None, gt=0, lt=1, description="average the weights with this decay a step")
    patience: int | None = Field(
        default=None,
        ge=1,
        description="end after so many validations without a lower loss, and keep the best model",
    )
    precision: Literal["auto", "fp32", "bf16", "bf16-weights", "fp16"] = Field(default="auto")
    compile: Literal["auto", "on", "off"] = Field(
        default="auto", description="auto: where it pays within a budget of time"
    )
    recompute: Literal["none", "selective", "full", "auto"] = Field(
        default="none",
        description="what the backward pass computes again instead of keeping it; auto: what the memory asks",
    )
    memory_limit: ByteSize | None = Field(
        default=None, ge=1, description="the most that training may take, such as 4GB; default: 60 % of the memory"
    )
    device: str = Field(default="auto", description="cpu, cuda, mps, or auto")
    threads: int | None = Field(default=None, ge=1)
    validations: int = Field(default=8, ge=1, description="how often the held-out text is measured")
    validation_tokens: int | None = Field(default=None, ge=1, description="how much of it, while training")
    checkpoint_seconds: float = Field(default=30.0, gt=0)
    checkpoint_steps: int | None = Field(default=None, ge=1, description="save by steps instead of by time")
    keep_checkpoints: int = Field(default=2, ge=1)


class ParallelRecipe(Section):
    """How a run is divided over many devices: data x tensor x context x pipeline of them; -1 means 'the rest'."""

    data: int = Field(default=-1, ge=-1, description="groups of devices that train on different sequences")
    zero: Literal[0, 1, 2, 3] = Field(
        default=0, description="over which are divided: 1 the optimizer's state, 2 gradients too, 3 weights too"
    )
    replicate: int = Field(default=1, ge=1, description="into how many copies of what is divided `data` falls")
    tensor: int = Field(default=1, ge=-1, description="devices over which every matrix is divided")
    sequence: bool = Field(default=True, description="with tensor, norms and residuals are divided by position")
    context: int = Field(default=1, ge=-1, description="devices over which every sequence is divided")
    pipeline: int = Field(default=1, ge=-1, description="devices over which the layers are divided")
    schedule: Literal["gpipe", "1f1b", "interleaved"] = Field(default="1f1b", description="of the pipeline")
    virtual_stages: int = Field(default=1, ge=1, description="parts of the model on a device, if interleaved")
    expert: int = Field(default=1, ge=1, description="devices over which the experts of a block are divided")
    bucket_mb: float = Field(default=25.0, gt=0, description="megabytes of gradients that are sent at once")
    reduce: Literal["fp32", "bf16", "fp16"] = Field(default="fp32", description="in which gradients are summed")
    offload: bool = Field(default=False, description="the optimizer and its state are on the CPU")


class SampleRecipe(Section):
    """The text that the model writes along the way, so that progress can be read."""

    prompts: list[str] | None = Field(default=None, description="default: a new document, and the opening of one")
    tokens: int = Field(default=64, ge=1)
    temperature: float = Field(default=0.8, ge=0)
    top_k: int = Field(default=50, ge=0)


class Recipe(Section):
    """Everything that decides a run: with its seed, and a budget that is not time, the same losses every time."""

    name: str = "default"
    description: str = ""
    seed: int = Field(default=1, ge=0, lt=1 << 31)
    stage: Stage = Field(default="pretrain", description="what this run does: pretrain, sft, reward, ...")
    stages: list[Stage] = Field(default=[], description="what `groundup build` does, in this order")
    budget: str = Field(default="10m", description="90s, 10m, 2h, 5e15flop, 200ktok, 50Mtok or 500steps")
    data: DataRecipe = DataRecipe()
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    model: ModelRecipe = ModelRecipe()
    train: TrainRecipe = TrainRecipe()
    parallel: ParallelRecipe = ParallelRecipe()
    sample: SampleRecipe = SampleRecipe()
    sft: SftRecipe = SftRecipe()
    reward: RewardRecipe = RewardRecipe()
    dpo: DpoRecipe = DpoRecipe()
    ppo: PpoRecipe = PpoRecipe()
    grpo: GrpoRecipe = GrpoRecipe()
    reject: RejectRecipe = RejectRecipe()

    def to_toml(self) -> str:
        """The recipe as TOML; fields left to the planner are absent, as are stages of which nothing is said."""
        fields = type(self).model_fields
        silent = {
            name for name in get_args(Stage) if name in fields and getattr(self, name) == fields[name].default
        }
        return tomli_w.dumps(self.model_dump(exclude_none=True, exclude=silent))


def ready_recipes() -> dict[str, str]:
    """The recipes that come with groundup: name -> one line of description."""
    folder = resources.files("groundup") / "recipes"
    texts = {
        file.name.removesuffix(".toml"): file.read_text("utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".toml")
    }
    return {name: str(tomllib.loads(texts[name])["description"]) for name in sorted(texts)}


def recipe_of(family: str) -> str:
    """The ready recipe of a family: the one of its name, or else the first; UserError if there is none."""
    folder = resources.files("groundup") / "recipes"
    names = sorted(ready_recipes(), key=lambda name: (name != family, name != "default", name))
    for name in names:
        tree = tomllib.loads((folder / f"{name}.toml").read_text("utf-8"))
        if tree.get("model", {}).get("family", ModelRecipe().family) == family:
            return name
    raise UserError(
        f"there is no ready recipe for the family {family}; write one with [model] family = '{family}'"
    )


def load(name_or_file: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The ready recipe or TOML file called `name_or_file`, with overrides (`train.lr` -> value) applied.

    Raises UserError for a recipe that is not there, TOML that does not parse, an unknown field or a value
    out of range.
    """
    origin, content = _read(name_or_file)
    try:
        tree = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{origin} is not valid TOML: {error}; correct it or start from `groundup recipes`"
        ) from None
    tree.setdefault("name", Path(name_or_file).stem)
    for field, value in (overrides or {}).items():
        _override(tree, field, value)
    return parse(tree, origin)


def parse(tree: dict[str, Any], origin: str) -> Recipe:
    """A recipe from a tree of plain values; `origin` names where it came from in errors."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UserError(f"{origin}: unknown field '{field}'{nearest(field, known_fields())}") from None
        hint = "write a size such as 4GB or 500MB" if first["type"].startswith("byte_size") else first["msg"]
        raise UserError(f"{origin}: {field}={first['input']!r}: {hint}") from None


def known_fields() -> list[str]:
    """Every field's dotted name, such as `train.lr`."""
    names: list[str] = []
    for name, field in Recipe.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            names += [f"{name}.{inner}" for inner in section.model_fields]
        else:
            names.append(name)
    return names


def _read(name_or_file: str) -> tuple[str, bytes]:
    path = Path(name_or_file)
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise UserError(f"no recipe file '{name_or_file}'; `groundup recipes` lists the ready ones")
        return str(path), path.read_bytes()
    ready = resources.files("groundup") / "recipes" / f"{name_or_file}.toml"
    if not ready.is_file():
        raise UserError(f"no recipe '{name_or_file}'{nearest(name_or_file, ready_recipes())}")
    return f"recipe '{name_or_file}'", ready.read_bytes()


def parse_overrides(written: list[str]) -> dict[str, Any]:
    """`["train.lr=3e-4", ...]`, as given to `--set`, as fields and values; UserError where there is no `=`."""
    fields: dict[str, Any] = {}
    for override in written:
        field, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"--set {override}: write it as field=value, for example --set train.lr=3e-4")
        fields[field.strip()] = _value(value.strip(), field.strip())
    return fields


def _override(tree: dict[str, Any], field: str, value: Any) -> None:
    if field not in known_fields() and not field.startswith(_OPTIONS):
        raise UserError(f"unknown field '{field}' in the recipe{nearest(field, known_fields())}")
    *sections, last = field.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise UserError(f"{section}={tree!r} in the recipe is not a section; write [{section}] and its fields")
    tree[last] = value


# The family itself knows what stands below.
_OPTIONS = "model.options."


def _value(written: str, field: str) -> Any:
    """`written` as a TOML value where it is one, else as the text itself; lists may be written `a,b`."""
    try:
        value: Any = tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        value = written
    if field in _lists() and not isinstance(value, list):
        return [part for part in str(value).split(",") if part]
    return value


def _lists() -> set[str]:
    """The fields that hold lists."""
    names = {"stages"}
    for section, field in Recipe.model_fields.items():
        inner = getattr(field.annotation, "model_fields", {})
        names |= {f"{section}.{name}" for name, kind in inner.items() if "list" in str(kind.annotation)}
    return names
