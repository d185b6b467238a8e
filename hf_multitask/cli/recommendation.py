"""Output of `hf-multitask recommend`."""

from rich.console import Console
from rich.text import Text

from ..freezing.stage import FreezeStage
from ..recommendation import Recommendation
from .console_table import print_cells


def print_recommendation(recommendation: Recommendation, console: Console | None = None) -> None:
    """Print the encoder, the schedule and the learning rates, the facts that they are based on, and the reasons.

    Args:
        recommendation: Result of `recommend_schedule`.
        console: Console to print to. Defaults to standard output.
    """
    console = console or Console()
    print_cells(["recommended", ""], _recommendation_rows(recommendation), console)
    print_cells(["the data", ""], _data_rows(recommendation), console)
    for reason in recommendation.reasons:
        source = f" ({reason.source})" if reason.source else ""
        why = f": {reason.advice}. {reason.evidence}; {reason.reason}{source}."
        basis = recommendation.basis_of(reason)
        tag = (f"[{basis}] ", "green" if reason.is_measured else "dim")
        console.print(Text.assemble(tag if basis else "", (reason.rule, "bold"), why), highlight=False, soft_wrap=True)
    for conflict in recommendation.conflicts:
        console.print(Text.assemble(("Two rules disagree: ", "bold"), conflict), highlight=False, soft_wrap=True)


def _recommendation_rows(recommendation: Recommendation) -> list[list[str]]:
    here = "on this machine" if recommendation.encoder_is_here else "not on this machine: training downloads it"
    stages = "; ".join(map(_describe_stage, recommendation.schedule.stages))
    return [
        ["encoder", f"{recommendation.encoder} ({here})"],
        ["freeze", f"{recommendation.preset}: {stages}"],
        ["learning rates", f"{recommendation.learning_rate:g}, heads {recommendation.head_learning_rate:g}"],
        ["epochs", f"{recommendation.epochs:g}"],
        ["time", f"about {recommendation.minutes:.1f} minutes ({recommendation.machine})"],
        ["also, not measured by us", "; ".join(map(str, recommendation.alternatives))],
    ]


def _describe_stage(stage: FreezeStage) -> str:
    trained = stage.train if isinstance(stage.train, str) else ", ".join(stage.train)
    return f"train {trained}" if stage.epochs is None else f"train {trained} for {stage.epochs:g} epochs"


def _data_rows(recommendation: Recommendation) -> list[list[str]]:
    facts, closeness = recommendation.facts, recommendation.closeness
    limit = "" if facts.max_length is None else f", {facts.cut_share:.1%} of the rows longer than {facts.max_length}"
    splits = f"{closeness.subwords_per_word:.2f}, in general text {closeness.general_subwords_per_word:.2f}"
    unknown = f"{closeness.unknown_share:.2%}, in general text {closeness.general_unknown_share:.2%}"
    return [
        *([task.name, f"{task.labeled_rows:,} labeled rows"] for task in facts.tasks),
        ["length", f"{facts.subwords / facts.rows:.1f} subwords per row{limit}"],
        ["subwords per word", splits],
        ["unknown subwords", unknown],
        ["distance to general text", f"{closeness.distance:.2f} of its spread"],
    ]
