"""ELMo (Peters et al. 2018, arXiv:1802.05365; github.com/allenai/bilm-tf). Objective: bidirectional."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from groundup.errors import UserError
from groundup.model.base import TextModel
from groundup.model.block import dropout
from groundup.model.characters import CharacterCNN, spell
from groundup.model.linear import Linear
from groundup.model.options import Options, read_options
from groundup.model.recurrent import ProjectedLSTM, reversed_rows
from groundup.model.registry import register
from groundup.shape import Shape


class ELMoOptions(Options):
    """The paper's sizes: 50 characters, filters up to (5, 256), (6, 512), (7, 1024), and the rest as here."""

    max_characters: int = Field(default=16, ge=3, description="of a token, with those that begin and end it")
    character_width: int = Field(default=16, ge=1)
    filters: tuple[tuple[int, int], ...] = Field(
        default=((1, 32), (2, 32), (3, 64), (4, 128)), min_length=1, description="(span, how many)"
    )
    num_highways: int = Field(default=2, ge=0)
    clip: float = Field(default=3.0, gt=0, description="the bound of cells and outputs")


class ScalarMix(nn.Module):
    """gamma * sum over layers of softmax(w) h: how a task weighs the layers; at first evenly, with gamma 1."""

    def __init__(self, num_layers: int):
        super().__init__()
        self.weights = nn.Parameter(torch.empty(num_layers))
        self.gamma = nn.Parameter(torch.empty(()))

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Layers of one shape -> their mixture, of that shape."""
        shares = self.weights.softmax(0)
        return self.gamma * sum(share * layer for share, layer in zip(shares, layers, strict=True))

    def initial_values(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Equal weights."""
        del generator  # nothing is drawn
        return {"weights": torch.zeros(self.weights.shape), "gamma": torch.ones(())}


@register("elmo")
class ELMo(TextModel):
    """Two language models, one from each end, over tokens as they are spelt.

    They share the tokens' vectors and the way back to words. Each has `shape.num_layers` LSTMs of
    `shape.feedforward_width` cells, projected to `shape.width`; from the second on a layer's input is added to its
    output. `read_spelling` must be called once, before training. The paper samples the softmax; here it is whole.
    """

    spelling_VC: Tensor

    def __init__(self, shape: Shape):
        super().__init__(shape)
        options, width = read_options(shape, ELMoOptions), shape.width
        self.register_buffer("spelling_VC", torch.empty(shape.vocabulary_size, options.max_characters).long())
        if any(not 1 <= span <= options.max_characters or count < 1 for span, count in options.filters):
            raise UserError(
                f"model.options.filters={list(options.filters)}: each is a span of 1 to {options.max_characters} "
                "characters (model.options.max_characters) and a count of at least 1"
            )
        self.characters = CharacterCNN(options.filters, options.character_width, options.num_highways, width)
        self.ahead, self.back = (
            nn.ModuleList(
                ProjectedLSTM(width, shape.feedforward_width, width, options.clip) for _ in range(shape.num_layers)
            )
            for _ in range(2)
        )
        self.unembedding = Linear(width, shape.vocabulary_size)
        self.mix = ScalarMix(shape.num_layers + 1)
        self.dropout = dropout(shape)

    @property
    def feature_width(self) -> int:
        """Both directions."""
        return 2 * self.shape.width

    def fill(self) -> None:
        """Until the spelling is read every token has none."""
        self.read_spelling([b""] * self.shape.vocabulary_size)

    def read_spelling(self, token_bytes: Sequence[bytes]) -> None:
        """The bytes of the ids 0, 1, ...; of special tokens none."""
        self.spelling_VC.copy_(spell(token_bytes, self.spelling_VC.shape[1]))

    def forward(self, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) of the token after each position, from it and those before, and of the token before it.

        The latter are given by the position itself and those behind it.
        """
        ahead_BTD, back_BTD = self.layers(ids_BT)[-1].chunk(2, -1)
        return self.unembedding(self.dropout(ahead_BTD)), self.unembedding(self.dropout(back_BTD))

    def text_features(self, ids_BT: Tensor, keep_BT: Tensor | None = None) -> Tensor:
        """The layers as `mix` weighs them, (B, T, 2 D)."""
        return self.mix(self.layers(ids_BT, keep_BT))

    def layers(self, ids_BT: Tensor, keep_BT: Tensor | None = None) -> list[Tensor]:
        """The tokens' own vectors, twice, then what each layer makes of them from either side: all (B, T, 2 D)."""
        x_BTD = self.tokens(ids_BT)
        ahead = self._one_way(x_BTD, self.ahead)
        back = self._one_way(reversed_rows(x_BTD, keep_BT), self.back)
        both = [
            torch.cat([left, reversed_rows(right, keep_BT)], -1) for left, right in zip(ahead, back, strict=True)
        ]
        return [torch.cat([x_BTD, x_BTD], -1), *both]

    def tokens(self, ids_BT: Tensor) -> Tensor:
        """Tokens from their spelling, (B, T, D); each that occurs is computed once."""
        distinct_N, places_BT = ids_BT.unique(return_inverse=True)
        return F.embedding(places_BT, self.characters(self.spelling_VC[distinct_N]))

    def _one_way(self, x_BTD: Tensor, lstms: nn.ModuleList) -> list[Tensor]:
        layers: list[Tensor] = []
        for number, lstm in enumerate(lstms):
            read_BTD, _ = lstm(self.dropout(x_BTD))
            x_BTD = x_BTD + read_BTD if number else read_BTD
            layers.append(x_BTD)
        return layers
