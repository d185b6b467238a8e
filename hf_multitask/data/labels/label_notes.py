"""Remarks on label names that are probably mistakes: values for missing labels, spellings, joined names."""

import unicodedata
from collections.abc import Mapping, Sequence

from ...models.tasks import MULTI_LABEL, TaskConfig

_MISSING = {"nan", "none", "null", "nil", "n/a", "#n/a", "na", "<na>", "nat", "?", "-", "missing", "-1", "-100"}
_SEPARATORS = ("|", ";", ",", "/", "+", "&")
MAX_SHOWN = 5


def label_notes(task: TaskConfig, counts: Mapping[str, int]) -> list[str]:
    """Return a remark for each kind of suspicious label name.

    Args:
        task: The task.
        counts: Number of times that each class or entity type occurs in train.

    Returns:
        Remarks, with the names, their counts, and the option that mends them.
    """
    notes = []
    if missing := [name for name in counts if name.casefold() in _MISSING]:
        notes.append(
            f"{_listed(missing, counts)} may mean that there is no label; if so, give `missing_labels: {missing}`"
        )
    notes += [f"{_listed(names, counts)} differ only in spelling" for names in _spellings(counts)]
    if not task.is_token_task:
        notes += _joined(task, counts)
    if task.is_token_task and not counts:
        notes.append("no word is in an entity: there is nothing to learn")
    if len(counts) == 1 and not task.is_token_task and task.problem_type != MULTI_LABEL:
        notes.append(f"{_listed(list(counts), counts)} is the only class: there is nothing to learn")
    return notes


def _spellings(names: Mapping[str, int]) -> list[list[str]]:
    """Return the groups of names that differ in case, white space, hyphens or the form of a number only."""
    groups: dict[object, list[str]] = {}
    for name in names:
        groups.setdefault(_spelling(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1][:MAX_SHOWN]


def _spelling(name: str) -> object:
    try:
        return float(name)
    except ValueError:
        folded = unicodedata.normalize("NFKC", name).casefold()
        return "".join(character for character in folded if not (character.isspace() or character in "_-")) or name


def _joined(task: TaskConfig, counts: Mapping[str, int]) -> list[str]:
    """Return a remark if names seem to be several names with a separator."""
    notes = []
    for separator in _SEPARATORS:
        parts = {name: [part.strip() for part in name.split(separator)] for name in counts if separator in name}
        uses = [part for names in parts.values() for part in set(names)]
        joined = [
            name
            for name, names in parts.items()
            if all(names) and any(part in counts or uses.count(part) > 1 for part in names)
        ]
        if joined:
            notes.append(
                f"{_listed(joined, counts)} seem to be several labels in one; if so, give "
                f"`label_separator: {separator!r}` and `problem_type: {MULTI_LABEL}` for {task.name!r}"
            )
    return notes


def _listed(names: Sequence[str], counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{name!r} ({counts[name]} times)" for name in names[:MAX_SHOWN])
    return shown + (f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else "")
