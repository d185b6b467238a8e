"""Conversion of a teacher's scores from its labels to those of a student."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..models.messages import MAX_NAMES_SHOWN
from ..models.tags_iob2 import OUTSIDE
from ..models.tags_schemes import RAW
from ..models.tasks import REGRESSION, TaskConfig
from ..models.text_alignment import MIN_LOG_PROBABILITY

# Prefixes of a tag at the start of an entity and after it, by scheme, if the tag alone says which it is.
_STARTS = {"IOB2": ("B-",), "BILOU": ("B-", "U-"), "BIOES": ("B-", "S-")}
_INSIDES = {"IOB2": ("I-",), "BILOU": ("I-", "L-"), "BIOES": ("I-", "E-")}


@dataclass(frozen=True)
class LabelMap:
    """Conversion of scores.

    Args:
        description: Text that is equal for equal conversions.
        convert: Function from scores (..., teacher's labels) to scores (..., student's labels).
    """

    description: str
    convert: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        """Convert scores."""
        return self.convert(scores)


def map_labels(teacher: str, task: TaskConfig, labels: Sequence[str] | None) -> LabelMap:
    """Map labels by name.

    Args:
        teacher: Name of the teacher, for messages.
        task: Task of the student.
        labels: Labels of the teacher in the order of their ids; for a token task IOB2 tags. None for a regression
            without names.

    Returns:
        The conversion.

    Raises:
        ValueError: If the labels are not those of the task. The message names the difference.
    """
    if task.problem_type == REGRESSION and (task.labels is None or labels is None or set(labels) != set(task.labels)):
        if len(labels or [""]) != task.num_labels:
            raise ValueError(
                f"teacher {teacher!r}: task {task.name!r}: expected {task.num_labels} numbers, found "
                f"{len(labels or [''])}."
            )
        return LabelMap("as they are", lambda scores: scores)
    own, names = list(labels or []), task.labels or []
    _check_labels(teacher, task, names, own)
    order = [own.index(name) for name in names]
    return LabelMap(f"order {order}", lambda scores: scores[..., order].clamp(min=MIN_LOG_PROBABILITY))


def map_stock_tags(teacher: str, task: TaskConfig, labels: Sequence[str]) -> LabelMap:
    """Map the tags of a stock model, in any scheme, to the IOB2 tags of a task.

    Tags of IOB1 and raw types do not say whether an entity starts: with probability p of the type at the word before,
    a word of the type continues an entity with p. Tags that the teacher does not have get practically no probability.

    Args:
        teacher: Name of the teacher, for messages.
        task: Token task of the student.
        labels: Labels of the teacher in the order of their ids.

    Returns:
        The conversion.

    Raises:
        ValueError: If the entity types are not those of the task. The message names the difference.
    """
    scheme = _scheme_of(labels)
    types = {label: label if scheme == RAW else label[2:] for label in labels if label != OUTSIDE}
    own_types = sorted({name[2:] for name in task.labels or [] if name != OUTSIDE})
    _check_labels(teacher, task, [OUTSIDE, *own_types], [*dict.fromkeys([*types.values()]), *_outside(labels)])
    ids = {label: i for i, label in enumerate(task.labels or [])}
    starts, insides, unsure = (torch.zeros(len(labels), len(ids)) for _ in range(3))
    for i, label in enumerate(labels):
        if label == OUTSIDE:
            starts[i, ids[OUTSIDE]] = 1
        elif scheme == RAW or (scheme == "IOB1" and label.startswith("I-")):
            unsure[i, ids[f"B-{types[label]}"]] = 1
        elif label.startswith(_STARTS.get(scheme, ("B-",))):
            starts[i, ids[f"B-{types[label]}"]] = 1
        else:
            insides[i, ids[f"I-{types[label]}"]] = 1
    begin = [ids[f"B-{kind}"] for kind in own_types]
    inside = [ids[f"I-{kind}"] for kind in own_types]

    def convert(scores: torch.Tensor) -> torch.Tensor:
        probabilities = scores.exp()
        known = probabilities @ (starts + insides).to(scores)
        open_ended = (probabilities @ unsure.to(scores))[..., begin]
        of_type = known[..., begin] + known[..., inside] + open_ended
        before = _word_before(of_type)
        known[..., begin] += open_ended * (1 - before)
        known[..., inside] += open_ended * before
        return known.log().clamp(min=MIN_LOG_PROBABILITY)

    return LabelMap(f"{scheme} tags {list(labels)} as {task.labels}", convert)


def _word_before(values: torch.Tensor) -> torch.Tensor:
    """Return the values of the word before each word (batch, num_words, ...), zeros for the first word."""
    return torch.cat([torch.zeros_like(values[:, :1]), values[:, :-1]], dim=1)


def _scheme_of(labels: Sequence[str]) -> str:
    """Return the scheme of a set of tags. Prefixes of IOB1 and IOB2 together are IOB2, the more common one."""
    tags = [label for label in labels if label != OUTSIDE]
    prefixes = {label[:2] for label in tags}
    if not tags or not all(len(label) > 2 and label[1] == "-" for label in tags):
        return RAW
    for scheme, allowed in (("IOB1", {"I-"}), ("IOB2", {"B-", "I-"}), ("BILOU", set("BILU")), ("BIOES", set("BIES"))):
        if prefixes <= {f"{letter[0]}-" for letter in allowed}:
            return scheme
    return RAW


def _outside(labels: Sequence[str]) -> list[str]:
    return [OUTSIDE] if OUTSIDE in labels else []


def _check_labels(teacher: str, task: TaskConfig, expected: Sequence[str], found: Sequence[str]) -> None:
    """Raise if two sets of labels differ."""
    differences = []
    for what, names in (
        ("does not have", [name for name in expected if name not in found]),
        ("has besides", [name for name in found if name not in expected]),
    ):
        if names:
            more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
            differences.append(f"{what} {', '.join(names[:MAX_NAMES_SHOWN])}{more}")
    if differences:
        raise ValueError(
            f"teacher {teacher!r}: expected the labels of task {task.name!r}, but it {', and it '.join(differences)}."
        )
