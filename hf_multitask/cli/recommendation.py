"""Output of `hf-multitask recommend`."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..freezing.stage import FreezeStage
from ..recommendation import Recommendation


def print_recommendation(recommendation: Recommendation, console: Console | None = None) -> None:
    """Print the encoder, the schedule and the learning rates, the facts that they are based on, and the reasons.

    Args:
        recommendation: Result of `recommend_schedule`.
        console: Console to print to. Defaults to standard output.
    """
    console = console or Console()
    console.print(_recommendation_table(recommendation))
    console.print(_data_table(recommendation))
    for reason in recommendation.reasons:
        source = f" ({reason.source})" if reason.source else ""
        why = f": {reason.advice}. {reason.evidence}; {reason.reason}{source}."
        console.print(Text.assemble((reason.rule, "bold"), why), highlight=False, soft_wrap=True)
    for conflict in recommendation.conflicts:
        console.print(Text.assemble(("Rules disagree: ", "bold"), conflict), highlight=False, soft_wrap=True)


def _recommendation_table(recommendation: Recommendation) -> Table:
    table = Table("recommended", "")
    here = "on this machine" if recommendation.encoder_is_here else "not on this machine: training downloads it"
    table.add_row("encoder", Text(f"{recommendation.encoder} ({here})"))
    stages = "; ".join(map(_describe_stage, recommendation.schedule.stages))
    table.add_row("freeze", Text(f"{recommendation.preset}: {stages}"))
    table.add_row("learning rates", f"{recommendation.learning_rate:g}, heads {recommendation.head_learning_rate:g}")
    table.add_row("epochs", f"{recommendation.epochs:g}")
    table.add_row("time", f"about {recommendation.minutes:.1f} minutes ({recommendation.machine})")
    return table


def _describe_stage(stage: FreezeStage) -> str:
    trained = stage.train if isinstance(stage.train, str) else ", ".join(stage.train)
    return f"train {trained}" if stage.epochs is None else f"train {trained} for {stage.epochs:g} epochs"


def _data_table(recommendation: Recommendation) -> Table:
    facts, closeness = recommendation.facts, recommendation.closeness
    table = Table("the data", "")
    for task in facts.tasks:
        table.add_row(task.name, f"{task.labeled_rows:,} labeled rows")
    limit = "" if facts.max_length is None else f", {facts.cut_share:.1%} of the rows longer than {facts.max_length}"
    table.add_row("length", f"{facts.subwords / facts.rows:.1f} subwords per row{limit}")
    table.add_row(
        "subwords per word",
        f"{closeness.subwords_per_word:.2f}, in general text {closeness.general_subwords_per_word:.2f}",
    )
    table.add_row(
        "unknown subwords", f"{closeness.unknown_share:.2%}, in general text {closeness.general_unknown_share:.2%}"
    )
    table.add_row("distance to general text", f"{closeness.distance:.2f} of its spread")
    return table
