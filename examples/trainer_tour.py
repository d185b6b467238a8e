# %% [markdown]
# # From rows to predictions with the Trainer
#
# Cells of a notebook: train two tasks in stages, search for rates, heads and a schedule with Optuna, train the best
# settings with LoRA, save the model, load it again, and predict. The sentences are bundled. Install
# `hf-multitask[lora,tune]`.

# %% Rows: a topic per sentence, and the entities in it.
from dataclasses import replace

from peft import LoraConfig
from transformers import pipeline

from hf_multitask import (
    MultiTaskModel,
    MultiTaskTrainer,
    MultiTaskTrainingArguments,
    TaskConfig,
    load_tokenizer,
    prepare_datasets,
)
from hf_multitask.quickstart import QUICKSTART_CONFIG

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
FOLDER = QUICKSTART_CONFIG.parent / "data"
EPOCHS = 4

tokenizer = load_tokenizer(ENCODER)
data = prepare_datasets(
    {"train": str(FOLDER / "train.jsonl"), "validation": str(FOLDER / "validation.jsonl")},
    tokenizer,
    [
        TaskConfig("topic", "sequence_classification"),
        TaskConfig("entities", "token_classification", column="ner_tags"),
    ],
)

# %% Train the heads first, then everything.
arguments = MultiTaskTrainingArguments(
    "out/tour",
    num_train_epochs=EPOCHS,
    learning_rate=3e-4,
    head_learning_rate=2e-3,
    eval_strategy="epoch",
    save_strategy="no",
)
trainer = MultiTaskTrainer(
    MultiTaskModel.from_encoder(ENCODER, data.tasks),
    arguments,
    freeze_schedule="heads-then-all",
    train_dataset=data["train"],
    eval_dataset=data["validation"],
    processing_class=tokenizer,
)
print(trainer.plan())
trainer.train()
print(trainer.evaluate()["eval_joint_accuracy"])


# %% Search: each trial has a model, a schedule and rates of its own, and the same tokenized rows.
def model_init(trial):
    """Return a new model with the head of a trial."""
    topic, entities = data.tasks
    if trial is not None:
        entities = replace(entities, head=trial.suggest_categorical("head", ["linear", "lstm"]))
    return MultiTaskModel.from_encoder(ENCODER, [topic, entities])


def freeze_schedule(trial):
    """Return the schedule of a trial."""
    return "none" if trial is None else trial.suggest_categorical("freeze", ["none", "heads-then-all", "top:2"])


def hp_space(trial):
    """Return the training arguments of a trial."""
    return {"learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-3, log=True)}


search = MultiTaskTrainer(
    model_init=model_init,
    args=replace(arguments, output_dir="out/tour/search"),
    freeze_schedule=freeze_schedule,
    train_dataset=data["train"],
    eval_dataset=data["validation"],
    processing_class=tokenizer,
)
best = search.hyperparameter_search(
    hp_space, lambda metrics: metrics["eval_joint_accuracy"], n_trials=3, direction="maximize", backend="optuna"
)
print(best.objective, best.hyperparameters)

# %% Wrap the encoder with PEFT: adapters and heads train with the best rate and head, first the heads alone.
topic, entities = data.tasks
trainer = MultiTaskTrainer(
    MultiTaskModel.from_encoder(
        ENCODER, [topic, replace(entities, head=best.hyperparameters["head"])], peft_config=LoraConfig(r=8)
    ),
    replace(arguments, output_dir="out/tour/lora", learning_rate=best.hyperparameters["learning_rate"]),
    freeze_schedule="heads-then-all",
    train_dataset=data["train"],
    eval_dataset=data["validation"],
    processing_class=tokenizer,
)
print(trainer.layer_groups)
trainer.train()

# %% Save the adapters and heads, with the tokenizer and a model card.
trainer.save_model("out/tour/model")
trainer.create_model_card(data=data)

# %% Load it and predict.
predict = pipeline("multi-task", model="out/tour/model")
for prediction in predict(["Ada Lovelace wrote the first program in London.", "The match ended in a draw."]):
    print(prediction)
