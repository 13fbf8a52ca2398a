"""What the shape of a family needs besides the numbers that all have."""

from groundup.shape import family


def experts(name: str) -> dict[str, int]:
    """Four experts, of which a token passes through two, where the family has any."""
    return {"num_experts": 4, "experts_per_token": 2} if family(name).experts else {}
