"""Launch files: run with stand-ins for the engines, or read back as what the engines read."""

import os
import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from groundup.errors import UserError
from groundup.plan.cluster.devices import parse_hardware
from groundup.plan.cluster.launch import KINDS, emit, settings
from groundup.plan.cluster.layout import Layout
from groundup.recipe import parse_overrides

_LAYOUT = Layout(data=8, tensor=4, pipeline=2, zero=1, micro_batch=2, accumulation=16, recompute="full")
_CLUSTER = parse_hardware("h100x64")
# A program that prints its own name, its arguments and, for srun, runs them.
_STAND_INS = {
    "torchrun": 'printf "%s\\n" "$@"',
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    "scontrol": 'test "$1 $2" = "show hostnames" && printf "node-a\\nnode-b\\n"',
    "getent": "exit 0",
}


def _run(script: str, folder: Path, *arguments: str, **variables: str) -> list[str]:
    """What torchrun is called with when `script` runs in bash."""
    for name, body in _STAND_INS.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    sources = folder / "sources"  # a script may copy all that is where it starts
    sources.mkdir()
    (sources / "mine with spaces.toml").write_text("")
    done = subprocess.run(
        ["bash", "-c", script, "launch.sh", *arguments],
        cwd=sources,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    return done.stdout.splitlines()


def _check_command(called: list[str]) -> None:
    """All devices are used, by groundup, with the layout."""
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in called if re.match("--[a-z-]+=", flag))
    assert int(flags["nnodes"]) * int(flags["nproc-per-node"]) == 64
    assert int(flags["max-restarts"]) > 0
    program = called[called.index("--no-python") + 1 :]
    assert program[:3] == ["groundup", "train", "mine with spaces.toml"]
    overrides = parse_overrides([value for flag, value in pairwise(program) if flag == "--set"])
    assert overrides == {
        "parallel.data": 8,
        "parallel.tensor": 4,
        "parallel.context": 1,
        "parallel.pipeline": 2,
        "parallel.zero": 1,
        "parallel.sequence": True,
        "parallel.schedule": "1f1b",
        "train.micro_batch": 2,
        "train.recompute": "full",
        "train.batch_size": 256,
    }


def test_torchrun_is_called_on_each_host_with_the_one_where_all_meet(tmp_path: Path) -> None:
    called = _run(emit("torchrun", _LAYOUT, _CLUSTER, "mine with spaces.toml"), tmp_path, "host-7")
    _check_command(called)
    assert "--rdzv-endpoint=host-7:29500" in called
    assert "--rdzv-backend=c10d" in called


def test_torchrun_without_that_host_says_so(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        _run(emit("torchrun", _LAYOUT, _CLUSTER, "tiny"), tmp_path)
    assert "host where all meet" in error.value.stderr


def test_slurm_starts_torchrun_once_on_each_node(tmp_path: Path) -> None:
    script = emit("slurm", _LAYOUT, _CLUSTER, "mine with spaces.toml")
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", script, re.MULTILINE))
    assert (options["nodes"], options["ntasks-per-node"], options["gres"]) == ("8", "1", "gpu:8")
    # sbatch reads its options up to the first command.
    assert script.rindex("#SBATCH") < script.index("set -euo")
    called = _run(script, tmp_path, SLURM_JOB_NODELIST="node-[a-b]", SLURM_JOB_ID="42")
    _check_command(called)
    assert {"--rdzv-endpoint=node-a:29500", "--rdzv-id=42"} <= set(called)


def test_sky_is_a_task_of_so_many_nodes(tmp_path: Path) -> None:
    task = yaml.safe_load(emit("sky", _LAYOUT, _CLUSTER, "mine with spaces.toml"))
    assert task["num_nodes"] == 8
    assert task["resources"] == {"accelerators": "H100:8"}
    (volume,) = task["volumes"]
    script = task["run"].replace(volume, str(tmp_path / "volume"))
    called = _run(script, tmp_path, SKYPILOT_NODE_IPS="10.0.0.1\n10.0.0.2", SKYPILOT_NODE_RANK="1")
    _check_command(called)
    assert {"--master-addr=10.0.0.1", "--node-rank=1"} <= set(called)
    assert (tmp_path / "volume" / "work" / "mine with spaces.toml").is_file()
    subprocess.run(["bash", "-n", "-c", task["setup"]], check=True)


def test_kubernetes_is_an_indexed_job_whose_pods_find_each_other(tmp_path: Path) -> None:
    claim, service, job = yaml.safe_load_all(emit("k8s", _LAYOUT, _CLUSTER, "mine with spaces.toml"))
    name = job["metadata"]["name"]
    assert (service["kind"], service["spec"]["clusterIP"]) == ("Service", "None")
    assert service["spec"]["selector"] == {"job-name": name}
    assert (job["apiVersion"], job["kind"], job["spec"]["completionMode"]) == ("batch/v1", "Job", "Indexed")
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 8
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert container["command"] == ["bash", "-c"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    (shared,) = [volume["name"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    (place,) = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == shared]
    assert container["workingDir"] == place
    called = _run(container["args"][0], tmp_path, JOB_COMPLETION_INDEX="3")
    _check_command(called)
    # The first pod of an Indexed Job is called NAME-0, in the domain of the Service.
    assert {f"--master-addr={name}-0.{service['metadata']['name']}", "--node-rank=3"} <= set(called)


def test_kubernetes_takes_a_recipe_file_along(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('name = "mine"\n\n[train]\nlr = 1e-3\n')
    config, _, _, job = yaml.safe_load_all(emit("k8s", _LAYOUT, _CLUSTER, str(recipe)))
    assert config["data"]["recipe.toml"].strip() == recipe.read_text().strip()
    pod = job["spec"]["template"]["spec"]
    (folder,) = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "recipe"]
    assert {"name": "recipe", "configMap": {"name": config["metadata"]["name"]}} in pod["volumes"]
    assert f"groundup train {folder}/recipe.toml" in pod["containers"][0]["args"][0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hardware", ["h100x1", "a100x4", "mi300xx8", "h200x16"])
def test_every_kind_uses_all_devices(kind: str, hardware: str) -> None:
    cluster = parse_hardware(hardware)
    text = emit(kind, Layout(data=cluster.count), cluster, "tiny")
    nodes, per_node = (int(re.search(rf"--{name}=(\d+)", text)[1]) for name in ("nnodes", "nproc-per-node"))
    assert nodes * per_node == cluster.count
    if kind in {"torchrun", "slurm"}:
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    else:
        assert list(yaml.safe_load_all(text))


def test_copies_and_experts_are_told_where_there_are_any() -> None:
    hybrid = settings(Layout(data=4, replicate=2, zero=3, expert=2))
    assert {"parallel.replicate=2", "parallel.expert=2", "parallel.zero=3"} <= set(hybrid)
    assert not [one for one in settings(_LAYOUT) if "replicate" in one or "expert" in one]


def test_virtual_stages_are_told_where_there_are_any() -> None:
    interleaved = Layout(pipeline=2, accumulation=4, schedule="interleaved", virtual_stages=2)
    assert "parallel.virtual_stages=2" in settings(interleaved)
    assert not [one for one in settings(_LAYOUT) if "virtual" in one]
    assert all(shlex.quote(one) == one for one in settings(interleaved))


@pytest.mark.parametrize(
    ("kind", "hardware", "parts"),
    [
        ("slrum", "h100x8", ["'slrum'", "did you mean 'slurm'"]),
        ("slurm", "h100x12", ["12 devices", "8 or 16"]),
        ("k8s", "tpu-v5px8", ["TPU", "torchrun"]),
    ],
)
def test_what_cannot_be_emitted_is_one_line(kind: str, hardware: str, parts: list[str]) -> None:
    cluster = parse_hardware(hardware)
    with pytest.raises(UserError) as error:
        emit(kind, Layout(data=cluster.count), cluster, "tiny")
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)
