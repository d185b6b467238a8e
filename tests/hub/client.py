"""Actions of users of the hub, run in a separate process: ``python -m tests.hub.client ACTION RESULT GIVEN``."""

import contextlib
import io
import json
import sys
import urllib.request
from pathlib import Path
from unittest import mock

import torch
from huggingface_hub import HfApi, constants
from peft import LoraConfig, PeftModel
from transformers import AutoModel, pipeline

from hf_multitask import (
    MultiTaskModel,
    MultiTaskTrainer,
    MultiTaskTrainingArguments,
    RunConfig,
    TaskConfig,
    load_tokenizer,
    prepare_datasets,
    run_training,
)
from hf_multitask.cli import main
from hf_multitask.models import load_model
from tests.tiny import ROWS, SENTENCES

# Requests that fail, and how: cut off, or answered with an error.
BREAKS = [
    {"preupload": "500"},
    {"upload": "drop"},
    {"upload": "500"},
    {"commit": "drop"},
    {"commit": "500"},
]
STAGE = {"epochs": 2, "restore_best": True}
TASKS = [("intent", "sequence_classification"), ("slots", "token_classification")]


def make_trainer(encoder, folder, **arguments):
    tokenizer = load_tokenizer(encoder)
    tasks = [TaskConfig(*task) for task in TASKS]
    data = prepare_datasets({"train": ROWS, "validation": ROWS[:10]}, tokenizer, tasks)
    torch.manual_seed(0)
    trainer = MultiTaskTrainer(
        model=MultiTaskModel.from_encoder(encoder, data.tasks),
        args=MultiTaskTrainingArguments(
            output_dir=folder,
            num_train_epochs=3,
            save_strategy="epoch",
            metric_for_best_model="loss",
            eval_strategy="epoch",
            report_to="none",
            disable_tqdm=True,
            **arguments,
        ),
        # Resuming needs the best weights of a stage, which are in a folder of the run.
        freeze_schedule={"stages": [{**STAGE, "name": "heads", "train": "heads"}, {"name": "all", "train": "all"}]},
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        processing_class=tokenizer,
    )
    return trainer, data


def error_of(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return None


def publish(encoder, folder, repo, private_repo, files):
    """Train and push; push a changed model while the hub fails and after it recovers; push to a private repository."""
    trainer, data = make_trainer(encoder, folder, hub_model_id=repo, hub_token="token-of-ann")
    trainer.train()
    first = trainer.push_to_hub(data=data, language="en").oid
    with torch.no_grad():
        trainer.model.heads["intent"].classifier.bias[0] += 100.0
    failures = [push_while(breaks, trainer, repo) for breaks in BREAKS]
    second = trainer.push_to_hub("Better").oid
    trainer.model.push_to_hub(private_repo, private=True, token="token-of-ann")
    trainer.processing_class.push_to_hub(private_repo, token="token-of-ann")
    run_training(run_config(encoder, f"{folder}-run", files))
    pipe = pipeline("multi-task", model=trainer.model, tokenizer=trainer.processing_class)
    return {"first": first, "failures": failures, "second": second, "predictions": pipe(SENTENCES)}


def run_config(encoder, folder, files):
    hub = {"push_to_hub": True, "hub_model_id": "ann/run", "hub_token": "token-of-ann", "hub_strategy": "end"}
    return RunConfig.from_dict(
        {
            "encoder": encoder,
            "tasks": [{"name": name, "type": type} for name, type in TASKS],
            "data": files,
            "training": {"num_train_epochs": 1, "disable_tqdm": True, **hub},
            "output_dir": folder,
        }
    )


def publish_adapters(base, folder, repo):
    """Push a model with adapters: by itself, and from a trainer; and try the same on an encoder in a folder."""
    tokenizer = load_tokenizer(base)
    tasks = [TaskConfig(*task) for task in TASKS]
    data = prepare_datasets({"train": ROWS}, tokenizer, tasks)
    errors = []
    for encoder in (folder, base):
        torch.manual_seed(0)
        model = MultiTaskModel.from_encoder(encoder, data.tasks, peft_config=LoraConfig(r=2))
        args = {"output_dir": f"{folder}-out", "hub_model_id": repo, "hub_token": "token-of-ann"}
        args = {**args, "report_to": "none", "learning_rate": 0.1, "num_train_epochs": 1, "disable_tqdm": True}
        given = {"train_dataset": data["train"], "processing_class": tokenizer}
        trainer = MultiTaskTrainer(model, MultiTaskTrainingArguments(**args), **given)
        if encoder == folder:
            pushing = MultiTaskTrainingArguments(**args, push_to_hub=True)
            errors += [error_of(trainer.push_to_hub), error_of(model.push_to_hub, repo, token="token-of-ann")]
            errors.append(error_of(MultiTaskTrainer, model, pushing, **given))
    trainer.train()
    trainer.push_to_hub()
    model.push_to_hub(f"{repo}-alone", token="token-of-ann")
    tokenizer.push_to_hub(f"{repo}-alone", token="token-of-ann")
    return {"predictions": pipeline("multi-task", model=model, tokenizer=tokenizer)(SENTENCES), "errors": errors}


def use_adapters(base, repo):
    """Load a model with adapters by its name: with this package, and only its adapter with PEFT."""
    model = MultiTaskModel.from_pretrained(repo)
    commit = model.config.base_encoder["revision"]
    plain = AutoModel.from_pretrained(base, revision=commit, add_pooling_layer=False)
    adapted = PeftModel.from_pretrained(plain, repo, subfolder="adapter-default").eval()
    ids = torch.tensor([load_tokenizer(repo)(SENTENCES[0])["input_ids"]])
    with torch.no_grad():
        states = [encoder(ids).last_hidden_state for encoder in (model.encoder, adapted)]
    return {
        "predictions": pipeline("multi-task", model=repo)(SENTENCES),
        "revision": commit,
        "difference": float((states[0] - states[1]).abs().max()),
        "adapter_revision": adapted.peft_config["default"].revision,
    }


def push_while(breaks, trainer, repo):
    """Push from the trainer and from the model while requests fail."""
    with mock.patch("time.sleep"):  # the client waits before it tries again
        _break(breaks)
        errors = [error_of(trainer.push_to_hub), error_of(trainer.model.push_to_hub, repo, token="token-of-ann")]
        _break({})
    return {"breaks": breaks, "errors": errors, "visible": HfApi().model_info(repo).sha}


def use(repo, private_repo, first, rows, output):
    """Load by name, as a user without and with a token."""
    # First, because downloaded files may be read from the cache later.
    errors = {
        "private": error_of(load_model, private_repo),
        "wrong token": error_of(load_model, private_repo, token="token-of-bob"),
        "private tokenizer": error_of(load_tokenizer, private_repo),
        "missing": error_of(load_model, "ann/nothing"),
        "revision": error_of(load_model, repo, revision="v9"),
        "pickle": error_of(load_model, "bob/pickled"),
    }
    pipe = pipeline("multi-task", model=repo)
    older = MultiTaskModel.from_pretrained(repo, revision=first)
    printed = io.StringIO()
    card = (Path(HfApi().hf_hub_download(repo, "README.md"))).read_text(encoding="utf-8")
    with contextlib.redirect_stdout(printed):
        exec(card.split("```python\n")[1].split("```")[0], {})
    with contextlib.redirect_stdout(io.StringIO()):
        status = main(["predict", repo, rows, "--output", output, "--revision", first])
    private_model, _ = load_model(private_repo, token="token-of-ann")
    return {
        "predictions": pipe(SENTENCES),
        "difference": (pipe.model.heads["intent"].classifier.bias - older.heads["intent"].classifier.bias).tolist(),
        "input_ids": load_tokenizer(repo)(SENTENCES[0])["input_ids"],
        "max_length": load_tokenizer(repo, revision=first).model_max_length,
        "printed": printed.getvalue(),
        "status": status,
        "private_bias": private_model.heads["intent"].classifier.bias.tolist(),
        "bias": pipe.model.heads["intent"].classifier.bias.tolist(),
        "errors": errors,
    }


def _break(breaks):
    request = urllib.request.Request(f"{constants.ENDPOINT}/breaks", json.dumps(breaks).encode())
    urllib.request.urlopen(request).read()


if __name__ == "__main__":
    action, result, given = sys.argv[1:]
    values = globals()[action](**json.loads(Path(given).read_text(encoding="utf-8")))
    Path(result).write_text(json.dumps(values), encoding="utf-8")
