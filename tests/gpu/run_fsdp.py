"""Train a tiny model in stages with the Trainer's own FSDP2, and resume it; started by torchrun."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer, prepare_datasets
from tests.tiny import ROWS
from tests.trainers import make_trainer, without_dropout

TASKS = {"intent": "sequence_classification", "slots": "token_classification"}
STAGES = {
    "stages": [
        {"train": "heads", "steps": 2},
        {"train": ["encoder[-1:]", "heads"], "steps": 2},
        {"train": "all", "steps": 2},
        {"train": ["head.slots", "encoder.0"]},
    ]
}
STEPS = 8


def full(weight):
    weight = weight.detach()
    return (weight.full_tensor() if isinstance(weight, DTensor) else weight).cpu().clone()


class Recorder(TrainerCallback):
    """Records which weights each step moves, and how many are sharded."""

    def __init__(self):
        self.moved, self.sharded, self.is_fsdp2 = [], [], False

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.is_fsdp2 = any(isinstance(module, FSDPModule) for module in model.modules())
        self.before = {name: full(weight) for name, weight in model.named_parameters()}

    def on_step_end(self, args, state, control, model=None, **kwargs):
        now = {name: full(weight) for name, weight in model.named_parameters()}
        self.moved.append([name for name in now if not torch.equal(now[name], self.before[name])])
        self.sharded = [isinstance(weight, DTensor) for weight in model.parameters()]
        self.before = now


def train(encoder, folder, resume=None, **arguments):
    """Return the trainer and the record of its steps."""
    tokenizer = load_tokenizer(encoder)
    tasks = [TaskConfig(name, kind) for name, kind in TASKS.items()]
    data = prepare_datasets({"train": ROWS, "validation": ROWS[:10]}, tokenizer, tasks)
    torch.manual_seed(0)
    model = without_dropout(MultiTaskModel.from_encoder(encoder, data.tasks))
    recorder = Recorder()
    options = {
        "max_steps": STEPS,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "save_strategy": "steps",
        "save_steps": 4,
        "tf32": False,
        "train_sampling_strategy": "sequential",
        **arguments,
    }
    given = {"callbacks": [recorder]}
    trainer = make_trainer(model, data, tokenizer, folder, STAGES, given, **options)
    trainer.train(resume_from_checkpoint=resume)
    return trainer, recorder


def report(trainer, recorder):
    """Return what a test compares."""
    logs = trainer.state.log_history
    return {
        "world_size": trainer.args.world_size,
        "device": trainer.args.device.type,
        "distributed_type": trainer.accelerator.distributed_type.value,
        "is_fsdp2": recorder.is_fsdp2,
        "sharded": sum(recorder.sharded),
        "weights": len(recorder.sharded),
        "moved": recorder.moved,
        "losses": [entry["loss"] for entry in logs if "loss" in entry],
        "eval_losses": [entry["eval_loss"] for entry in logs if "eval_loss" in entry],
    }


def main():
    """Train, resume from the half, and save the model; the main process writes the reports."""
    given = json.loads(sys.argv[1])
    folder = Path(given["folder"])
    arguments = {"fsdp": True, "fsdp_config": {"transformer_layer_cls_to_wrap": ["BertLayer"]}}
    reports = {}
    for name, resume in (("whole", None), ("resumed", str(folder / "run" / "checkpoint-4"))):
        trainer, recorder = train(given["encoder"], folder / "run", resume, **arguments)
        reports[name] = report(trainer, recorder)
    trainer.save_model(str(folder / "saved"))
    if dist.get_rank() == 0:
        (folder / "fsdp.json").write_text(json.dumps(reports))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
