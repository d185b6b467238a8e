"""A whole run: from a config to a model directory, and a model directory's scores on data."""

import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import set_seed
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME

from ..data import SPLITS, DataConfig, PreparedData, prepare_datasets
from ..data.config import data_configs
from ..data.preparation import check_task_names
from ..freezing.plan import StagePlan
from ..freezing.schedule import SCHEDULE_NAME
from ..freezing.snapshots import SNAPSHOTS_DIR, checkpoints
from ..freezing.stage_results import STAGES_NAME
from ..models import MultiTaskConfig, MultiTaskModel, TaskConfig, find_model, load_model, load_tokenizer
from ..models.encoder_attention import check_attention
from ..models.encoder_loading import load_config
from ..models.tasks import REGRESSION
from ..models.tasks_editing import continued_tasks, set_tasks
from ..models.type_aliases import Row
from ..reports.training_report import SplitResult, write_history
from ..runtime.atomic_files import write_json
from ..training.arguments import MultiTaskTrainingArguments
from ..training.metrics import task_metric_names
from ..training.trainer import MultiTaskTrainer
from .config import RunConfig
from .report import remove_report, report_run, training_record

logger = logging.getLogger(__name__)

METRICS_NAME = "metrics.json"
# trainer_state.json is written last: a checkpoint that has it is whole.
CHECKPOINT_FILES = (SAFE_WEIGHTS_NAME, "optimizer.pt", "scheduler.pt", "trainer_state.json")


def run_training(
    config: RunConfig, overwrite: bool = False, resume: bool = False, callbacks: Sequence[TrainerCallback] = ()
) -> dict[str, dict[str, float]]:
    """Train a model as a config says, and write a complete model directory.

    Args:
        config: The config.
        overwrite: Replace a model that ``output_dir`` already holds.
        resume: Go on from the last checkpoint in ``output_dir``.
        callbacks: What else hears the trainer's events.

    Returns:
        The metrics by split, as ``metrics.json`` holds them.

    Raises:
        ValueError: If something in config or data is wrong; nothing has been trained or written then.
        FileExistsError: If ``output_dir`` holds a model and neither ``overwrite`` nor ``resume`` is given.
        FileNotFoundError: If ``resume`` finds no whole checkpoint.
    """
    output_dir = Path(config.output_dir)
    checkpoint = _check_output_dir(output_dir, overwrite, resume)
    trainer, data = build_trainer(config, callbacks=callbacks)
    if PartialState().is_main_process:
        if overwrite:
            _remove_model(output_dir)
        remove_report(output_dir)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model()
    results = {split: _score(trainer, data, split) for split in SPLITS[1:] if data.get(split) is not None}
    metrics = {split: dict(result.metrics) for split, result in results.items()}
    record = training_record(config.encoder, trainer, data, results)
    if trainer.is_world_process_zero():
        write_json(output_dir / METRICS_NAME, metrics)
        write_history(output_dir, record)
    if trainer.args.push_to_hub:
        # Saving has pushed the model; now its scores follow.
        trainer.push_to_hub("Scores of the run", data=data)
    else:
        trainer.create_model_card(data=data)
    if trainer.is_world_process_zero():
        # Behind the push: the report shows texts of the data, which are not for the hub.
        report_run(trainer, record)
    return metrics


def run_plan(config: RunConfig, output: str | Path | None = None) -> list[StagePlan]:
    """Work out what each stage of a run will train, without training.

    Args:
        config: The config.
        output: YAML or JSON file to write the stages to, which a config can name as its ``freeze``.

    Returns:
        The stages.

    Raises:
        ValueError: If something in config or data is wrong, or the schedule does not fit.
    """
    with tempfile.TemporaryDirectory() as unused:
        trainer, _ = build_trainer(replace(config, output_dir=unused))
        if output is not None:
            trainer.resolve_schedule().save(output)
        return trainer.plan()


def run_evaluation(
    model_dir: str | Path,
    data: str | Path | Sequence[Row],
    batch_size: int = 64,
    revision: str | None = None,
    **options: Any,
) -> dict[str, float]:
    """Score a saved model on labelled rows.

    Args:
        model_dir: Folder or hub name of the model.
        data: File or rows.
        batch_size: Rows a pass and device.
        revision: Branch, tag or commit of a model on the hub.
        options: Further fields of `DataConfig`, such as ``columns`` or ``tasks``, those that the rows have labels of.

    Returns:
        The metrics.

    Raises:
        ValueError: If something in the data is wrong, or the model cannot be loaded.
    """
    return evaluate_model(*load_model(model_dir, revision=revision), data, batch_size, **options)


def evaluate_model(
    model: MultiTaskModel,
    tokenizer: PreTrainedTokenizerBase,
    data: str | Path | Sequence[Row],
    batch_size: int = 64,
    **options: Any,
) -> dict[str, float]:
    """Score a model on labelled rows.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        data: File or rows.
        batch_size: Rows a pass and device.
        options: See `run_evaluation`.

    Returns:
        The metrics.

    Raises:
        ValueError: If something in the data is wrong.
    """
    subword = next((task.label_subword for task in model.config.tasks if task.is_token_task), "first")
    as_trained = {"overlap": model.config.overlap, "truncate": model.config.truncate, "label_subwords": subword}
    options = {**as_trained, **options}
    prepared = prepare_datasets(data_configs({"test": data}, options), tokenizer, model.config.tasks)
    with tempfile.TemporaryDirectory() as unused:
        arguments = MultiTaskTrainingArguments(
            output_dir=unused, per_device_eval_batch_size=batch_size, report_to="none"
        )
        trainer = MultiTaskTrainer(model=model, args=arguments, processing_class=tokenizer)
        return dict(_score(trainer, prepared, "test").metrics)


def find_last_checkpoint(output_dir: Path) -> Path | None:
    """Return the last checkpoint that was written whole, None where there is none."""
    whole = {
        step: path
        for step, path in checkpoints(output_dir).items()
        if all((path / name).is_file() for name in CHECKPOINT_FILES) and _holds_json(path / "trainer_state.json")
    }
    return whole[max(whole)] if whole else None


def build_trainer(
    config: RunConfig, data: PreparedData | None = None, callbacks: Sequence[TrainerCallback] = ()
) -> tuple[MultiTaskTrainer, PreparedData]:
    """Prepare the data and build model and trainer, as a config says.

    Args:
        config: The config.
        data: Its data where they are prepared already, or rows and tasks chosen from them.
        callbacks: What else hears the trainer's events.

    Returns:
        The trainer and the data.

    Raises:
        ValueError: If something in config or data is wrong.
    """
    arguments = config.training_arguments()
    # Before the data, which takes its time.
    started_from = load_config(find_model(config.encoder))
    encoder_config, tasks, has_head = started_from, config.tasks, set()
    if isinstance(started_from, MultiTaskConfig):
        encoder_config, tasks = started_from.encoder_config, _continued_tasks(config, started_from)
        has_head = {task.name for task in started_from.tasks}
    if data is None:
        check_task_names(config.data_sets, tasks, has_head)
    if config.attn_implementation is not None:
        check_attention(encoder_config, config.attn_implementation)
    tokenizer = load_tokenizer(config.encoder)
    if data is None:
        data = prepare_datasets(config.data_sets, tokenizer, tasks)
    set_seed(arguments.seed)
    model = _build_model(config, started_from, data.tasks)
    _note_length(config.data_sets[0], model, tokenizer)
    if data.get("validation") is not None and "metric_for_best_model" not in config.training:
        arguments.metric_for_best_model, arguments.greater_is_better = _best_metric(data)
    trainer = MultiTaskTrainer(
        model=model,
        args=arguments,
        freeze_schedule=config.freeze,
        sampling=config.sampling,
        train_dataset=data["train"],
        eval_dataset=data.get("validation"),
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    return trainer, data


def _continued_tasks(config: RunConfig, started_from: MultiTaskConfig) -> list[TaskConfig]:
    """Return the tasks of a run that starts from a multi-task model."""
    if config.pooling not in (None, started_from.pooling):
        raise ValueError(
            f"pooling is {config.pooling!r}, but {config.encoder} is a multi-task model whose heads were trained with "
            f"{started_from.pooling!r}. Leave it out."
        )
    names = [task.name for task in config.tasks]
    if left_out := [task.name for task in started_from.tasks if task.name not in names]:
        logger.warning("%s: its tasks %s are not in `tasks` and left out.", config.encoder, ", ".join(left_out))
    return continued_tasks(config.tasks, started_from.tasks)


def _build_model(config: RunConfig, started_from: PreTrainedConfig, tasks: Sequence[TaskConfig]) -> MultiTaskModel:
    """Put heads on the encoder; where it is that of a multi-task model, keep the heads that it has."""
    attention = config.attn_implementation
    if not isinstance(started_from, MultiTaskConfig):
        return MultiTaskModel.from_encoder(config.encoder, tasks, config.pooling, attention)
    model = MultiTaskModel.from_pretrained(
        find_model(config.encoder), dtype=torch.float32, attn_implementation=attention
    )
    set_tasks(model, tasks)
    return model


def _holds_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _check_output_dir(output_dir: Path, overwrite: bool, resume: bool) -> Path | None:
    """Return the checkpoint to go on from; refuse to write over a model unasked."""
    if overwrite and resume:
        raise ValueError("overwrite and resume exclude each other.")
    if output_dir.exists() and not output_dir.is_dir():
        raise FileExistsError(f"output_dir {str(output_dir)!r} is a file.")
    checkpoint = find_last_checkpoint(output_dir)
    if resume:
        if checkpoint is None:
            raise FileNotFoundError(f"--resume: {str(output_dir)!r} holds no whole checkpoint; run without it.")
        return checkpoint
    state = PartialState()
    # Each process looks before the first of them can write.
    holds_model = any((output_dir / name).exists() for name in (CONFIG_NAME, SAFE_WEIGHTS_NAME)) or checkpoint
    state.wait_for_everyone()
    if holds_model and not overwrite:
        raise FileExistsError(
            f"output_dir {str(output_dir)!r} already holds a model. Use --overwrite to replace it, --resume to go on "
            "from its last checkpoint, or another output_dir."
        )
    return None


def _remove_model(output_dir: Path) -> None:
    """Remove what an earlier run left and this one would only replace at its end; other files stay."""
    for name in (CONFIG_NAME, SAFE_WEIGHTS_NAME, METRICS_NAME, SCHEDULE_NAME, STAGES_NAME):
        (output_dir / name).unlink(missing_ok=True)
    shutil.rmtree(output_dir / SNAPSHOTS_DIR, ignore_errors=True)
    for path in checkpoints(output_dir).values():
        shutil.rmtree(path)


def _note_length(config: DataConfig, model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Note with model and tokenizer how long texts are cut, as predictions are to do it too."""
    if config.max_length is not None:
        tokenizer.model_max_length = config.max_length
    model.config.overlap, model.config.truncate = config.overlap, config.truncate


def _best_metric(data: PreparedData) -> tuple[str, bool]:
    """Return the metric that chooses the best checkpoint, and whether more of it is better."""
    if all(task.problem_type == REGRESSION for task in data.tasks):
        return "loss", False
    return ("joint_accuracy" if data.reports["validation"].fully_labelled_rows else "mean_score"), True


def _score(trainer: MultiTaskTrainer, data: PreparedData, split: str) -> SplitResult:
    """Predict a split; its metrics are without the prefix and the timings that the trainer adds."""
    # What `evaluate` does, which keeps no predictions.
    output = trainer.predict(data[split], metric_key_prefix=split)
    trainer.log(output.metrics)
    kept = task_metric_names(data.tasks)
    metrics = {name: value for name in kept if (value := output.metrics.get(f"{split}_{name}")) is not None}
    return SplitResult(metrics, output, data.texts[split])
