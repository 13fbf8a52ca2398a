from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers

from groundup.data.images import read_images
from groundup.errors import UserError
from groundup.evaluate.rows import evaluate_rows
from groundup.model.base import Model
from groundup.model.registry import build_any
from groundup.objective import OBJECTIVES, Setting
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.step import TrainStep

OPTIONS = {"image_side": 12, "channels": 3, "classes": 5}


def shape_of(family: str, **changes: Any) -> Shape:
    numbers = {
        "num_layers": 2, "width": 32, "num_heads": 4, "num_kv_heads": 4, "head_width": 8, "feedforward_width": 48,
        "vocabulary_size": 1, "context": 432, "norm_epsilon": 1e-12, "options": OPTIONS,
    }  # fmt: skip
    return Shape(family=family, **numbers | changes)


@pytest.fixture
def pixels() -> torch.Tensor:
    """(2, 432): two images of three channels."""
    return torch.randint(0, 256, (2, 432), generator=torch.Generator().manual_seed(1))


def randomise(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)


# --- ViT against transformers ---

_NAMES = {
    "vit.embeddings.cls_token": "patches.class_token_D",
    "vit.embeddings.position_embeddings": "patches.positions_TD",
    "vit.embeddings.patch_embeddings.projection": "patches.embedding",
    "vit.layers": "blocks",
    "vit.layernorm": "norm",
    "classifier": "classes",
    "attention.q_proj": "attention.query",
    "attention.k_proj": "attention.key",
    "attention.v_proj": "attention.value",
    "attention.o_proj": "attention.output",
    "layernorm_before": "attention_norm",
    "layernorm_after": "feedforward_norm",
    "mlp.fc1": "feedforward.up",
    "mlp.fc2": "feedforward.down",
}


def ours_of(theirs: dict[str, torch.Tensor], like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of transformers' ViT under our names, in our shapes."""
    renamed = {reduce(lambda so_far, pair: so_far.replace(*pair), _NAMES.items(), name): name for name in theirs}
    return {name: theirs[their_name].reshape(like[name].shape) for name, their_name in renamed.items()}


@pytest.fixture
def pair() -> tuple[Model, transformers.ViTForImageClassification]:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=12,
        patch_size=4, num_channels=3, num_labels=5, attn_implementation="eager",
    )  # fmt: skip
    theirs = transformers.ViTForImageClassification(config).eval()
    randomise(theirs)
    ours = build_any(shape_of("vit", options=OPTIONS | {"patch": 4})).eval()
    ours.load_state_dict(ours_of(theirs.state_dict(), ours.state_dict()))
    return ours, theirs


def test_vit_is_that_of_transformers(pair: tuple[Any, Any], pixels: torch.Tensor) -> None:
    """Whose images are from -1 to 1: ViT's processor normalises by a mean and a deviation of 0.5."""
    ours, theirs = pair
    labels = torch.tensor([3, 1])
    processor = transformers.ViTImageProcessorPil(do_resize=False, do_rescale=True)
    images = pixels.unflatten(1, (3, 12, 12)).to(torch.uint8)
    prepared = processor(list(images), return_tensors="pt", input_data_format="channels_first")["pixel_values"]
    answer, logits = theirs(prepared, labels=labels), ours(pixels)
    assert answer.logits.std() > 0.1
    assert float((logits - answer.logits).detach().abs().max()) <= 1e-5
    F.cross_entropy(logits, labels).backward()
    answer.loss.backward()
    gradients = {name: value.grad for name, value in ours.named_parameters()}
    expected = ours_of({name: value.grad for name, value in theirs.named_parameters()}, gradients)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        if name.endswith("key.bias"):  # the softmax does not see it: what is there is rounding
            assert max(gradients[name].norm(), gradient.norm()) < 1e-6, name
            continue
        assert gradient.any(), name
        assert (gradients[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


# --- both ---


def test_cnn_is_convolutions_and_two_layers(pixels: torch.Tensor) -> None:
    model = build_any(shape_of("cnn", width=4, options=OPTIONS | {"kernel": 3}))
    state = model.state_dict()
    x = pixels.view(2, 3, 12, 12) / 127.5 - 1
    for block in (0, 1):
        x = F.conv2d(x, state[f"blocks.{block}.weight"], state[f"blocks.{block}.bias"], padding=1).clamp(min=0)
        x = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))
    assert x.shape == (2, 8, 3, 3)
    hidden = (x.flatten(1) @ state["hidden.weight"].T + state["hidden.bias"]).clamp(min=0)
    expected = hidden @ state["classes.weight"].T + state["classes.bias"]
    torch.testing.assert_close(model(pixels), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["cnn", "vit"])
def test_every_parameter_learns_and_the_seed_decides_them(family: str, pixels: torch.Tensor) -> None:
    options = OPTIONS | ({"patch": 3} if family == "vit" else {})
    model, again = (build_any(shape_of(family, options=options), seed=1) for _ in range(2))
    assert torch.equal(model(pixels), again(pixels))
    assert not torch.equal(model(pixels), build_any(shape_of(family, options=options), seed=2)(pixels))
    randomise(model)
    F.cross_entropy(model(pixels), torch.tensor([0, 4])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.any() or name.endswith("key.bias"), name


@pytest.mark.parametrize("family", ["cnn", "vit"])
def test_weights_may_be_short(family: str, pixels: torch.Tensor) -> None:
    """As with train.precision=bf16-weights, where nothing casts what a layer is given."""
    model = build_any(shape_of(family, options=OPTIONS | ({"patch": 3} if family == "vit" else {})))
    randomise(model)
    expected = model(pixels)
    logits = model.bfloat16()(pixels)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, rtol=0.05, atol=0.05 * float(expected.detach().std()))


@pytest.mark.parametrize(
    ("family", "changes", "told"),
    [
        ("cnn", {"num_layers": 4}, "num_layers=4 halves images of 12 pixels to nothing; choose at most 3"),
        ("vit", {"options": OPTIONS | {"patch": 5}}, "patch=5 does not divide .*image_side=12"),
        ("vit", {"options": OPTIONS | {"pach": 4}}, "vit has no model.options.pach; did you mean 'patch'"),
        ("cnn", {"options": {"image_side": 28}}, "have 432 pixels, .* ask for 784"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    family: str, changes: dict[str, Any], told: str, pixels: torch.Tensor
) -> None:
    with pytest.raises(UserError, match=told):
        build_any(shape_of(family, **changes))(pixels)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("family", "changes", "lr", "least"),
    [
        ("cnn", {"width": 8, "feedforward_width": 64, "options": {}}, 3e-3, 0.9),
        ("vit", {"width": 64, "feedforward_width": 128, "options": {"patch": 7}}, 3e-3, 0.5),
    ],
)
def test_it_learns_digits(
    family: str, changes: dict[str, Any], lr: float, least: float, shared_data: Path
) -> None:
    """Chance is 0.1; a linear classifier of pixels reaches about 0.9 (LeCun et al. 1998)."""
    rows = read_images([str(shared_data / "multimodal" / "mnist_t10k-images-idx3-ubyte.gz")], 1)
    train, held_out = rows.divided(0.1, 1)
    model, objective = build_any(shape_of(family, **changes), seed=1), OBJECTIVES["labels"](Setting())
    step = TrainStep(
        model, objective, TrainRecipe(batch_size=32, lr=lr, optimizer="adamw"), precision="fp32", device="cpu"
    )
    for number in range(150):
        step(train.windows(32 * number, 32), lr * (1 - number / 150), 32 * number)
    found = evaluate_rows(model, objective, held_out.in_order, device="cpu", precision="fp32")
    assert found.accuracy is not None
    assert found.accuracy > least
