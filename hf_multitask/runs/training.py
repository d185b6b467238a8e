"""Training runs: from a config to a model directory, or to the plan of its stages."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState
from transformers import TrainerCallback

from ..data import SPLITS
from ..freezing.plan import StagePlans
from ..reports.training_report import write_history
from ..runtime.console_log import RunLog
from ..runtime.folder_lock import only_writer
from ..runtime.quiet import one_bar
from .build import assemble_trainer, build_trainer, load_parts
from .calibration import calibrate_run
from .chosen_settings import completed_config, settings_of, write_config
from .config import RunConfig
from .evaluation import score_split
from .folds import build_final_trainer, check_final_schedule, train_folds
from .outcome import find_problems
from .output_dir import LOG_NAME, UNPUSHED_LOG_NAME, check_output_dir, remove_model, write_metrics
from .report import remove_report, report_run, training_record

logger = logging.getLogger(__name__)


def run_training(
    config: RunConfig, overwrite: bool = False, resume: bool = False, callbacks: Sequence[TrainerCallback] = ()
) -> dict[str, dict[str, float]]:
    """Train a model and write a complete model directory.

    All log messages are in ``train.log`` there, or with ``push_to_hub`` in ``_train.log``, which is not uploaded.

    Args:
        config: Config of the run.
        overwrite: Whether to replace a model that ``output_dir`` already contains.
        resume: Whether to resume from the last checkpoint in ``output_dir``.
        callbacks: More callbacks of the trainer.

    Returns:
        The metrics by split; ``metrics.json`` has their support too. With ``data.folds``, ``"folds"`` is the mean over
        the folds, and ``"folds_sd"`` the standard deviation.

    Raises:
        ValueError: If the config or the data is invalid. Nothing has been trained or written then.
        DivergenceError: If a loss or a weight is not finite. The checkpoints before it are kept.
        FileExistsError: If ``output_dir`` contains a model and neither ``overwrite`` nor ``resume`` is set, or another
            run is writing to it.
        FileNotFoundError: If ``resume`` finds no complete checkpoint.
    """
    log = RunLog()
    with only_writer(Path(config.output_dir)), log.listening(), one_bar():
        return _train(config, overwrite, resume, callbacks, log)


def _train(
    config: RunConfig, overwrite: bool, resume: bool, callbacks: Sequence[TrainerCallback], log: RunLog
) -> dict[str, dict[str, float]]:
    output_dir = Path(config.output_dir)
    checkpoint = check_output_dir(output_dir, overwrite, resume)
    parts = load_parts(config)
    settings = settings_of(config, parts.facts)
    # Before the trainer: a config builds training arguments to check them, which resets accelerate's state.
    completed = completed_config(config, settings)
    trainer, data = assemble_trainer(config, parts, callbacks), parts.data
    if data.folds is not None:
        check_final_schedule(trainer)
    if PartialState().is_main_process:
        if overwrite:
            remove_model(output_dir)
        remove_report(output_dir)
        log_name = UNPUSHED_LOG_NAME if trainer.args.push_to_hub else LOG_NAME
        log.write_to(output_dir / log_name, append=resume)
        logger.info("%s", settings)
        write_config(completed, settings)
    scores = None
    if data.folds is not None:
        del trainer, parts  # of the first fold, which have checked the config
        scores = train_folds(completed, data, resume, callbacks=callbacks)
        trainer, data = build_final_trainer(completed, data, scores, callbacks)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    calibrate_run(trainer, data, config.calibrate)
    trainer.save_model()
    results = {split: score_split(trainer, data, split) for split in SPLITS[1:] if data.get(split) is not None}
    metrics = {} if scores is None else scores.metrics()
    metrics |= {split: dict(result.metrics) for split, result in results.items()}
    problems = find_problems(data.tasks, trainer.state.log_history, trainer.state.global_step, results)
    record = training_record(config, trainer, data, results, problems, scores)
    if trainer.is_world_process_zero():
        support = {split: result.support(data.tasks) for split, result in results.items()}
        write_metrics(output_dir, metrics, support)
        write_history(output_dir, record)
    if trainer.args.push_to_hub:
        # save_model has pushed the model already; this pushes its scores.
        trainer.push_to_hub("Scores of the run", data=data, folds=scores)
    else:
        trainer.create_model_card(data=data, folds=scores)
    if trainer.is_world_process_zero():
        # After the push: the report shows texts of the data, which must not go to the hub.
        report_run(output_dir, trainer, record)
        log.repeat_warnings()
        for problem in problems:
            logger.warning("%s", problem)
    return metrics


def run_plan(config: RunConfig, output: str | Path | None = None) -> StagePlans:
    """Plan what each stage of a run will train, without training.

    Args:
        config: Config of the run.
        output: YAML or JSON file to write the stages to, which a config can name as its ``freeze``.

    Returns:
        The stages.

    Raises:
        ValueError: If the config or the data is invalid, or the schedule does not fit.
    """
    with tempfile.TemporaryDirectory() as unused:
        trainer, _ = build_trainer(replace(config, output_dir=unused))
        if output is not None:
            trainer.resolve_schedule().save(output)
        return trainer.plan()
