"""The losses of TRL's trainers, called with tensors: a trainer needs only what its method reads."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from groundup.model.decoder import Decoder


class _OneProcess:
    """What TRL asks of accelerate where there is one process."""

    device = torch.device("cpu")
    num_processes = 1

    def gather(self, values: Any) -> Any:
        return values

    gather_for_metrics = gather

    def reduce(self, values: Tensor, reduction: str) -> Tensor:
        return values


def _trainer(**attributes: Any) -> SimpleNamespace:
    common = {
        "model": SimpleNamespace(training=True),
        "accelerator": _OneProcess(),
        "aux_loss_enabled": False,
        "precompute_ref_logps": True,
        "_total_train_tokens": 0,
        "_tp_size": 1,
        "_metrics": {"train": defaultdict(list)},
    }
    return SimpleNamespace(**common | attributes)


def _answering(model: Decoder) -> Any:
    """A model as TRL calls it: log-probabilities of labels, by a plain log_softmax."""

    def answer(input_ids: Tensor, labels: Tensor, **_: Any) -> SimpleNamespace:
        all_BTV = model(input_ids[:, :-1]).log_softmax(-1)
        targets_BT = labels[:, 1:]
        found_BT = all_BTV.gather(-1, targets_BT.clamp(min=0)[..., None])[..., 0] * (targets_BT != -100)
        blank_BT = torch.zeros_like(found_BT)
        return SimpleNamespace(log_probs=found_BT, entropy=blank_BT, mean_logits=blank_BT, is_top1=blank_BT.bool())

    return answer


def dpo(model: Decoder, rows: npt.NDArray[np.int64], reference_B2: Tensor, loss: str, beta: float) -> Any:
    """The loss of rows (B, 2, 3, L), and TRL's figures of them."""
    from trl.trainer.dpo_trainer import DPOTrainer

    ids, counts, numbers = (
        torch.from_numpy(np.concatenate([rows[:, 0, plane], rows[:, 1, plane]])) for plane in range(3)
    )
    trainer = _trainer(
        beta=beta, loss_types=[loss], loss_weights=[1.0], ld_alpha=None, f_divergence_type="reverse_kl",
        use_weighting=False, label_smoothing=0.0,
    )  # fmt: skip
    inputs = {
        "input_ids": ids,
        "attention_mask": (numbers >= 0).long(),
        "completion_mask": (counts > 0).long(),
        "ref_chosen_logps": reference_B2[:, 0],
        "ref_rejected_logps": reference_B2[:, 1],
    }
    found = DPOTrainer._compute_loss(trainer, _answering(model), inputs, False)
    return found, {name: values[-1] for name, values in trainer._metrics["train"].items()}


def cpo(
    chosen_B: Tensor, rejected_B: Tensor, loss: str, beta: float, label_smoothing: float, gamma: float
) -> Tensor:
    """The losses (B,) of sequences' log-probabilities, as TRL's CPO trainer has them."""
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    trainer = _trainer(alpha=0.0, loss_type=loss, beta=beta, label_smoothing=label_smoothing, simpo_gamma=gamma)
    losses: Tensor = CPOTrainer.cpo_loss(trainer, chosen_B, rejected_B)[0]
    return losses


def kto(
    model: Decoder, rows: npt.NDArray[np.int64], reference_B2: Tensor, beta: float, weights: tuple[float, float]
) -> tuple[Tensor, dict[str, float]]:
    """The same of KTO rows; `weights` of desirable and undesirable answers."""
    from trl.trainer.kto_trainer import KTOTrainer

    ids, counts, numbers = (torch.from_numpy(rows[:, :, plane]) for plane in range(3))
    trainer = _trainer(
        beta=beta, loss_type="kto", calculate_KL=True, desirable_weight=weights[0], undesirable_weight=weights[1]
    )
    trainer._compute_kl_logps = lambda *given: KTOTrainer._compute_kl_logps(trainer, *given)
    inputs = {
        "label": counts[:, 0].amax(-1) == 1,
        "ref_logps": reference_B2[:, 0],
        "ref_KL_logps": reference_B2[:, 1],
    }
    for prefix, side in (("", 0), ("KL_", 1)):
        inputs[f"{prefix}input_ids"] = ids[:, side]
        inputs[f"{prefix}attention_mask"] = (numbers[:, side] >= 0).long()
        inputs[f"{prefix}completion_mask"] = (counts[:, side] > 0).long()
    found = KTOTrainer._compute_loss(trainer, _answering(model), inputs, False)
    return found, {name: values[-1] for name, values in trainer._metrics["train"].items()}


def reward(rewards_B2: Tensor) -> Tensor:
    """The loss of rewards of chosen and rejected answers."""
    from trl.trainer.reward_trainer import RewardTrainer

    logits_N1 = torch.cat([rewards_B2[:, 0], rewards_B2[:, 1]])[:, None]
    trainer = _trainer(args=SimpleNamespace(center_rewards_coefficient=None))
    loss: Tensor = RewardTrainer.compute_loss(
        trainer, lambda **_: SimpleNamespace(logits=logits_N1), {"attention_mask": torch.ones(2, 2)}
    )
    return loss


def grpo(
    log_probs_BT: Tensor,
    old_log_probs_BT: Tensor,
    reference_log_probs_BT: Tensor,
    advantages_B: Tensor,
    mask_BT: Tensor,
    *,
    loss: str,
    beta: float,
    low: float,
    high: float,
    most_tokens: int,
) -> tuple[Tensor, dict[str, float]]:
    """The loss of answers (B, T), and TRL's figures of them."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    trainer = _trainer(
        beta=beta, loss_type=loss, epsilon_low=low, epsilon_high=high, importance_sampling_level="token",
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False, _entropy_bonus_enabled=False,
        max_completion_length=most_tokens, current_gradient_accumulation_steps=1,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        _get_per_token_logps_and_entropies=lambda *_, **__: (log_probs_BT, torch.zeros_like(log_probs_BT), None),
    )  # fmt: skip
    inputs = {
        "prompt_ids": torch.ones(len(mask_BT), 1, dtype=torch.int64),
        "prompt_mask": torch.ones(len(mask_BT), 1, dtype=torch.int64),
        "completion_ids": torch.ones(mask_BT.shape, dtype=torch.int64),
        "completion_mask": mask_BT.long(),
        "advantages": advantages_B,
        "old_per_token_logps": old_log_probs_BT,
        "ref_per_token_logps": reference_log_probs_BT,
        "num_items_in_batch": mask_BT.sum(),
    }
    found = GRPOTrainer._compute_loss(trainer, None, inputs)
    return found, {name: values[-1] for name, values in trainer._metrics["train"].items()}
