"""Config of a run as a YAML file."""

import os
import textwrap
from collections.abc import Iterable
from pathlib import Path

from ..data import SPLITS, DataConfig
from ..models.type_aliases import JsonObject
from ..runtime.dataclass_yaml import changed_fields, to_yaml
from .config import RunConfig
from .distillation import DistillConfig

LINE_LENGTH = 115


def config_to_yaml(config: RunConfig, folder: str | Path, title: str, comments: Iterable[str]) -> str:
    """Return a config as YAML.

    Args:
        config: The config.
        folder: Folder of the file. Paths in it are relative to this folder.
        title: First line, a comment.
        comments: Further comments, each an item of a list.

    Raises:
        ValueError: If the data is not given as files, names or lists of rows, which a file can contain.
    """
    lines = [
        line
        for comment in comments
        for line in textwrap.wrap(comment, LINE_LENGTH, initial_indent="# - ", subsequent_indent="#   ")
    ]
    return "\n".join([f"# {title}", *lines, to_yaml(_config_values(config, Path(folder)))])


def _config_values(config: RunConfig, folder: Path) -> JsonObject:
    """Return the values of a config that differ from their defaults, with paths relative to a folder."""
    data = [_data_values(item, folder) for item in config.data_configs]
    encoder = config.encoder
    if Path(encoder).expanduser().is_dir():
        encoder = _relative(encoder, folder)
    # The schedule is in the file even if it is the default, and the folder comes last.
    changed = {"freeze": config.freeze, **changed_fields(config)}
    first = {
        "encoder": encoder,
        "tasks": changed["tasks"],
        "data": data[0] if isinstance(config.data, DataConfig) else data,
        "freeze": changed["freeze"],
    }
    if config.distill is not None:
        changed["distill"] = _distill_values(config.distill, folder)
    others = {key: value for key, value in changed.items() if key not in first and key != "output_dir"}
    return {**first, **others, "output_dir": config.output_dir}


def _data_values(data: DataConfig, folder: Path) -> JsonObject:
    values = changed_fields(data)
    for split in SPLITS:
        source = values.get(split)
        if isinstance(source, (str, Path)) and data.name is None:
            values[split] = _relative(source, folder)
        elif source is not None and not isinstance(source, (str, list, tuple)):
            raise ValueError(
                f"data.{split}: expected a file, the name of a split or a list of rows, as a config file can contain, "
                f"found {type(source).__name__}."
            )
    if data.out_of_scope is not None and data.name is None:
        outside = data.out_of_scope_sources()
        for split, source in outside.items():
            if isinstance(source, (str, Path)):
                outside[split] = _relative(source, folder)
        values["out_of_scope"] = outside
    return values


def _distill_values(distill: DistillConfig, folder: Path) -> JsonObject:
    values = changed_fields(distill)
    teachers = [_relative(name, folder) if Path(name).is_dir() else name for name in distill.teachers]
    values["teacher"] = teachers[0] if isinstance(distill.teacher, str) else teachers
    if isinstance(distill.data, (str, Path)):
        values["data"] = _relative(distill.data, folder)
    elif distill.data is not None and not isinstance(distill.data, (list, tuple)):
        raise ValueError(f"distill.data: expected a file or a list of rows, found {type(distill.data).__name__}.")
    return values


def _relative(path: str | Path, folder: Path) -> str:
    return os.path.relpath(Path(path).expanduser().resolve(), folder.resolve())
