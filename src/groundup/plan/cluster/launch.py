"""Launch files for a layout, on engines that exist: torchrun by hand, Slurm, SkyPilot and Kubernetes.

The first process of a run reads the text and writes the run's folder, which all hosts must see, and so the cache
of shards: both lie in the folder where the file is started, or on a volume. A run that was cut off goes on if the
same file is started again: its folder is named after the job, and `groundup train` continues what it finds there.

Formats: torchrun (docs.pytorch.org/docs/stable/elastic/run), sbatch and srun (slurm.schedmd.com), SkyPilot's
distributed jobs (docs.skypilot.co/en/stable/running-jobs/distributed-jobs) and Kubernetes' Indexed Job with a
headless Service (kubernetes.io/docs/tasks/job/job-with-pod-to-pod-communication).
"""

import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING

from groundup.errors import UserError, nearest
from groundup.plan.cluster.layout import Layout

if TYPE_CHECKING:
    from groundup.plan.cluster.devices import Cluster

_PORT = 29500
# How often torchrun starts the processes of a run again when one has died.
_MAX_RESTARTS = 3
# Fields of a layout that a recipe's [parallel] section has; the others are in its [train] section.
_TRAIN_FIELDS = {"micro_batch", "recompute"}
# Shards and tokenizers, which all hosts read.
_CACHE = 'export GROUNDUP_CACHE="${GROUNDUP_CACHE:-$PWD/.groundup-cache}"'
# SkyPilot's names, where they are not ours in capitals.
_SKY_ACCELERATORS = {
    "a100": "A100-80GB",
    "a100-40": "A100",
    "v100": "V100-32GB",
    "v100-16": "V100",
    "3090": "RTX3090",
    "4090": "RTX4090",
    "5090": "RTX5090",
    "h100-pcie": "H100",
}


def emit(kind: str, layout: Layout, cluster: "Cluster", recipe_path: str) -> str:
    """The launch file of a kind that `KINDS` knows.

    Args:
        kind: `torchrun`, `slurm`, `sky` or `k8s`.
        layout: goes into the command as `--set parallel.data=8` and so on.
        cluster: its devices must be whole nodes, or a part of one.
        recipe_path: a TOML file, or the name of a ready recipe.

    Raises UserError for an unknown kind, for TPUs, and for devices that are not whole nodes.
    """
    if kind not in KINDS:
        raise UserError(f"cannot emit '{kind}'{nearest(kind, KINDS)}")
    size = cluster.device.node_size
    if cluster.device.name.startswith("tpu"):
        raise UserError(f"{cluster.device.label} is not started by torchrun; launch files are for GPUs")
    if cluster.count > size and cluster.count % size:
        down = cluster.count // size * size
        raise UserError(
            f"{cluster.count} devices are not whole nodes of {size}, which a launch file needs; use {down} or "
            f"{down + size}"
        )
    return KINDS[kind](layout, cluster, recipe_path)


def settings(layout: Layout) -> list[str]:
    """The layout as fields of a recipe: `parallel.tensor=8`, and the batch that follows from it."""
    values = {field.name: getattr(layout, field.name) for field in fields(layout)}
    unused = {"accumulation"}
    if layout.schedule != "interleaved":
        unused.add("virtual_stages")
    unused |= {name for name in ("replicate", "expert") if values[name] == 1}
    named = [
        f"{'train' if name in _TRAIN_FIELDS else 'parallel'}.{name}={str(value).lower()}"
        for name, value in values.items()
        if name not in unused
    ]
    return [*named, f"train.batch_size={layout.batch}"]


def _command(layout: Layout, cluster: "Cluster", recipe: str, *rendezvous: str) -> str:
    """A torchrun command over several lines, for a shell; `rendezvous` goes in as it is written."""
    per_node = min(cluster.count, cluster.device.node_size)
    overrides = [f"--set {setting}" for setting in settings(layout)]
    lines = [
        f"torchrun --nnodes={cluster.nodes} --nproc-per-node={per_node} --max-restarts={_MAX_RESTARTS}",
        *rendezvous,
        f"--no-python groundup train {shlex.quote(recipe)}",
        *(" ".join(overrides[start : start + 4]) for start in range(0, len(overrides), 4)),
    ]
    return " \\\n  ".join(lines)


def _torchrun(layout: Layout, cluster: "Cluster", recipe: str) -> str:
    if cluster.nodes == 1:
        alone = _command(
            layout, cluster, recipe, "--rdzv-backend=c10d --rdzv-endpoint=localhost:0 --rdzv-id=groundup"
        )
        return f"#!/usr/bin/env bash\nset -euo pipefail\n\n{alone}\n"
    rendezvous = _command(
        layout,
        cluster,
        recipe,
        f'--rdzv-backend=c10d --rdzv-endpoint="$head:{_PORT}" --rdzv-id=groundup',
    )
    return f"""#!/usr/bin/env bash
# Run on each of the {cluster.nodes} hosts, in a folder that they share, with the name of the same one of them:
# bash launch.sh HOST
set -euo pipefail
head="${{1:?the name of the host where all meet}}"
{_CACHE}

{rendezvous}
"""


def _slurm(layout: Layout, cluster: "Cluster", recipe: str) -> str:
    per_node = min(cluster.count, cluster.device.node_size)
    command = _command(
        layout,
        cluster,
        recipe,
        f'--rdzv-backend=c10d --rdzv-endpoint="$head:{_PORT}" --rdzv-id="$SLURM_JOB_ID"',
    )
    return f"""#!/usr/bin/env bash
#SBATCH --job-name=groundup
#SBATCH --nodes={cluster.nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:{per_node}
#SBATCH --exclusive
#SBATCH --output=%x-%j.log
#SBATCH --requeue
#SBATCH --signal=TERM@120
# sbatch launch.sh, in a folder that all nodes share, with --partition, --account and --time as your cluster asks
# for them. Before the time is up the run is told to save; after `scontrol requeue` it goes on.
set -euo pipefail
{_CACHE}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun --kill-on-bad-exit=1 {command}
"""


def _sky(layout: Layout, cluster: "Cluster", recipe: str) -> str:
    per_node = min(cluster.count, cluster.device.node_size)
    name = cluster.device.name
    command = _command(
        layout,
        cluster,
        recipe,
        f'--node-rank="$SKYPILOT_NODE_RANK" --master-addr="$head" --master-port={_PORT} --rdzv-id=groundup',
    )
    script = f'head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)\n{_CACHE}\n{command}\n'
    shared = ""
    if cluster.nodes > 1:
        script = f"mkdir -p /shared/work && cp -rn . /shared/work && cd /shared/work\n{script}"
        shared = "volumes:\n  /shared: groundup # sky volumes apply --name groundup, see docs.skypilot.co\n"
    return f"""# sky launch launch.yaml
name: groundup
resources:
  accelerators: {_SKY_ACCELERATORS.get(name, name.upper())}:{per_node}
num_nodes: {cluster.nodes}
{shared}workdir: .
setup: |
  command -v groundup || pip install groundup
run: |
{indent(script, "  ")}"""


def _kubernetes(layout: Layout, cluster: "Cluster", recipe: str) -> str:
    per_node, file = min(cluster.count, cluster.device.node_size), Path(recipe)
    resource = "amd.com/gpu" if cluster.device.name.startswith("mi") else "nvidia.com/gpu"
    config = file.read_text("utf-8") if file.is_file() else None
    command = _command(
        layout,
        cluster,
        "/recipe/recipe.toml" if config is not None else recipe,
        f'--node-rank="$JOB_COMPLETION_INDEX" --master-addr=groundup-0.groundup --master-port={_PORT} '
        "--rdzv-id=groundup",
    )
    # The name is known once its pod has started.
    script = f"until getent hosts groundup-0.groundup; do sleep 1; done\n{_CACHE}\n{command}"
    mounts = "        - {name: recipe, mountPath: /recipe}\n" if config is not None else ""
    volumes = "      - {name: recipe, configMap: {name: groundup-recipe}}\n" if config is not None else ""
    return f"""# kubectl apply -f launch.yaml
{_recipe_map(config)}apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: groundup
spec:
  accessModes: [{"ReadWriteMany" if cluster.nodes > 1 else "ReadWriteOnce"}] # a storage class of yours that has it
  resources:
    requests:
      storage: 100Gi
---
apiVersion: v1
kind: Service
metadata:
  name: groundup
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    job-name: groundup
---
apiVersion: batch/v1
kind: Job
metadata:
  name: groundup
spec:
  completionMode: Indexed
  completions: {cluster.nodes}
  parallelism: {cluster.nodes}
  backoffLimit: 0
  template:
    spec:
      subdomain: groundup
      restartPolicy: Never
      containers:
      - name: train
        image: groundup:latest # an image of yours in which groundup is installed
        workingDir: /work
        command: ["bash", "-c"]
        args:
        - |
{indent(script, "          ")}
        resources:
          limits:
            {resource}: {per_node}
        volumeMounts:
        - {{name: shared-memory, mountPath: /dev/shm}}
        - {{name: work, mountPath: /work}}
{mounts}      volumes:
      - {{name: shared-memory, emptyDir: {{medium: Memory}}}}
      - {{name: work, persistentVolumeClaim: {{claimName: groundup}}}}
{volumes}"""


def _recipe_map(config: str | None) -> str:
    if config is None:
        return ""
    return f"""apiVersion: v1
kind: ConfigMap
metadata:
  name: groundup-recipe
data:
  recipe.toml: |
{indent(config, "    ")}
---
"""


KINDS: dict[str, Callable[[Layout, "Cluster", str], str]] = {
    "torchrun": _torchrun,
    "slurm": _slurm,
    "sky": _sky,
    "k8s": _kubernetes,
}
