"""Train the tiny model with a freeze schedule, die at a given place, and resume from the last checkpoint.

``python -m tests.freezing.resume_program SPEC.json``; the tests also call `run` in their own process.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import torch
from transformers import TrainerCallback

from hf_multitask import (
    MultiTaskModel,
    MultiTaskTrainer,
    TaskConfig,
    load_tokenizer,
    prepare_datasets,
)
from hf_multitask.freezing import snapshots
from hf_multitask.runs.output_dir import find_last_checkpoint
from hf_multitask.runtime.training_history import TrainingHistory
from tests import trainers
from tests.tiny import ROWS

# Events of a callback that comes before the schedule's, and of one that comes after it.
EARLY = ("step_begin", "substep_end", "pre_optimizer_step", "optimizer_step", "step_end", "evaluate", "save")
LATE = ("stage_entered", "evaluation_seen", "schedule_saved")
_LATE_EVENTS = dict(zip(LATE, ("step_begin", "evaluate", "save"), strict=True))
# Methods of the trainer before or after which the run dies.
INSIDE = {
    "weights_written": ("before", "_save_optimizer_and_scheduler"),
    "optimizer_written": ("after", "_save_optimizer_and_scheduler"),
    "rng_written": ("after", "_save_rng_state"),
}
PLACES = (*EARLY, *LATE, *INSIDE, "state_opened", "snapshot_half_written", "restored")

# Endings of names in the history: times, and numbers that depend on them.
TIMES = ("runtime", "per_second", "preparation_time")

ARGUMENTS = {
    "num_train_epochs": 2,
    "learning_rate": 1e-3,
    "warmup_steps": 0.1,
    "save_strategy": "steps",
    "save_steps": 2,
    "logging_steps": 5,
    "use_cpu": True,
}


class Killed(BaseException):
    """Stands for SIGKILL in a process that survives."""


def kill_process():
    os.kill(os.getpid(), signal.SIGKILL)


def raise_killed():
    raise Killed


def prepare(encoder, stream=None):
    """Return the tokenizer and the data of a run, which reads the training rows as a stream from a file if given."""
    tokenizer = load_tokenizer(encoder)
    tasks = [TaskConfig("intent", "sequence_classification"), TaskConfig("slots", "token_classification")]
    rows = {"train": ROWS if stream is None else str(stream), "validation": ROWS[:10]}
    return tokenizer, prepare_datasets(rows, tokenizer, tasks, streaming=stream is not None)


def few_metrics(output):
    """Return the loss and accuracy of each task, which is faster than all metrics."""
    metrics = {}
    for name, gold in output.label_ids.items():
        found = output.predictions[name]
        metrics[f"{name}_accuracy"] = float((found["ids"] == gold)[gold != -100].mean())
        metrics[f"{name}_loss"] = float(found["loss"].sum() / found["count"].sum())
    return metrics


def make_trainer(spec, prepared, seed=0):
    """Build model and trainer as a new process does; ``seed`` is the seed of the initial weights."""
    tokenizer, data = prepared
    torch.manual_seed(seed)
    model = MultiTaskModel.from_encoder(spec["encoder"], data.tasks)
    given = {"compute_metrics": None if spec.get("all_metrics") else few_metrics}
    arguments = {**ARGUMENTS, **spec.get("arguments", {})}
    return trainers.make_trainer(model, data, tokenizer, spec["output_dir"], spec["schedule"], given, **arguments)


class DieAt(TrainerCallback):
    """Ends the run at an event of a step."""

    def __init__(self, event, step, die):
        def end(args, state, control, **kwargs):
            if state.global_step == step:
                die()

        setattr(self, f"on_{event}", end)


def arm(trainer, place, step, die):
    """Let a trainer die at a place of a step."""
    if place in EARLY:
        trainer.callback_handler.callbacks.insert(1, DieAt(place, step, die))
    elif place in LATE:
        trainer.add_callback(DieAt(_LATE_EVENTS[place], step, die))
    elif place in INSIDE:
        when, name = INSIDE[place]
        method = getattr(trainer, name)

        def dying(*args, **kwargs):
            if when == "before" and trainer.state.global_step == step:
                die()
            method(*args, **kwargs)
            if trainer.state.global_step == step:
                die()

        setattr(trainer, name, dying)
    elif place == "state_opened":
        # Only trainer_state.json is written after the RNG state. It is opened and still empty.
        method = trainer._save_rng_state

        def opening(folder):
            method(folder)
            if trainer.state.global_step == step:
                Path(folder, "trainer_state.json").touch()
                die()

        trainer._save_rng_state = opening
    elif place == "snapshot_half_written":
        write = snapshots.save_file

        def half(tensors, path, metadata):
            if trainer.state.global_step == step:
                Path(path).write_bytes(b"half")
                snapshots.save_file = write
                die()
            write(tensors, path, metadata)

        snapshots.save_file = half
    elif place == "restored":
        make_run = trainer.freeze_callback.make_run

        def make_dying_run(*args):
            run = make_run(*args)
            restore = run._restore_weights

            def restoring(best_step):
                restore(best_step)
                if trainer.state.global_step == step:
                    die()

            run._restore_weights = restoring
            return run

        trainer.freeze_callback.make_run = make_dying_run
    else:
        raise ValueError(f"unknown place {place!r}")


def run(spec, prepared, kill=None, die=raise_killed, change=None):
    """Train from the last checkpoint or from the start, to the end or until the run dies."""
    checkpoint = find_last_checkpoint(Path(spec["output_dir"]))
    # Anything that is not in the checkpoint must not be right by chance.
    trainer = make_trainer(spec, prepared, seed=99 if checkpoint else 0)
    if kill is not None:
        arm(trainer, *kill, die)
    if change is not None:
        change(trainer, checkpoint)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return outcome(trainer)


def outcome(trainer):
    """Return what two runs are compared by: final weights and states, log of the stages, evaluations and steps.

    The history as a whole is compared for our trainer, which keeps the sums since the last log in a checkpoint.
    """
    history = [without_times(entry) for entry in trainer.state.log_history]
    return {
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": trainer.lr_scheduler.state_dict(),
        "history": history if isinstance(trainer, MultiTaskTrainer) else [],
        "weights": {name: value.clone() for name, value in trainer.model.state_dict().items()},
        "transitions": [entry for entry in history if "freeze_stage" in entry],
        "evaluations": [entry for entry in history if any(name.startswith("eval_") for name in entry)],
        "train_losses": [evaluation.train_loss for evaluation in TrainingHistory(history).evaluations()],
        "steps": trainer.state.global_step,
    }


def without_times(entry):
    """Return an entry of the history without what differs from run to run."""
    return {name: value for name, value in entry.items() if not name.endswith(TIMES)}


def run_and_report(spec, prepared, kill, rank=0):
    """Run in this process, which dies or writes its outcome."""
    result = run(spec, prepared, kill, kill_process)
    torch.save(result, Path(spec["output_dir"], f"outcome-{rank}.pt"))


def in_new_process(*args):
    """Run in a forked process, which has only the imports, and return its exit code."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run_and_report(*args)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(path):
    """Run the spec of a file; with ``kills``, once for each of them and then to the end."""
    spec = json.loads(Path(path).read_text())
    rank = int(os.environ.get("RANK", 0))
    if "kills" in spec:
        prepared = prepare(spec["encoder"])
        for kill in spec["kills"]:
            assert in_new_process(spec, prepared, kill) == -signal.SIGKILL
        assert in_new_process(spec, prepared, None) == 0
    else:
        kill = spec.get("kill")
        run_and_report(spec, prepare(spec["encoder"]), kill[rank] if kill else None, rank)


if __name__ == "__main__":
    main(sys.argv[1])
