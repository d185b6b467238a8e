"""Train a config as the command does, and let one process die in some step of its first start.

torchrun starts it with the path of the config, and with ``--resume`` if the training is to be resumed at each start.
"""

import os
import signal
import sys

from transformers import TrainerCallback

from hf_multitask import RunConfig, run_training

DYING_RANK = 1


class DieOnce(TrainerCallback):
    """Kills the process as a crash does, at the first start only."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        is_first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if is_first and args.process_index == DYING_RANK and state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    path, step, *options = sys.argv[1:]
    run_training(RunConfig.from_file(path), resume="--resume" in options, callbacks=[DieOnce(int(step))])
