"""Result of a probe: scores by depth, and gradients by layer group."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..models.table_repr import ReprTable, ShownAsTable
from ..models.tasks import REGRESSION
from ..models.type_aliases import JsonObject

# Scores within a point of each other are equal; errors of regressions within a twentieth.
POINT, ERROR_SHARE = 0.01, 0.05


@dataclass(frozen=True)
class TaskProbe:
    """What a probe found for a task.

    Args:
        name: Name of the task.
        kind: Type of the task; for a sequence task, its problem type.
        metric: Metric of the scores: ``accuracy`` or, for token tasks, ``f1``; the error ``mse`` for a regression.
        training_rows: Number of rows with a label that heads were trained on.
        held_out_rows: Number of rows with a label that they were scored on.
        scores: Scores of linear heads on the states of each depth, from the bottom up.
        gradient_ratios: Norm of the gradient divided by the norm of the weights, by layer group of the encoder.
    """

    name: str
    kind: str
    metric: str
    training_rows: int
    held_out_rows: int
    scores: Sequence[float]
    gradient_ratios: dict[str, float]

    @property
    def best_depth(self) -> int:
        """The lowest depth whose score no other depth exceeds by more than a point."""
        if self.kind == REGRESSION:
            limit = min(self.scores) * (1 + ERROR_SHARE)
            return next(depth for depth, score in enumerate(self.scores) if score <= limit)
        limit = max(self.scores) - POINT
        return next(depth for depth, score in enumerate(self.scores) if score >= limit)

    @property
    def lost_on_top(self) -> float:
        """By how much the head of the uppermost depth scores below the best one; 0 if it is the best."""
        sign = -1 if self.kind == REGRESSION else 1
        return max(sign * score for score in self.scores) - sign * self.scores[-1]

    @property
    def steepest_group(self) -> str | None:
        """The layer group with the largest gradient ratio; None if no group has a gradient."""
        ratios = {name: ratio for name, ratio in self.gradient_ratios.items() if ratio > 0}
        return max(ratios, key=lambda name: ratios[name], default=None)


@dataclass(frozen=True, repr=False)
class LayerProbe(ShownAsTable):
    """What can be read at each depth of an encoder, by task. Printed as a table.

    Args:
        encoder: The encoder.
        depths: What the states of each depth are the output of: ``embeddings``, ``encoder.0`` ….
        tasks: What was found for each task.
        held_out: What the rows are that heads were scored on.
        seed: Seed of the draw of rows and of the batches of the heads.
        seconds: Duration of the probe, without loading the encoder and the data.
    """

    encoder: str
    depths: Sequence[str]
    tasks: Sequence[TaskProbe]
    held_out: str
    seed: int
    seconds: float

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the header and the rows of the table: scores of each depth, and gradients of the group below it."""
        header = ["depth", "output of", *(f"{task.name} {task.metric}" for task in self.tasks)]
        header += [f"{task.name} gradient / weights" for task in self.tasks]
        rows = []
        for depth, name in enumerate(self.depths):
            cells = [_cell(task, depth) for task in self.tasks]
            rows.append([str(depth), name, *cells, *(_ratio(task, name) for task in self.tasks)])
        # What runs after the last layer has gradients, but the states above it are those of the last depth.
        above = dict.fromkeys(name for task in self.tasks for name in task.gradient_ratios if name not in self.depths)
        blank = [""] * len(self.tasks)
        return header, rows + [["", name, *blank, *(_ratio(task, name) for task in self.tasks)] for name in above]

    def sentences(self) -> list[str]:
        """Return what the numbers say about each task, in words."""
        return [sentence for task in self.tasks for sentence in self._of_task(task)]

    def to_dict(self) -> JsonObject:
        """Return everything as a mapping that can be written as JSON."""
        return asdict(self) | {"sentences": self.sentences()}

    def repr_tables(self) -> list[ReprTable]:
        """Return the table."""
        return [ReprTable(f"Probe of {self.encoder}", *self.table())]

    def _of_task(self, task: TaskProbe) -> list[str]:
        best, top = task.best_depth, len(self.depths) - 1
        where = f"depth {best} of {top} ({self.depths[best]})"
        text = f"{task.name}: linear heads read it best from {where}, with {task.metric} {_cell(task, best)}"
        text += f"; at the top {_cell(task, top)}." if best != top else "."
        steepest = task.steepest_group
        if steepest is None:
            return [text]
        return [text, f"{task.name}: relative to its weights, {steepest} has the largest gradient."]


def _cell(task: TaskProbe, depth: int) -> str:
    return f"{task.scores[depth]:.3g}" if task.kind == REGRESSION else f"{task.scores[depth]:.3f}"


def _ratio(task: TaskProbe, group: str) -> str:
    return f"{task.gradient_ratios[group]:.2g}" if group in task.gradient_ratios else ""
