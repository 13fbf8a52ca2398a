"""Where a token stands, seen from another: T5's relative positions, which are added to the scores of attention."""

import math

import torch
from torch import Tensor, nn


class RelativeBias(nn.Module):
    """A learned number a head for each bucket of distances (Raffel et al. 2020, arXiv:1910.10683, section 2.1).

    Half of the buckets are for one distance each, the others for stretches that grow logarithmically up to
    `max_distance`, beyond which all are alike. Where a token looks both ways, each way has half of all buckets.
    """

    def __init__(self, num_buckets: int, max_distance: int, num_heads: int, *, both_ways: bool):
        super().__init__()
        self.max_distance, self.both_ways = max_distance, both_ways
        self.embedding = nn.Embedding(num_buckets, num_heads)

    def forward(self, num_queries: int, num_keys: int) -> Tensor:
        """(1, H, T, S), of the queries of the last T of S positions; of all S where T = S."""
        device = self.embedding.weight.device
        queries = torch.arange(num_keys - num_queries, num_keys, device=device)
        keys = torch.arange(num_keys, device=device)
        return self.embedding(self.bucket(keys - queries[:, None])).permute(2, 0, 1)[None]

    def bucket(self, offset: Tensor) -> Tensor:
        """The bucket of a key at this offset from its query, int64; what is ahead counts as 0 one way."""
        num_buckets = self.embedding.num_embeddings
        if self.both_ways:
            num_buckets //= 2
            return self._bucket_of(offset.abs(), num_buckets) + num_buckets * (offset > 0)
        return self._bucket_of((-offset).clamp(min=0), num_buckets)

    def _bucket_of(self, distance: Tensor, num_buckets: int) -> Tensor:
        num_exact = num_buckets // 2
        share = (distance.clamp(min=1).float() / num_exact).log() / math.log(self.max_distance / num_exact)
        rough = num_exact + (share * (num_buckets - num_exact)).long()
        return torch.where(distance < num_exact, distance, rough.clamp(max=num_buckets - 1))
