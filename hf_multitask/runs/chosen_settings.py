"""Settings that a run's config leaves out: choosing them, and the config that contains them."""

import logging
from dataclasses import replace
from pathlib import Path

from ..data import DataConfig
from ..models.tasks import CHOSEN_FIELDS
from ..training.settings import RunFacts, Setting, Settings, choose_label_subwords, choose_settings
from .config import RunConfig
from .config_file import config_to_yaml

logger = logging.getLogger(__name__)

RUN_CONFIG_NAME = "run.yaml"


def settings_of(config: RunConfig, facts: RunFacts) -> Settings:
    """Choose the settings that a config leaves out.

    Args:
        config: The config.
        facts: Facts about its data and encoder.

    Returns:
        The settings with their reasons.
    """
    has_schedule, has_adapters = config.freeze != "none", config.lora is not None
    facts = replace(
        facts,
        evaluates_each_epoch=has_schedule,
        trains_adapters=has_adapters,
        freezes_layers=has_schedule or has_adapters or facts.freezes_layers,
    )
    settings = choose_settings(facts, effort=config.effort, given=[f"training.{name}" for name in config.training])
    subwords = _label_subwords(config, facts.rows)
    return settings if subwords is None else replace(settings, chosen=[*settings.chosen, subwords])


def with_label_subwords(config: RunConfig, rows: int | None) -> RunConfig:
    """Return a config with ``label_subwords`` of its datasets, which rows are tokenized with.

    Args:
        config: The config.
        rows: Number of training rows; None if they are streamed.
    """
    setting = _label_subwords(config, rows)
    if setting is None:
        return config
    configs = [replace(data, label_subwords=str(setting.value)) for data in config.data_configs]
    return replace(config, data=configs[0] if isinstance(config.data, DataConfig) else configs)


def completed_config(config: RunConfig, settings: Settings) -> RunConfig:
    """Return a config that gives each setting, so that it trains the same without choosing anything.

    Args:
        config: The config.
        settings: Settings that it leaves out, from `settings_of`.
    """
    chosen = {task.name: task for task in settings.tasks}
    tasks = [
        replace(task, **{name: getattr(chosen[task.name], name) for name in CHOSEN_FIELDS}) for task in config.tasks
    ]
    return replace(
        with_label_subwords(config, settings.facts.rows),
        tasks=tasks,
        training={**settings.training, **config.training},
    )


def write_config(config: RunConfig, settings: Settings) -> None:
    """Write the config of a run to ``run.yaml`` in its output directory, with the reasons of its settings as comments.

    Args:
        config: The config with all settings, from `completed_config`. A config whose rows are datasets in memory
            cannot be written; then there is no file.
        settings: The settings that were chosen.
    """
    folder = Path(config.output_dir)
    title = f"Config of this run. To repeat it: hf-multitask train {RUN_CONFIG_NAME} --output_dir FOLDER"
    reasons = [f"{setting.key}: {setting.reason}" for setting in settings.chosen]
    try:
        text = config_to_yaml(config, folder, title, reasons)
    except ValueError as error:
        logger.info("%s is not written: %s", RUN_CONFIG_NAME, error)
        (folder / RUN_CONFIG_NAME).unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_CONFIG_NAME).write_text(text, encoding="utf-8")


def _label_subwords(config: RunConfig, rows: int | None) -> Setting | None:
    """Return the chosen ``label_subwords``; None if it is given, or there is no token task."""
    if any(data.label_subwords is not None for data in config.data_configs):
        return None
    return choose_label_subwords(config.tasks, rows)
