"""A policy and a critic, which says what reward is to be expected from where the policy stands."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from groundup.model.base import Model
from groundup.model.decoder import Decoder
from groundup.model.linear import Linear
from groundup.model.reward import without_words


class ActorCritic(Model):
    """Ids (B, T) -> the policy's features (B, T, D), of which its logits follow, and values (B, T).

    Both stand at the position of the last token that was read: position t has seen ids 0..t, its features give the
    probabilities of token t + 1, and its value is the expected reward from token t + 1 on. The target, its
    log-probability, the value before it and its advantage therefore have the same index.

    The value head's weights start at zero. It stands on the policy's own features, in one pass, or on those of
    `critic`, a decoder of the same vocabulary that is taken over: what would give it words is dropped.
    """

    def __init__(self, policy: Decoder, critic: Decoder | None = None):
        super().__init__(policy.shape)
        self.policy = policy
        self.critic = None if critic is None else without_words(critic)
        like = next(policy.parameters())
        width = (critic or policy).shape.width
        self.value_head = Linear(width, 1, device=like.device, dtype=like.dtype)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's features (B, T, D) and the values (B, T)."""
        features_BTD = self.policy.features(ids_BT)
        of_critic_BTD = features_BTD if self.critic is None else self.critic.features(ids_BT)
        values_BT = self.value_head(of_critic_BTD).squeeze(-1)
        return features_BTD, values_BT.to(torch.promote_types(values_BT.dtype, torch.float32))

    def features(self, ids_BT: Tensor, *, documents_BT: Tensor | None = None) -> Tensor:
        """The policy's (B, T, D)."""
        return self.policy.features(ids_BT, documents_BT=documents_BT)

    @property
    def unembedding_weight(self) -> Tensor:
        """The policy's matrix (V, D)."""
        return self.policy.unembedding_weight

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Those of policy and critic, for what is put around blocks."""
        return [*self.policy.blocks, *([] if self.critic is None else self.critic.blocks)]
