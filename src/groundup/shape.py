"""What a model looks like, as plain numbers, for the planner (which never imports torch) and for the model.

`FAMILIES` is the one place where a family is registered: its building blocks, and the module that builds it.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from groundup.errors import UserError, nearest


@dataclass(frozen=True)
class Family:
    """What a family is made of and learns from, and the module whose import registers its builder.

    `norm`, `position` and `feedforward` describe the blocks of a `Decoder`, from which the planner counts;
    families of another kind leave them out, and are counted when they are built. `examples` are what one row of a
    batch comes from: a window of text, a pair of texts or a labelled image. `special_tokens` are those that the
    tokenizer has beside the end of text. `sees`, `purpose` and `example`, a command to try with a run, are for
    people.
    """

    module: str
    norm: Literal["layer", "rms"] | None = None
    position: Literal["learned", "rotary"] | None = None
    feedforward: Literal["gelu", "swiglu"] | None = None
    bias: bool = False
    qk_norm: bool = False
    grouped_query: bool = True
    experts: bool = False
    post_norm: bool = False
    objective: str = "causal"
    examples: Literal["text", "pairs", "images", "words"] = "text"
    special_tokens: tuple[str, ...] = ()
    norm_epsilon: float = 1e-6
    year: int = 0
    sees: str = "what is before"
    purpose: str = "writes text"
    example: str = "groundup generate {run} --prompt 'Once'"

    @property
    def is_decoder(self) -> bool:
        """Whether its model is a `Decoder`, which the planner knows: it writes text, one token after the other."""
        return self.position is not None


FAMILIES: dict[str, Family] = {
    "word2vec": Family(
        "groundup.words.word2vec",
        objective="word2vec",
        examples="words",
        year=2013,
        sees="a few words around",
        purpose="gives each word one vector",
        example="groundup neighbours {run} king",
    ),
    "glove": Family(
        "groundup.words.glove",
        objective="glove",
        examples="words",
        year=2014,
        sees="counts of the words around",
        purpose="gives each word one vector",
        example="groundup neighbours {run} king",
    ),
    "gpt2": Family(
        "groundup.model.families.gpt2", "layer", "learned", "gelu", bias=True, grouped_query=False, year=2019
    ),
    "llama": Family("groundup.model.families.llama", "rms", "rotary", "swiglu", year=2023),
    "qwen3": Family("groundup.model.families.qwen3", "rms", "rotary", "swiglu", qk_norm=True, year=2025),
    "qwen3_moe": Family(
        "groundup.model.families.qwen3_moe", "rms", "rotary", "swiglu", qk_norm=True, experts=True, year=2025
    ),
    "gpt1": Family(
        "groundup.model.families.gpt1",
        "layer",
        "learned",
        "gelu",
        bias=True,
        grouped_query=False,
        post_norm=True,
        norm_epsilon=1e-5,
        year=2018,
    ),
    "cnn": Family(
        "groundup.model.families.cnn",
        objective="labels",
        examples="images",
        year=1998,
        sees="an image",
        purpose="classifies images",
        example="groundup eval {run}",
    ),
    "vit": Family(
        "groundup.model.families.vit",
        objective="labels",
        examples="images",
        norm_epsilon=1e-12,
        year=2020,
        sees="an image",
        purpose="classifies images",
        example="groundup eval {run}",
    ),
    "transformer": Family(
        "groundup.model.families.transformer",
        objective="translation",
        examples="pairs",
        special_tokens=("<|sep|>", "<|pad|>"),
        norm_epsilon=1e-5,
        year=2017,
        sees="the source, and the target before",
        purpose="translates",
        example="groundup translate {run} 'A man sleeps.'",
    ),
    "t5": Family(
        "groundup.model.families.t5",
        objective="denoising",
        # The first span's sentinel has the highest id, as in T5.
        special_tokens=("<|sep|>", "<|pad|>", *(f"<|extra_{number}|>" for number in reversed(range(32)))),
        year=2019,
        sees="the text around, and the answer before",
        purpose="lends features, learns to translate",
        example="groundup probe {run} classify --data FILE",
    ),
    "bert": Family(
        "groundup.model.families.bert",
        objective="masked",
        special_tokens=("<|mask|>", "<|cls|>", "<|sep|>", "<|pad|>"),
        norm_epsilon=1e-12,
        year=2018,
        sees="both sides",
        purpose="fills gaps, lends features of text",
        example="groundup fill-mask {run} 'Once upon a <|mask|>.'",
    ),
    "pert": Family(
        "groundup.model.families.pert",
        objective="positions",
        special_tokens=("<|cls|>", "<|sep|>", "<|pad|>"),
        norm_epsilon=1e-12,
        year=2022,
        sees="both sides",
        purpose="lends features of text",
        example="groundup eval {run}",
    ),
    "nnlm": Family(
        "groundup.model.families.nnlm",
        year=2003,
        sees="the last few tokens",
        purpose="predicts the next token",
        example="groundup eval {run}",
    ),
    "elmo": Family(
        "groundup.model.families.elmo",
        objective="bidirectional",
        year=2018,
        sees="both sides, each by a model of its own",
        purpose="lends features of tokens in context",
        example="groundup probe {run} classify --data FILE",
    ),
    "seq2seq": Family(
        "groundup.model.families.seq2seq",
        objective="translation",
        examples="pairs",
        special_tokens=("<|sep|>", "<|pad|>"),
        year=2014,
        sees="the source from both sides, the target before",
        purpose="translates",
        example="groundup translate {run} 'A man sleeps.'",
    ),
    "cove": Family(
        "groundup.model.families.cove",
        objective="translation",
        examples="pairs",
        special_tokens=("<|sep|>", "<|pad|>"),
        year=2017,
        sees="the source from both sides, the target before",
        purpose="lends features of words in context",
        example="groundup probe {run} classify --data FILE",
    ),
    "xlnet": Family(
        "groundup.model.families.xlnet",
        objective="permuted",
        norm_epsilon=1e-12,
        year=2019,
        sees="both sides, in random orders",
        purpose="lends features of text",
        example="groundup probe {run} classify --data FILE",
    ),
}


def family(name: str) -> Family:
    """The family called `name`; UserError with the nearest known name otherwise."""
    if name not in FAMILIES:
        raise UserError(f"unknown model family '{name}'{nearest(name, FAMILIES)}")
    return FAMILIES[name]


def decoder_family(name: str) -> Family:
    """The same where only decoders are counted; UserError for a family of another kind."""
    traits = family(name)
    if not traits.is_decoder:
        decoders = ", ".join(decoder for decoder, other in FAMILIES.items() if other.is_decoder)
        raise UserError(
            f"the planner counts decoders ({decoders}); {name} is none, and its recipe says what it is: "
            f"`groundup train {name}` measures a step and plans by that"
        )
    return traits


class Shape(BaseModel):
    """Every number that fixes a model's parameters. Widths and lengths count elements and tokens.

    In a mixture of experts `feedforward_width` is that of the experts of one token together. `dropout` is the
    share of activations that training leaves out; `options` are what only this family has, and its module checks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    num_layers: int = Field(ge=1)
    width: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    num_kv_heads: int = Field(ge=1)
    head_width: int = Field(ge=2)
    feedforward_width: int = Field(ge=1)
    vocabulary_size: int = Field(ge=1)
    context: int = Field(ge=1)
    tied: bool = True
    rope_theta: float = Field(default=10_000.0, gt=0)
    norm_epsilon: float = Field(default=1e-6, gt=0)
    num_experts: int | None = Field(default=None, ge=1)
    experts_per_token: int | None = Field(default=None, ge=1)
    norm_topk_prob: bool = True
    router_aux_loss_coef: float = Field(default=0.001, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    options: dict[str, Any] = {}

    def __hash__(self) -> int:
        return hash((*(value for name, value in self if name != "options"), *sorted(self.options)))

    @property
    def expert_width(self) -> int | None:
        """The feed-forward width of one expert; None without experts."""
        return self.feedforward_width // self.experts_per_token if self.experts_per_token else None

    @property
    def total_feedforward_width(self) -> int:
        """The feed-forward width of all experts together, of which a token takes `feedforward_width`."""
        return (self.num_experts or 1) * (self.expert_width or self.feedforward_width)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        traits = family(self.family)
        self._has_consistent_experts(traits.experts)
        if traits.is_decoder:
            self._has_consistent_heads(traits)
        return self

    def _has_consistent_heads(self, traits: Family) -> None:
        if self.num_heads % self.num_kv_heads:
            raise UserError(
                f"model.num_heads={self.num_heads} is not a multiple of model.num_kv_heads={self.num_kv_heads}; "
                "grouped-query attention shares each key/value head among equally many query heads"
            )
        if traits.position == "rotary" and self.head_width % 2:
            raise UserError(
                f"model.head_width={self.head_width} is odd; rotary positions turn pairs of channels, "
                "so choose an even width"
            )
        if not traits.grouped_query and (
            self.num_kv_heads != self.num_heads or self.num_heads * self.head_width != self.width
        ):
            raise UserError(
                f"{self.family} needs num_kv_heads = num_heads and num_heads * head_width = width, but has "
                f"{self.num_kv_heads}, {self.num_heads}, {self.head_width} and {self.width}; "
                "leave model.num_kv_heads and model.head_width unset"
            )

    def _has_consistent_experts(self, wanted: bool) -> None:
        num_experts, per_token = self.num_experts, self.experts_per_token
        if not wanted and (num_experts, per_token) != (None, None):
            having = ", ".join(name for name, traits in FAMILIES.items() if traits.experts)
            raise UserError(
                f"{self.family} has no experts, but model.num_experts={num_experts} and model.experts_per_token="
                f"{per_token} are set; leave them unset, or choose model.family={having}"
            )
        if not wanted:
            return
        if num_experts is None or per_token is None:
            raise UserError(f"{self.family} needs model.num_experts and model.experts_per_token; give both")
        if per_token > num_experts:
            raise UserError(
                f"model.experts_per_token={per_token} is more than model.num_experts={num_experts}; "
                f"choose at most {num_experts}"
            )
        if self.feedforward_width % per_token:
            raise UserError(
                f"model.feedforward_width={self.feedforward_width} is not a multiple of "
                f"model.experts_per_token={per_token}, among which it is divided; change one of them"
            )
