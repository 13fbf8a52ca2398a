"""The peers of `training.py`: each function is the inner loop of a framework's own training program.

Every loop is given the same batches and, where it lets itself be told, the same learning rates, weight decay and
clipping; it takes steps until the gate ends it. Imports stand in the functions: a process needs one framework.
"""

import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training_worker import Batches, Gate, Job, Windows

_MANY = 1_000_000
# Batches written out for llm.c, which begins again after them.
_LLMC_BATCHES = 1000
# Names of GPT-2's linear layers, which OpenAI's files and transformers store as (in, out).
_TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def nanogpt(job: Job, batches: Batches, gate: Gate) -> None:
    """train.py of nanoGPT on a CPU. `autocast` is not its own: for memory at equal precision."""
    model = nanogpt_model(job)
    optimizer = model.configure_optimizers(job.weight_decay, job.lr, (job.beta1, job.beta2), "cpu")
    gate.ready(*count(model, model.transformer.wte, model.transformer.wpe))
    compiled = torch.compile(model) if job.options.get("compile") else model
    context = torch.autocast("cpu", torch.bfloat16) if job.options.get("autocast") else nullcontext()
    for step in range(_MANY):
        _set_rate(optimizer, job.rate(step))
        inputs, targets = pair(batches.windows(step))
        with context:
            _, loss = compiled(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), job.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        gate.passed(loss.item())


def nanogpt_model(job: Job) -> Any:
    """nanoGPT's model with biases, as GPT-2 has them; the same seed gives every process the same weights."""
    sys.path.insert(0, job.sources["nanogpt"])
    from model import GPT, GPTConfig

    torch.manual_seed(job.seed)
    shape = {"n_layer": job.layers, "n_head": job.heads, "n_embd": job.width}
    return GPT(
        GPTConfig(**shape, block_size=job.context, vocab_size=job.vocabulary, dropout=0.0, bias=True)
    ).train()


def gpt2_tensors(job: Job) -> dict[str, Tensor]:
    """The weights of that model as Hugging Face names and stores them."""
    state = nanogpt_model(job).state_dict()
    return {name: tensor.t() if name.endswith(_TRANSPOSED) else tensor for name, tensor in state.items()}


def huggingface(job: Job, batches: Batches, gate: Gate) -> None:
    """transformers' Trainer, GPT-2 or Llama, by its own loop, loader and defaults."""
    import transformers

    model = _huggingface_model(job)
    dataset = _Rows(job, batches)

    class Trainer(transformers.Trainer):
        loss = 0.0

        def training_step(self, *arguments: Any, **named: Any) -> Tensor:
            loss = super().training_step(*arguments, **named)
            self.loss = loss.item()
            return loss

    class Callback(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            gate.passed(trainer.loss)

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=job.batch,
            max_steps=_MANY,
            learning_rate=job.lr,
            weight_decay=job.weight_decay,
            adam_beta1=job.beta1,
            adam_beta2=job.beta2,
            max_grad_norm=job.clip,
            bf16=job.options["bf16"],
            use_cpu=True,
            train_sampling_strategy="sequential",
            remove_unused_columns=False,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=dataset, callbacks=[Callback()])
        optimizer = trainer.create_optimizer()
        trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: job.rate(step) / job.lr)
        embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        gate.ready(*count(model, *embeddings))
        trainer.train()


def _huggingface_model(job: Job) -> Any:
    import transformers

    torch.manual_seed(job.seed)
    if job.options["family"] == "gpt2":
        config = transformers.GPT2Config(
            n_layer=job.layers, n_embd=job.width, n_head=job.heads, n_positions=job.context,
            vocab_size=job.vocabulary, embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
        )  # fmt: skip
        model = transformers.GPT2LMHeadModel(config)
        model.load_state_dict(gpt2_tensors(job))
        return model
    config = transformers.LlamaConfig(
        num_hidden_layers=job.layers, hidden_size=job.width, num_attention_heads=job.heads,
        intermediate_size=job.llama_feedforward, max_position_embeddings=job.context,
        vocab_size=job.vocabulary, tie_word_embeddings=True, use_cache=False,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


class _Rows(torch.utils.data.Dataset):
    """Row by row what the batches hold; `shift_labels` keeps the last token of a window as a target."""

    def __init__(self, job: Job, batches: Batches):
        self._batches, self._size = batches, job.batch
        self._step, self._windows = -1, np.empty(0)

    def __len__(self) -> int:
        return _MANY * self._size

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        step, row = divmod(index, self._size)
        if step != self._step:
            self._step, self._windows = step, self._batches.windows(step)
        window = torch.from_numpy(self._windows[row])
        return {"input_ids": window[:-1], "labels": window[:-1], "shift_labels": window[1:]}


def litgpt(job: Job, batches: Batches, gate: Gate) -> None:
    """`fit` of litgpt's pretrain.py with a model of Llama's shape."""
    sys.path.insert(0, job.sources["litgpt"])
    import lightning
    from litgpt.config import Config
    from litgpt.model import GPT
    from litgpt.pretrain import initialize_weights
    from litgpt.utils import chunked_cross_entropy, instantiate_torch_optimizer

    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision=job.options["precision"])
    fabric.seed_everything(job.seed)
    config = Config(
        name="peer", n_layer=job.layers, n_embd=job.width, n_head=job.heads, block_size=job.context,
        vocab_size=job.vocabulary, padded_vocab_size=job.vocabulary, rotary_percentage=1.0, bias=False,
        parallel_residual=False, norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP",
        intermediate_size=job.llama_feedforward,
    )  # fmt: skip
    with fabric.init_module(empty_init=True):
        model = GPT(config)
    initialize_weights(fabric, model, n_layer=job.layers, n_embd=job.width)
    model.transformer.wte.weight = model.lm_head.weight
    gate_facts = count(model, model.transformer.wte)
    model = fabric.setup(torch.compile(model) if job.options["compile"] else model)
    settings = {"lr": job.lr, "betas": (job.beta1, job.beta2), "weight_decay": job.weight_decay, "fused": False}
    optimizer = fabric.setup_optimizers(instantiate_torch_optimizer("AdamW", model.parameters(), **settings))
    gate.ready(*gate_facts)
    for step in range(_MANY):
        _set_rate(optimizer, job.rate(step))
        inputs, targets = pair(batches.windows(step))
        loss = chunked_cross_entropy(model(inputs), targets)
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=job.clip)
        optimizer.step()
        optimizer.zero_grad()
        gate.passed(loss.item())


def minimind(job: Job, batches: Batches, gate: Gate) -> None:
    """`train_epoch` of minimind's train_pretrain.py: on a CPU in float32; it predicts T - 1 tokens of T."""
    sys.path.insert(0, job.sources["minimind"])
    from model.model_minimind import MiniMindConfig, MiniMindForCausalLM

    torch.manual_seed(job.seed)
    config = MiniMindConfig(
        hidden_size=job.width, num_hidden_layers=job.layers, num_attention_heads=job.heads,
        num_key_value_heads=job.heads, intermediate_size=job.llama_feedforward, vocab_size=job.vocabulary,
        max_position_embeddings=job.context,
    )  # fmt: skip
    model = MiniMindForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=job.lr)
    gate.ready(*count(model, model.model.embed_tokens))
    compiled = torch.compile(model) if job.options["compile"] else model
    for step in range(_MANY):
        _set_rate(optimizer, job.rate(step))
        inputs, _ = pair(batches.windows(step))
        result = compiled(inputs, labels=inputs)
        loss = result.loss + result.aux_loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), job.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        gate.passed(loss.item())


def nanochat(job: Job, batches: Batches, gate: Gate) -> None:
    """base_train.py of nanochat: its model (ReLU^2, QK-norm, value embeddings) with its Muon and AdamW."""
    sys.path.insert(0, job.sources["nanochat"])
    from nanochat.gpt import GPT, GPTConfig

    torch.manual_seed(job.seed)
    config = GPTConfig(
        sequence_len=job.context, vocab_size=job.vocabulary, n_layer=job.layers, n_head=job.heads,
        n_kv_head=job.heads, n_embd=job.width, window_pattern="L",
    )  # fmt: skip
    with torch.device("meta"):
        model = GPT(config)
    model.to_empty(device="cpu")
    model.init_weights()
    optimizer = model.setup_optimizer()
    gate.ready(*count(model, model.transformer.wte, model.lm_head, model.value_embeds))
    compiled = torch.compile(model, dynamic=False) if job.options["compile"] else model
    for step in range(_MANY):
        inputs, targets = pair(batches.windows(step))
        loss = compiled(inputs, targets)
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * job.rate(step) / job.lr
        optimizer.step()
        model.zero_grad(set_to_none=True)
        gate.passed(loss.item())


def llmc(job: Job, batches: Batches, gate: Gate) -> None:
    """train_gpt2.c of llm.c, in the program that `--llmc` names (see training.py), from nanoGPT's weights."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, data = Path(folder) / "checkpoint.bin", Path(folder) / "windows.bin"
        parameters = _write_llmc_checkpoint(checkpoint, job)
        written = np.concatenate([batches.windows(step) for step in range(_LLMC_BATCHES)])
        written.astype(np.int32).tofile(data)
        numbers = (job.batch, job.context, job.beta1, job.beta2, job.weight_decay)
        command = [job.sources["llmc"], str(checkpoint), str(data), *map(str, numbers)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdin and program.stdout
            while "ready" not in (line := program.stdout.readline()):
                assert line, "llm.c ended before it was ready"
            gate.pid = program.pid
            gate.ready(parameters, parameters - job.width * (job.vocabulary + job.context))
            step = 0
            for wanted in gate.requests():
                rates = " ".join(f"{job.rate(step + ahead):.9g}" for ahead in range(wanted))
                print(wanted, rates, file=program.stdin, flush=True)
                seconds, *losses = map(float, program.stdout.readline().split()[1:])
                step += wanted
                gate.answer(seconds, losses)


def _write_llmc_checkpoint(path: Path, job: Job) -> int:
    """llm.c's checkpoint, version 3: 256 numbers, then float32 tensors, each of all layers; the parameters."""
    assert job.vocabulary % 128 == 0, "llm.c pads the vocabulary to 128; choose a multiple"
    state = {name.removeprefix("transformer."): value for name, value in nanogpt_model(job).state_dict().items()}
    in_layers = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    tensors = [state["wte.weight"], state["wpe.weight"]]
    for part in in_layers:
        for leaf in ("weight", "bias"):
            tensors.append(torch.stack([state[f"h.{layer}.{part}.{leaf}"] for layer in range(job.layers)]))
    tensors += [state["ln_f.weight"], state["ln_f.bias"]]
    header = np.zeros(256, np.int32)
    header[:8] = [20240326, 3, job.context, job.vocabulary, job.layers, job.heads, job.width, job.vocabulary]
    with path.open("wb") as file:
        header.tofile(file)
        for tensor in tensors:
            tensor.numpy().tofile(file)
    return sum(tensor.numel() for tensor in tensors)


def products(job: Job, _: Batches, gate: Gate) -> None:
    """Not a peer but the limit: a step is a product of matrices (m, k) and (k, n) in bfloat16."""
    rows, inner, columns = job.options["sizes"]
    left, right = torch.randn(rows, inner).bfloat16(), torch.randn(inner, columns).bfloat16()
    gate.ready(0, 0)
    while True:
        torch.mm(left, right)
        gate.passed(0.0)


def count(model: nn.Module, *embeddings: nn.Module) -> tuple[int, int]:
    """Parameters in all, and without those of the modules named; tied ones count once."""
    outer = {id(parameter) for module in embeddings for parameter in module.parameters()}
    sizes = {id(parameter): parameter.numel() for parameter in model.parameters()}
    return sum(sizes.values()), sum(size for key, size in sizes.items() if key not in outer)


def pair(windows: Windows) -> tuple[Tensor, Tensor]:
    """Inputs and targets, (B, T) each."""
    tokens = torch.from_numpy(windows)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def _set_rate(optimizer: Any, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
