"""The families that write text, and what the shape of one needs besides the numbers that all have."""

from groundup.shape import FAMILIES, family

DECODERS = sorted(name for name, traits in FAMILIES.items() if traits.is_decoder)


def experts(name: str) -> dict[str, int]:
    """Four experts, of which a token passes through two, where the family has any."""
    return {"num_experts": 4, "experts_per_token": 2} if family(name).experts else {}
