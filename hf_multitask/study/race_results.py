"""Results of a race, as ``race.json`` contains them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path

from ..models.table_repr import ReprTable, ShownAsTable
from ..models.type_aliases import JsonObject
from ..reports.page import Table, markdown_table
from ..runs.config import RunConfig
from ..runtime.atomic_files import write_json, write_text
from .advice import TIME_TOLERANCE
from .race_rungs import Length, Rung, RungResult
from .statistics import Interval

RACE_NAME, PAGE_NAME, CONFIG_NAME = "race.json", "race.md", "winner.yaml"
# Marks numbers that are extrapolated.
MARK = "*"


@dataclass(frozen=True)
class Price:
    """What a scenario scores and costs with all rows.

    Args:
        scenario: Name of the scenario.
        length: Rows and epochs with which it was trained last.
        seeds: Number of seeds with which it was trained last.
        score: Its score there.
        full_score: Score in the longest training: ``score`` plus what the scenarios that went on have gained.
        minutes: Minutes of a full training; in proportion to rows and epochs if it had none.
        dropped: Why it dropped out; None if it did not.
    """

    scenario: str
    length: Length
    seeds: int
    score: float
    full_score: float
    minutes: float
    dropped: str | None


@dataclass(frozen=True, repr=False)
class Race(ShownAsTable):
    """Results of a race. Printed as its price list.

    Args:
        metric: What the scenarios were ranked by.
        winner: Name of the recommended scenario, whose score is the highest.
        runner_up: Name of the best other scenario in the last comparison.
        cheaper: Name of the cheapest scenario that may be as good and takes less time, if any.
        difference: Score of the winner minus that of the runner-up, with its 95 % interval.
        is_sure: Whether chance alone does not explain the difference.
        recommendation: The recommendation, as a sentence.
        prices: The price list, best first.
        rungs: Results of the rungs.
        size: Number of training rows of the full setting.
        out_of_time: Whether the time was up, or somebody stopped the race, before it was over.
        skipped: Reason by name of the scenarios that cannot be trained with all rows.
        config: Config that trains the winner.
        folder: Folder of the race.
    """

    metric: str
    winner: str
    runner_up: str
    cheaper: str | None
    difference: Interval
    is_sure: bool
    recommendation: str
    prices: list[Price]
    rungs: list[RungResult]
    size: int
    out_of_time: bool
    skipped: dict[str, str]
    config: RunConfig
    folder: Path = Path()

    def repr_tables(self) -> list[ReprTable]:
        """Return the price list; the sentence is in ``recommendation``."""
        table = price_table(self)
        return [ReprTable(f"Race by {self.metric}", tuple(table.header), table.rows)]

    def save(self) -> None:
        """Write ``race.json`` and ``race.md`` into the folder."""
        write_json(self.folder / RACE_NAME, _to_json(self))
        write_text(self.folder / PAGE_NAME, to_markdown(self))


def _to_json(race: Race) -> JsonObject:
    """Return the fields of a race as JSON represents them, without those that are no results."""
    names = [item.name for item in fields(race) if item.name not in ("config", "folder")]
    return {
        **{name: getattr(race, name) for name in names},
        "difference": asdict(race.difference),
        "prices": [asdict(price) for price in race.prices],
        "rungs": [asdict(result) for result in race.rungs],
    }


def load_race(folder: str | Path) -> Race:
    """Load the results of a race.

    Args:
        folder: Folder of the race, with ``race.json`` and ``winner.yaml``.

    Returns:
        The race.

    Raises:
        FileNotFoundError: If one of the two is missing, for example because the race is not over.
        ValueError: If the first is not the result of a race, or the second is not a valid config.
    """
    path = Path(folder, RACE_NAME)
    if not path.is_file():
        raise FileNotFoundError(f"{str(folder)!r} has no {RACE_NAME}: it contains no race, or an unfinished one.")
    config = RunConfig.from_file(path.with_name(CONFIG_NAME))
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Race(
            **{
                **values,
                "difference": Interval(**values["difference"]),
                "prices": [Price(**{**item, "length": Length(**item["length"])}) for item in values["prices"]],
                "rungs": [_parse_rung(item) for item in values["rungs"]],
                "config": config,
                "folder": Path(folder),
            }
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: is damaged, or from another version; run the race again to write it.") from error


def _parse_rung(values: JsonObject) -> RungResult:
    rung = values["rung"]
    return RungResult(
        **{
            **values,
            "rung": Rung(Length(**rung["length"]), tuple(rung["seeds"])),
            "entered": tuple(values["entered"]),
            "differences": {name: Interval(**item) for name, item in values["differences"].items()},
        }
    )


def price_list(rungs: Sequence[RungResult], full: Length) -> list[Price]:
    """Return the price of each scenario that was trained, best first.

    Args:
        rungs: Results of the rungs.
        full: Length of the full setting.
    """
    last: dict[str, RungResult] = {}
    for result in rungs:
        last |= dict.fromkeys(result.scores, result)
    reasons = {name: reason for result in rungs for name, reason in result.dropped.items()}
    prices = [
        Price(
            scenario=name,
            length=result.rung.length,
            seeds=len(result.rung.seeds),
            score=result.scores[name],
            full_score=result.scores[name] + _gain_after(rungs, result),
            minutes=result.seconds[name] * full.passes / result.rung.length.passes / 60,
            dropped=reasons.get(name),
        )
        for name, result in last.items()
    ]
    return sorted(prices, key=lambda price: -price.full_score)


def _gain_after(rungs: Sequence[RungResult], since: RungResult) -> float:
    """Return the mean gain of the scenarios that went on, from a rung to the last one, summed over the rungs."""
    total = 0.0
    following = rungs[rungs.index(since) :]
    for before, after in pairwise(following):
        gains = [after.scores[name] - before.scores[name] for name in after.scores if name in before.scores]
        if before.rung.length != after.rung.length and gains:
            total += sum(gains) / len(gains)
    return total


def negated(difference: Interval) -> Interval:
    """Return a difference with its interval the other way round."""
    return Interval(0.0 - difference.mean, 0.0 - difference.high, 0.0 - difference.low)


def find_cheaper(result: RungResult) -> str | None:
    """Return the cheapest scenario that may be as good as the best one, or None if none of them saves time.

    Args:
        result: Result of the rung that decides.
    """
    equals = [name for name, difference in result.differences.items() if difference.high >= 0]
    cheapest = min(equals, key=lambda name: result.seconds[name], default=None)
    if cheapest is None or result.seconds[cheapest] >= (1 - TIME_TOLERANCE) * result.seconds[result.best]:
        return None
    return cheapest


def recommend(result: RungResult, runner_up: str, difference: Interval, metric: str) -> str:
    """Return the recommendation, as a sentence; a second one names a cheaper scenario that may be as good.

    Args:
        result: Result of the rung that decides.
        runner_up: Name of the second best scenario.
        difference: Score of the best one minus that of the runner-up.
        metric: What the scenarios were ranked by.
    """
    basis = result.rung.text
    interval = (
        f"{difference.mean:+.4f} against {runner_up}, 95 % interval {difference.low:+.4f} to {difference.high:+.4f}"
    )
    if difference.low > 0:
        return f"Use {result.best}: its {metric} is the highest with {basis} ({interval})."
    sentence = f"Use {result.best}, but this is not sure: with {basis}, its {metric} is within chance ({interval})."
    cheaper = find_cheaper(result)
    if cheaper is None:
        return sentence
    share = result.seconds[cheaper] / result.seconds[result.best]
    return f"{sentence} {cheaper} takes {share:.2f} of its time and may be as good."


def price_table(race: Race) -> Table:
    """Return the price list as a table; a star marks extrapolated numbers."""
    longest = race.rungs[-1].rung.length
    rows = [
        [
            price.scenario,
            f"{price.full_score:.4f}{MARK if price.length.passes < longest.passes else ''}",
            f"{price.minutes:,.1f}{MARK if price.length.passes < race.size else ''}",
            f"{price.length.text}, {price.seeds} {'seed' if price.seeds == 1 else 'seeds'}",
            price.dropped or ("recommended" if price.scenario == race.winner else "in the last comparison"),
        ]
        for price in race.prices
    ]
    caption = (
        f"Scores with {longest.text}, minutes of a full training with {race.size:,} rows. {MARK} marks what is "
        "extrapolated: scores gain as much as those of the scenarios that went on, minutes grow with rows and epochs."
    )
    return Table(["scenario", race.metric, "minutes", "trained with", "outcome"], rows, caption)


def rung_table(result: RungResult) -> Table:
    """Return the scores after a rung, best first, with the difference of each from the best."""
    rows = []
    for name in result.ranking:
        difference = result.differences.get(name)
        cell = (
            "" if difference is None else f"{difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})"
        )
        rows.append(
            [name, f"{result.scores[name]:.4f}", cell, f"{result.seconds[name]:,.1f}", result.dropped.get(name, "")]
        )
    return Table(["scenario", "score", f"vs. {result.best}", "seconds", "drops out"], rows)


def to_markdown(race: Race) -> str:
    """Return the results as a page in Markdown."""
    prices = price_table(race)
    lines = ["# Race of freezing scenarios", "", race.recommendation, "", markdown_table(prices), ""]
    if race.out_of_time:
        lines += ["The race was ended before it was over.", ""]
    for result in race.rungs:
        seeds = ", ".join(map(str, result.rung.seeds))
        part = "" if result.is_complete else ", not finished"
        lines += [f"## {result.rung.length.text}, seeds {seeds}{part}", "", markdown_table(rung_table(result)), ""]
    lines += [f"{name} cannot be trained: {reason}" for name, reason in race.skipped.items()]
    return "\n".join(lines)
