"""Output of the command ``inspect``."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from ..data import SPLITS
from ..data.dataset_loader import TRAIN
from ..data.inspection.data_inspection import DataInspection, DatasetInspection
from ..data.inspection.duplicates import Duplicates
from ..data.inspection.lengths import Lengths
from ..data.inspection.split_inspector import RowSample, SplitInspection, TaskInspection
from ..models.tags_iob2 import OUTSIDE, tag_spans
from ..models.tasks import TOKEN_CLASSIFICATION
from .console_table import print_cells

# Labels listed for a task: half of them the most frequent, half the least frequent.
MAX_LABELS_SHOWN = 20
PERCENTILES_SHOWN = ("50", "95", "99")
# Neighboring words have different colors, and a word has the color of its subwords.
WORD_STYLES = ("cyan", "magenta")


def print_inspection(inspection: DataInspection, console: Console | None = None) -> None:
    """Print tables of counts and labels, broken tags, and a few rows.

    Args:
        inspection: Result of `inspect_data`.
        console: Console to print to. Defaults to standard output.
    """
    console = console or Console()
    for i, data_set in enumerate(inspection.datasets):
        title = "data" if len(inspection.datasets) == 1 else f"data.{i}"
        sources = ", ".join(f"{split} {counts.source}" for split, counts in data_set.splits.items())
        _print(console, Text.assemble((title, "bold"), f": {sources}"))
        print_cells(["", *data_set.splits], _count_rows(inspection, data_set), console)
        for task in data_set.tasks:
            print_cells([task, *data_set.splits], _label_rows(task, data_set), console)
            _print_broken(console, task, data_set)
            for note in data_set.splits[TRAIN].tasks[task].notes:
                _print(console, Text(f"{task}: {note}", "yellow"))
        for sample in data_set.samples:
            _print_sample(console, sample, inspection)


def _count_rows(inspection: DataInspection, data_set: DatasetInspection) -> list[list[str]]:
    splits = list(data_set.splits.values())
    rows: dict[str, list[str]] = {"rows": [f"{split.rows:,}" for split in splits]}
    percents = "/".join([*PERCENTILES_SHOWN, "100"])
    rows[f"words per row, {percents} %"] = [_lengths(split.word_lengths) for split in splits]
    rows[f"subwords per row, {percents} %"] = [_lengths(split.subword_lengths) for split in splits]
    rows["subwords per word"] = [f"{split.subwords_per_word:.2f}" for split in splits]
    rows["unknown subwords"] = [_share(split.unknown_subwords, split.subwords) for split in splits]
    if inspection.max_length is not None:
        rows[f"rows over {inspection.max_length} subwords"] = [_over_length(split) for split in splits]
    rows["rows without a subword"] = [f"{split.empty_rows:,}" for split in splits]
    rows["words without a subword"] = [f"{split.lost_words:,}" for split in splits]
    rows["rows that repeat an earlier row"] = [_duplicates(split.repeated) for split in splits]
    for other in SPLITS:
        if any(other in split.also_in for split in splits):
            cells = [_duplicates(split.also_in[other]) if other in split.also_in else "" for split in splits]
            rows[f"rows that are also in {other}"] = cells
    for task in data_set.tasks:
        is_token_task = inspection.task_types[task] == TOKEN_CLASSIFICATION
        rows |= _task_rows(task, is_token_task, [split.tasks[task] for split in splits])
    return [[name, *cells] for name, cells in rows.items()]


def _task_rows(task: str, is_token_task: bool, splits: Sequence[TaskInspection]) -> dict[str, list[str]]:
    counts = {
        "rows without a label": [split.unlabelled_rows for split in splits],
        "labels that are not in train": [sum(split.unseen_labels.values()) for split in splits],
    }
    if is_token_task:
        counts["rows with broken tags"] = [split.broken_rows for split in splits]
        counts["mismatched spans"] = [split.mismatched_spans for split in splits]
        counts["repeated spans"] = [split.repeated_spans for split in splits]
    return {f"{task}: {name}": [f"{count:,}" for count in cells] for name, cells in counts.items()}


def _label_rows(task: str, data_set: DatasetInspection) -> list[list[str]]:
    splits = [split.tasks[task] for split in data_set.splits.values()]
    rows: list[list[str]] = []
    for name in dict.fromkeys(name for split in splits for name in split.numbers):
        numbers = [split.numbers.get(name) for split in splits]
        cells = [f"{item.least:g} to {item.greatest:g}, mean {item.mean:.4g}" if item else "" for item in numbers]
        rows.append([name, *cells])
    names, hidden = data_set.shown_labels(task, MAX_LABELS_SHOWN)
    for i, name in enumerate(names):
        if hidden and i == len(names) // 2:
            sums = [sum(split.labels.get(other, 0) for other in hidden) for split in splits]
            rows.append([f"… {len(hidden)} more (all: --json)", *(f"{count:,}" for count in sums)])
        cells = [
            f"{split.labels.get(name, 0):,}{' unseen' if name in split.unseen_labels else ''}" for split in splits
        ]
        rows.append([name, *cells])
    return rows


def _print_broken(console: Console, task: str, data_set: DatasetInspection) -> None:
    for counts in data_set.splits.values():
        for broken in counts.tasks[task].broken_tags:
            problem = f"{task}: {broken.tag!r} (word {broken.word}, {broken.text!r}) breaks the rule of its scheme"
            _print(console, Text(f"{broken.place}: {problem}; expected {broken.expected!r}", "red"))


def _print_sample(console: Console, sample: RowSample, inspection: DataInspection) -> None:
    _print(console, Text(sample.place, "bold"))
    texts = [("words", "subwords", sample.words, sample.subwords)]
    if sample.text_pair is not None:
        texts.append(("text_pair", "its subwords", [sample.text_pair], [sample.text_pair_subwords]))
    for text, parts, words, groups in texts:
        subwords = [
            (subword, "bold red" if subword == inspection.unknown_token else _word_style(i))
            for i, group in enumerate(groups)
            for subword in group
        ]
        for name, shown in ((text, [(word, _word_style(i)) for i, word in enumerate(words)]), (parts, subwords)):
            _print(console, Text.assemble(f"  {name}: ", Text(" ").join(Text(*part) for part in shown)))
    for task, value in sample.labels.items():
        _print(console, Text.assemble(f"  {task}: ", _label(sample, inspection.task_types[task], value)))


def _label(sample: RowSample, task_type: str, value: Any) -> Text:
    if value is None:
        return Text("no label", "dim")
    if task_type != TOKEN_CLASSIFICATION:
        return Text(", ".join(map(str, value if isinstance(value, list) else [value])), "bold cyan")
    shown, end = [], 0
    for entity in tag_spans([tag or OUTSIDE for tag in value]):
        shown += [Text(word) for word in sample.words[end : entity.start]]
        words = " ".join(sample.words[entity.start : entity.end])
        shown.append(Text.assemble((f"[{words}]", "bold cyan"), (f"({entity.label})", "cyan")))
        end = entity.end
    return Text(" ").join([*shown, *map(Text, sample.words[end:])])


def _print(console: Console, text: Text) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _word_style(i: int) -> str:
    return WORD_STYLES[i % len(WORD_STYLES)]


def _lengths(lengths: Lengths) -> str:
    return " / ".join(map(str, [*(lengths.percentiles[name] for name in PERCENTILES_SHOWN), lengths.longest]))


def _share(count: int, total: int) -> str:
    return f"{count:,} ({count / max(total, 1):.2%})"


def _over_length(split: SplitInspection) -> str:
    cut = [f"{split.windowed_rows:,} in {split.windows:,} windows"] if split.windows else []
    cut += [f"{split.truncated_rows:,} cut off"] if split.truncated_rows else []
    return f"{', '.join(cut)} ({split.cut_share:.2%})" if cut else "0"


def _duplicates(duplicates: Duplicates) -> str:
    return f"{duplicates.rows:,}, {duplicates.other_labels:,} with other labels" if duplicates.rows else "0"
