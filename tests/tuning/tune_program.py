"""Run a search in a process of its own: ``python -m tests.tuning.tune_program CONFIG FOLDER TRIALS``."""

import sys

import torch

from hf_multitask import RunConfig
from hf_multitask.tuning import run_tuning

SPACE = {"training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "tasks.slots.head": ["linear", "lstm"]}


def main(config: str, folder: str, trials: str) -> None:
    torch.set_num_threads(1)
    run_tuning(
        RunConfig.from_file(config),
        folder,
        int(trials),
        space=SPACE,
        seeds=1,
        on_trial=lambda trial, done, of: print(trial.number, flush=True),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
