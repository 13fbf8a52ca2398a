"""How well the planner predicts: memory and layout on real clusters, laws of the loss, and this machine.

    python benchmarks/planner.py memory  --runs ULTRASCALE.csv
    python benchmarks/planner.py layout  --runs ULTRASCALE.csv
    python benchmarks/planner.py laws    --gadre CSV --repeated JSON [--chinchilla CSV]
    python benchmarks/planner.py machine
    python benchmarks/planner.py runs    --text TRAIN.txt --held-out HELD.txt --work FOLDER
    python benchmarks/planner.py weights

Each prints tables in Markdown; the figures are kept in RESULTS.md. See the module of each for what it does.
"""

import argparse

import planner_laws
import planner_layout
import planner_machine
import planner_memory
import planner_runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    subparsers = parser.add_subparsers(required=True)
    for part in (planner_memory, planner_layout, planner_laws, planner_machine, planner_runs):
        part.add(subparsers)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
