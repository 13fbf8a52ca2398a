"""Low-rank adapters as the package peft stores them: adapter_config.json, and the names of tensors.

GPT's and GPT-2's folders have queries, keys and values in one matrix. Three adapters of rank r beside the parts
are one of rank 3r beside the whole: A stacked, B in blocks on the diagonal.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from groundup.interop.decoder_names import TABLES, names_of
from groundup.shape import Shape

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_FUSED_FAMILIES = ("gpt1", "gpt2")
_PREFIX, _ROWS = "base_model.model.", "token_adapter.trainable_tokens_delta"
_SCORE = "score"
_HEAD = f"{_PREFIX}{_SCORE}.weight"
_PARTS, _WHOLE = ("query", "key", "value"), "query_key_value"
_MATRICES = (*(f"attention.{part}" for part in (*_PARTS, "output", _WHOLE)), "feedforward.gate",
             "feedforward.up", "feedforward.down")  # fmt: skip
# Settings of peft's under which an adapter computes something else than alpha/rank B A.
_UNREAD = (
    "use_rslora", "use_dora", "lora_bias", "modules_to_save", "layer_replication", "target_parameters",
    "alora_invocation_tokens", "use_qalora", "use_bdlora", "kasa_config", "arrow_config", "megatron_config",
)  # fmt: skip
# Ways to draw A and B that leave the base as it is.
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")


class LowRank(NamedTuple):
    """What stands beside one matrix (O, I): alpha/R B A."""

    a_RI: Tensor
    b_OR: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """R."""
        return self.a_RI.shape[0]


@dataclass(frozen=True)
class Adapters:
    """All that was learnt: by our names of matrices, and the rows (N, D) of N tokens in each of the tables."""

    low_rank: Mapping[str, LowRank]
    rows: Mapping[str, Tensor]
    ids: list[int]
    dropout: float = 0.0


def to_config(shape: Shape, adapters: Adapters, base: str) -> dict[str, Any]:
    """The contents of adapter_config.json; `base` is where the model is that the adapters belong to."""
    low_rank = _theirs(shape, adapters)
    rank, alpha = Counter((part.rank, part.alpha) for part in low_rank.values()).most_common(1)[0][0]
    num_parts = 2 if shape.family in _FUSED_FAMILIES else 1  # c_proj alone is both attention's and the other's
    names = names_of(shape.family)
    rows = {names[table].rpartition(".")[2]: adapters.ids for table in adapters.rows}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": adapters.dropout,
        "target_modules": sorted({".".join(name.split(".")[-num_parts:]) for name in low_rank}),
        "rank_pattern": {name: part.rank for name, part in low_rank.items() if part.rank != rank},
        "alpha_pattern": {name: part.alpha for name, part in low_rank.items() if part.alpha != alpha},
        "trainable_token_indices": rows or None,
        "fan_in_fan_out": shape.family in _FUSED_FAMILIES,
        "bias": "none",
        "inference_mode": True,
    }


def to_tensors(shape: Shape, adapters: Adapters) -> dict[str, Tensor]:
    """The tensors under peft's names, contiguous."""
    tensors = {}
    for name, part in _theirs(shape, adapters).items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = part.a_RI.contiguous()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = part.b_OR.contiguous()
    names = names_of(shape.family)
    return tensors | {f"{_PREFIX}{names[table]}.{_ROWS}": rows for table, rows in adapters.rows.items()}


def with_head(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], weight_1D: Tensor
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Both files' contents for adapters that were trained with a head which gives a sequence one number."""
    return {**config, "task_type": "SEQ_CLS", "modules_to_save": [_SCORE]}, {**tensors, _HEAD: weight_1D}


def without_head(config: Mapping[str, Any], tensors: dict[str, Tensor]) -> tuple[dict[str, Any], Tensor]:
    """The configuration without the head, and its weights, taken out of `tensors`; ValueError without one."""
    if config.get("task_type") != "SEQ_CLS" or _HEAD not in tensors:
        raise ValueError("it has no head that gives a number")
    others = set(config.get("modules_to_save") or []) - {_SCORE, "classifier"}  # peft always names both
    return {**config, "modules_to_save": sorted(others)}, tensors.pop(_HEAD)


def from_peft(shape: Shape, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Adapters:
    """What both files hold, for a base of this shape, in float32; ValueError or KeyError for what is not read."""
    _check(config)
    ours_of = _modules(shape)
    table_of = {names_of(shape.family)[table]: table for table in TABLES}
    halves: dict[str, dict[str, Tensor]] = {}
    rows: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        found = re.fullmatch(rf"{re.escape(_PREFIX)}(.+)\.(lora_[AB]\.weight|{re.escape(_ROWS)})", name)
        if found is None:
            raise ValueError(f"it has a tensor {name}")
        module, kind = found.groups()
        if kind == _ROWS and module in table_of:
            rows[table_of[module]] = tensor.float()
        elif kind != _ROWS and module in ours_of:
            halves.setdefault(module, {})[kind[5]] = tensor.float()
        else:
            raise ValueError(f"it changes {module}, which a {shape.family} of {shape.num_layers} layers has not")
    halved = {module for module, pair in halves.items() if len(pair) < 2}
    missing = sorted(halved | (_meant(config, ours_of) - set(halves)))
    if missing:
        raise ValueError(f"{WEIGHTS_FILE} lacks the matrices of {len(missing)} modules, the first {missing[0]}")
    low_rank = {ours_of[name]: _low_rank(name, pair["A"], pair["B"], config) for name, pair in halves.items()}
    return Adapters(_split(low_rank), rows, _ids(config, rows), float(config.get("lora_dropout") or 0.0))


def _theirs(shape: Shape, adapters: Adapters) -> dict[str, LowRank]:
    """By peft's names of modules."""
    theirs = {ours: name for name, ours in _modules(shape).items()}
    low_rank = _fused(adapters.low_rank) if shape.family in _FUSED_FAMILIES else adapters.low_rank
    return {theirs[name]: part for name, part in low_rank.items()}


def _modules(shape: Shape) -> dict[str, str]:
    """Their names of all matrices that may have adapters, and ours."""
    return {
        theirs.replace("{i}", str(layer)): ours.replace("{i}", str(layer))
        for layer in range(shape.num_layers)
        for ours, theirs in names_of(shape.family).items()
        if ours.endswith(_MATRICES)
    }


def _check(config: Mapping[str, Any]) -> None:
    """ValueError for settings under which peft would compute something else."""
    if config.get("peft_type") != "LORA":
        raise ValueError(f"its peft_type is {config.get('peft_type')!r}, not 'LORA'")
    for key in _UNREAD:
        if config.get(key):
            raise ValueError(f"it sets {key}={config[key]!r}")
    if config.get("bias", "none") != "none":
        raise ValueError(f"it sets bias={config['bias']!r}")
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        raise ValueError(f"it sets init_lora_weights={config['init_lora_weights']!r}, which changes the base")


def _meant(config: Mapping[str, Any], modules: Mapping[str, str]) -> set[str]:
    """The modules that `target_modules` names; none where further settings choose among them."""
    targets = config.get("target_modules") or []
    if config.get("layers_to_transform") is not None or config.get("exclude_modules"):
        return set()
    if isinstance(targets, str):
        pattern = ".*" if targets == "all-linear" else targets
        return {name for name in modules if re.fullmatch(pattern, name)}
    return {name for name in modules if any(f".{name}".endswith(f".{target}") for target in targets)}


def _low_rank(name: str, a_RI: Tensor, b_OR: Tensor, config: Mapping[str, Any]) -> LowRank:
    rank = _by_pattern(config.get("rank_pattern"), name, config["r"])
    if not a_RI.shape[0] == b_OR.shape[1] == rank:
        raise ValueError(
            f"{name} has rank {rank} in {CONFIG_FILE}, but A is {tuple(a_RI.shape)} and B {tuple(b_OR.shape)}"
        )
    return LowRank(a_RI, b_OR, float(_by_pattern(config.get("alpha_pattern"), name, config["lora_alpha"])))


def _by_pattern(patterns: Mapping[str, Any] | None, name: str, default: Any) -> Any:
    """What the first of the patterns says that matches the end of a module's name."""
    matching = (value for pattern, value in (patterns or {}).items() if re.match(rf"(.*\.)?({pattern})$", name))
    return next(matching, default)


def _ids(config: Mapping[str, Any], rows: Mapping[str, Tensor]) -> list[int]:
    """The tokens whose rows were trained; in every table the same."""
    indices = config.get("trainable_token_indices") or []
    lists = list(indices.values()) if isinstance(indices, dict) else [indices]
    ids: list[int] = lists[0] if rows else []
    if any(other != ids for other in lists[1:]) or any(len(table) != len(ids) for table in rows.values()):
        raise ValueError("its trainable_token_indices differ between tables, or from the rows that it has")
    if ids != sorted(set(ids)):
        raise ValueError("its trainable_token_indices are not in order")
    return ids


def _fused(low_rank: Mapping[str, LowRank]) -> dict[str, LowRank]:
    """With one adapter in the place of those of queries, keys and values."""
    fused: dict[str, LowRank] = {}
    for name, part in low_rank.items():
        prefix, _, leaf = name.rpartition(".")
        if leaf not in _PARTS:
            fused[name] = part
        elif leaf == _PARTS[0]:
            three = [low_rank[f"{prefix}.{other}"] for other in _PARTS]
            fused[f"{prefix}.{_WHOLE}"] = LowRank(
                torch.cat([one.a_RI for one in three]),
                torch.block_diag(*(one.b_OR for one in three)),
                3 * part.alpha,
            )
    return fused


def _split(low_rank: Mapping[str, LowRank]) -> dict[str, LowRank]:
    """With three adapters in the place of one that is for queries, keys and values together."""
    split: dict[str, LowRank] = {}
    for name, whole in low_rank.items():
        prefix, _, leaf = name.rpartition(".")
        if leaf != _WHOLE:
            split[name] = whole
            continue
        b_parts, a_parts = whole.b_OR.chunk(3), [whole.a_RI] * 3
        alpha = whole.alpha
        blocks = [part.tensor_split(3, dim=1)[number] for number, part in enumerate(b_parts)]
        if whole.rank % 3 == 0 and torch.equal(torch.block_diag(*blocks), whole.b_OR):
            b_parts, a_parts, alpha = tuple(blocks), list(whole.a_RI.chunk(3)), alpha / 3
        for leaf, a_RI, b_OR in zip(_PARTS, a_parts, b_parts, strict=True):
            split[f"{prefix}.{leaf}"] = LowRank(a_RI, b_OR, alpha)
    return split
