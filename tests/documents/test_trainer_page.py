"""docs/TRAINER.md has each field, method and argument of the Trainer once, and what it says of them holds."""

import dataclasses
import inspect
import re

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_multitask import MultiTaskTrainer, MultiTaskTrainingArguments
from hf_multitask.freezing import MultiTaskFreezeCallback
from hf_multitask.training.argument_checks import NOT_SUPPORTED
from tests.documents.blocks import ROOT
from tests.trainers import make_trainer
from tests.training.test_every_argument import EFFECTS

PAGE = "docs/TRAINER.md"
FIELDS = {field.name for field in dataclasses.fields(TrainingArguments)}
# Fields of the first column that other tests set.
ELSEWHERE = {
    "output_dir": "every test that trains",
    "full_determinism": "tests/training/test_every_argument.py",
    "bf16_full_eval": "tests/training/test_every_argument.py",
    "fp16_full_eval": "tests/training/test_every_argument.py",
    "ignore_data_skip": "here",
    "restore_callback_states_from_checkpoint": "here",
    "enable_jit_checkpoint": "here",
    "resume_from_checkpoint": "here",
    "local_rank": "here",
    "use_cpu": "tests/training/test_every_argument.py, in each training",
    "torch_compile": "tests/freezing/test_compilation.py",
    "torch_compile_backend": "tests/freezing/test_compilation.py",
    "torch_compile_mode": "here",
    "push_to_hub": "tests/hub/test_hub.py",
    "hub_model_id": "tests/hub/test_hub.py",
}


def section(title):
    """Return the rows of the tables of a section, without their heads."""
    text = (ROOT / PAGE).read_text(encoding="utf-8").partition(f"\n{title}\n")[2]
    text = re.split(r"\n##+ ", text)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return rows[2:]


def names(cell):
    return re.findall(r"`([a-z_0-9]+)(?:=\w+)?`", cell)


def column(number):
    return [name for row in section("## Training arguments") for name in names(row[number])]


def never_run():
    return {name for row in section("## Training arguments") for name in re.findall(r"`(\w+)`†", row[1])}


def test_each_field_is_in_exactly_one_column():
    listed = [*column(1), *column(2), *column(3)]
    assert sorted(FIELDS - set(listed)) == [], "missing on the page"
    assert sorted(set(listed) - FIELDS) == [], "not a field of TrainingArguments"
    assert sorted({name for name in listed if listed.count(name) > 1}) == [], "more than once on the page"


def test_each_field_that_works_is_tried():
    tried = {name for arguments, _ in EFFECTS for name in arguments}
    assert sorted(set(column(1)) - tried - ELSEWHERE.keys() - never_run()) == []
    assert not never_run() & tried


def test_each_difference_is_explained_and_each_refusal_has_a_test():
    assert column(2) == [name for row in section("### What differs") for name in names(row[0])]
    refused = [name for row in section("### What is refused, and what to use instead") for name in names(row[0])]
    assert sorted(refused) == sorted(column(3)) == sorted([*NOT_SUPPORTED, "eval_do_concat_batches"])


def test_each_method_and_argument_is_listed_once():
    methods = [name for row in section("## Methods") for name in names(row[0])]
    assert sorted(methods) == [name for name in dir(Trainer) if not name.startswith("_")]
    arguments = [name for row in section("## Arguments of the trainer") for name in names(row[0])]
    assert sorted(arguments) == sorted(inspect.signature(Trainer).parameters)
    text = (ROOT / PAGE).read_text(encoding="utf-8").partition("`MultiTaskTrainer` adds ")[2].partition("\n")[0]
    added = {name for name in vars(MultiTaskTrainer) if not name.startswith("_") and not hasattr(Trainer, name)}
    assert set(names(text)) == added


def test_defaults_are_those_of_the_page(tmp_path):
    args = MultiTaskTrainingArguments(str(tmp_path))
    plain = TrainingArguments(str(tmp_path))
    changed = {
        name
        for name in FIELDS
        if getattr(args, name) != getattr(plain, name) and name not in ("accelerator_config", "logging_dir")
    }
    expected = {
        "train_sampling_strategy": "group_by_length",
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        "remove_unused_columns": False,
        "logging_nan_inf_filter": False,
    }
    assert {name: getattr(args, name) for name in changed - {"dataloader_pin_memory"}} == expected


def weights_after(trainer, **kwargs):
    trainer.train(**kwargs)
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])


def test_a_checkpoint_resumes_whatever_restores_it(model, data, tokenizer, tmp_path):
    def make(name="out", **arguments):
        given = {"max_steps": 8, "save_strategy": "steps", "save_steps": 3, "store_frozen": "never", **arguments}
        return make_trainer(model, data, tokenizer, tmp_path / name, "heads-then-all", **given)

    start = {name: weight.clone() for name, weight in model.state_dict().items()}
    torch.manual_seed(0)
    expected = weights_after(make())
    for arguments, is_equal in [
        (
            {"restore_callback_states_from_checkpoint": True, "resume_from_checkpoint": "ignored", "local_rank": -1},
            True,
        ),
        ({"ignore_data_skip": True}, False),
    ]:
        model.load_state_dict(start)
        again = weights_after(make(**arguments), resume_from_checkpoint=str(tmp_path / "out/checkpoint-3"))
        assert torch.equal(again, expected) == is_equal


class Requested(TrainerCallback):
    """Asks for the checkpoint of SIGTERM, without the signal."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 3:
            self.manager.is_checkpoint_requested = True


def test_a_checkpoint_of_sigterm_resumes(model, data, tokenizer, tmp_path):
    callback = Requested()
    arguments = {"max_steps": 8, "enable_jit_checkpoint": True, "store_frozen": "never"}
    given = {"callbacks": [callback]}
    trainer = make_trainer(model, data, tokenizer, tmp_path, "heads-then-all", given, **arguments)
    (jit,) = [known for known in trainer.callback_handler.callbacks if type(known).__name__ == "JITCheckpointCallback"]
    callback.manager = jit.jit_manager
    trainer.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    trainer = make_trainer(model, data, tokenizer, tmp_path, "heads-then-all", max_steps=8, store_frozen="never")
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 8


@pytest.mark.slow
def test_a_mode_of_torch_compile(model, data, tokenizer, tmp_path):
    given = {"torch_compile": True, "torch_compile_backend": "aot_eager", "torch_compile_mode": "default"}
    trainer = make_trainer(model, data, tokenizer, tmp_path, max_steps=2, **given)
    trainer.train()
    assert trainer.state.global_step == 2


def test_a_loss_and_metrics_of_the_user(model, data, tokenizer, tmp_path):
    calls = []

    def loss(outputs, labels, num_items_in_batch=None):
        calls.append(num_items_in_batch)
        assert labels.keys() == {"intent", "slots"}
        total = cross_entropy(outputs["logits"]["intent"], labels["intent"], reduction="sum")
        return total / num_items_in_batch["intent"]

    def preprocess(logits, labels):
        assert logits.keys() == labels.keys() == {"intent", "slots"}
        return logits

    given = {
        "compute_loss_func": loss,
        "preprocess_logits_for_metrics": preprocess,
        "compute_metrics": lambda prediction: {"rows": len(prediction.predictions["intent"]["ids"])},
    }
    before = model.heads["slots"].state_dict()
    before = {name: weight.clone() for name, weight in before.items()}
    trainer = make_trainer(model, data, tokenizer, tmp_path, None, given, max_steps=2, weight_decay=0.0)
    trainer.train()
    assert len(calls) == 2
    assert all(torch.equal(weight, before[name]) for name, weight in model.heads["slots"].state_dict().items())
    metrics = trainer.evaluate()
    assert metrics["eval_rows"] == len(data["validation"])
    assert metrics["eval_loss"] > 0


class Events(TrainerCallback):
    """Records the events, and whether a stage had begun."""

    def __init__(self):
        self.seen = set()
        self.stages = []

    def __getattribute__(self, name):
        if name.startswith("on_"):
            object.__getattribute__(self, "seen").add(name)
        return object.__getattribute__(self, name)

    def on_step_begin(self, args, state, control, **kwargs):
        self.stages.append(sum("freeze_stage" in entry for entry in state.log_history))


def test_callbacks_get_all_events_before_the_schedule(model, data, tokenizer, tmp_path):
    events = Events()
    schedule = {"stages": [{"train": "heads", "steps": 2}, {}]}
    arguments = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "gradient_accumulation_steps": 2}
    trainer = make_trainer(
        model, data, tokenizer, tmp_path, schedule, {"callbacks": [events]}, eval_strategy="epoch", **arguments
    )
    trainer.train()
    trainer.predict(data["test"])
    known = {name for name in dir(TrainerCallback) if name.startswith("on_")}
    assert known - events.seen == {"on_push_begin"}
    assert events.stages == [0, 1, 1, 2]
    assert isinstance(trainer.callback_handler.callbacks[-3], MultiTaskFreezeCallback)


def test_methods_of_the_trainer_write_and_count(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, max_steps=1)
    trainer.train()
    metrics = trainer.evaluate()
    trainer.save_metrics("eval", metrics)
    trainer.save_state()
    assert {"eval_results.json", "all_results.json", "trainer_state.json"} <= {p.name for p in tmp_path.iterdir()}
    assert trainer.num_examples(trainer.get_eval_dataloader()) == len(data["validation"])
    assert trainer.num_examples(trainer.get_test_dataloader(data["test"])) == len(data["test"])
    assert trainer.get_num_trainable_parameters() == model.num_parameters()
    assert {"embeddings", "head.slots"} <= {group["layer_group"] for group in trainer.optimizer.param_groups}
    assert len(trainer.get_learning_rates()) == len(trainer.optimizer.param_groups)
    assert trainer.get_total_train_batch_size(trainer.args) == 4
    callback = trainer.pop_callback(MultiTaskFreezeCallback) or trainer.pop_callback(
        trainer.callback_handler.callbacks[0]
    )
    trainer.add_callback(callback)
    trainer.remove_callback(callback)
    assert trainer.is_world_process_zero()
    assert trainer.is_local_process_zero()
