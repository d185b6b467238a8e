"""Candidate runs: choice of the run that follows the rules and fits the time budget, and its config."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from huggingface_hub import constants

from ..freezing import FreezeSchedule, build_schedule
from ..freezing.schedule import encoder_is_divided
from ..models.layer_groups import LayerGroups
from ..models.tasks import REGRESSION
from ..runs.config import RunConfig
from ..training.metrics import metric_of
from ..training.settings import MEASURED_DEPTH, MEASURED_WIDTH, STANDARD, batch_size, num_epochs
from .cost_model import CostModel
from .current_encoders import find_alternatives
from .encoder_catalogue import KNOWN, MULTILINGUAL, SMALL, EncoderSize, is_on_this_machine, named_groups
from .recommendation import Recommendation
from .rules import DEPTHS, FROZEN, HEADS_FIRST, UPPER, Finding, Situation, find_conflicts, find_depth, find_encoder

# A time budget never cuts a run below this length.
MIN_EPOCHS_IN_BUDGET = 3
# Minimum ratio of the most frequent to the rarest label with which rare labels get more weight.
MIN_IMBALANCE = 10


@dataclass(frozen=True)
class Candidate:
    """Run that could be recommended.

    Args:
        size: Size of the encoder.
        depth: How much of the encoder trains, one of `DEPTHS`.
        preset: Name of the schedule.
        schedule: The schedule.
        epochs: Number of epochs.
        minutes: Estimated duration.
    """

    size: EncoderSize
    depth: str
    preset: str
    schedule: FreezeSchedule
    epochs: int
    minutes: float

    def __str__(self) -> str:
        return f"{self.size.name}, {self.depth}, {self.epochs} epochs"


class CandidatePlanner:
    """Finds the run that follows the rules and fits the time budget.

    Args:
        situation: Input of the rules.
        groups: Layer groups of the config's model.
        costs: Model of the training time.
        effort: Effort of the config.
    """

    def __init__(self, situation: Situation, groups: LayerGroups, costs: CostModel, effort: str = STANDARD) -> None:
        self.situation = situation
        self.facts = situation.facts
        self.groups = groups
        self.costs = costs
        self.batch_size = batch_size(self.facts.rows, effort)
        self.epochs = num_epochs(self.facts.rows, effort)

    def recommend(self, config: RunConfig, time_budget: float | None = None) -> Recommendation:
        """Return the recommendation.

        Args:
            config: Config to recommend for.
            time_budget: Maximum duration in minutes; None for no limit.

        Raises:
            ValueError: If no run fits into the time budget.
        """
        encoders = find_encoder(self.situation)
        advised = self._size(encoders[0].advice)
        depths = find_depth(replace(self.situation, encoder=advised))
        conflicts = [*find_conflicts(encoders), *find_conflicts(depths)]
        wanted = chosen = self.candidate(advised, depths[0].advice, self.epochs)
        if time_budget is not None and wanted.minutes > time_budget:
            chosen = self._first_within(wanted, time_budget)
            conflicts.append(
                f"the rules advise {wanted} ({_minutes(wanted)}); the time budget of {time_budget:g} minutes allows "
                f"{chosen} ({_minutes(chosen)}) and wins: a run that does not finish in time is worth "
                "nothing."
            )
        recommended = chosen.size.name
        here = is_on_this_machine(recommended)
        reasons = [
            *(finding for finding in encoders[:1] if finding.advice == recommended),
            *(finding for finding in depths[:1] if finding.advice == chosen.depth),
        ]
        if not here and constants.HF_HUB_OFFLINE:
            chosen = self.candidate(self.costs.measured, chosen.depth, chosen.epochs)
            conflicts.append(
                f"{recommended} is recommended, but it is not on this machine and the hub is offline "
                f"(HF_HUB_OFFLINE): the config keeps {chosen.size.name}. Run again with --encoder FOLDER once you "
                "have it."
            )
        return Recommendation(
            encoder=recommended,
            encoder_is_here=here,
            preset=chosen.preset,
            schedule=chosen.schedule,
            epochs=chosen.epochs,
            learning_rate=chosen.size.learning_rate,
            head_learning_rate=chosen.size.head_learning_rate,
            minutes=chosen.minutes,
            reasons=[*reasons, *self._further_reasons(chosen)],
            conflicts=conflicts,
            probe=self.situation.probe,
            alternatives=find_alternatives(
                self.situation.language.is_english, chosen.size.weights / 1e6, long_texts=self.facts.cut_share > 0
            ),
            facts=self.facts,
            closeness=self.situation.closeness,
            machine=self.situation.machine,
            config=self._config(config, chosen),
        )

    def candidate(self, size: EncoderSize, depth: str, epochs: int) -> Candidate:
        """Build a candidate.

        Args:
            size: Size of the encoder.
            depth: How much of the encoder trains, one of `DEPTHS`.
            epochs: Number of epochs.
        """
        tasks = [task.name for task in self.facts.tasks]
        groups = self.groups if size == self.costs.measured else named_groups(size, tasks)
        preset = _preset(depth, groups, size.layers)
        schedule = build_schedule(preset, groups, epochs)
        return Candidate(size, depth, preset, schedule, epochs, self.costs.minutes(size, groups, schedule, epochs))

    def _size(self, name: str) -> EncoderSize:
        return self.costs.measured if name == self.costs.measured.name else KNOWN[name]

    def _first_within(self, wanted: Candidate, time_budget: float) -> Candidate:
        """Return the first candidate that fits: with fewer epochs, else a smaller encoder, else fewer trained layers.

        Raises:
            ValueError: If no candidate fits.
        """
        shortest = wanted
        for candidate in self._cheaper_candidates(wanted):
            if candidate.minutes <= time_budget:
                return candidate
            shortest = min(shortest, candidate, key=lambda item: item.minutes)
        raise ValueError(
            f"time_budget: nothing fits into {time_budget:g} minutes; the shortest run, {shortest}, takes about "
            f"{_minutes(shortest)} on this machine. Raise the budget, or use fewer rows or a smaller encoder."
        )

    def _cheaper_candidates(self, wanted: Candidate) -> Iterator[Candidate]:
        smaller = SMALL if self.situation.language.is_english else MULTILINGUAL
        sizes = {size.name: size for size in (wanted.size, self.costs.measured, self._size(smaller))}
        by_cost = sorted(sizes.values(), key=lambda size: -size.cost)
        for depth in reversed(DEPTHS[: DEPTHS.index(wanted.depth) + 1]):
            for size in by_cost:
                if size.cost <= wanted.size.cost:
                    for epochs in range(wanted.epochs, MIN_EPOCHS_IN_BUDGET - 1, -1):
                        yield self.candidate(size, depth, epochs)

    def _further_reasons(self, chosen: Candidate) -> Iterator[Finding]:
        yield from self._probed(chosen)
        measured = (chosen.size.hidden_size, chosen.size.layers) == (MEASURED_WIDTH, MEASURED_DEPTH)
        yield Finding(
            "learning rates",
            f"the encoder has {chosen.size.layers} layers of width {chosen.size.hidden_size}",
            f"{chosen.size.learning_rate:g} for the encoder, {chosen.size.head_learning_rate:g} for the heads",
            "heads start from random weights, the encoder from pretrained ones",
            "our scores in docs/RESULTS.md" if measured else "Devlin et al. 2019 (BERT), A.3",
        )
        yield Finding(
            "length of the run",
            f"{self.facts.rows:,} rows in batches of {self.batch_size}",
            f"{chosen.epochs} epochs",
            "a run on few rows needs more epochs to take enough steps",
            "Zhang et al. 2021 (Revisiting Few-sample BERT Fine-tuning); Mosbach et al. 2021",
        )
        if chosen.depth != FROZEN:
            yield Finding(
                "adapters",
                f"{chosen.depth} can train on this machine",
                "no LoRA",
                "LoRA lost 0.7 points of slot F1 and 1.7 of joint accuracy on 2,000 rows of SNIPS, and 3.6 of F1 on "
                "WNUT-17; it pays if one encoder serves several models, a model must be a small file, or memory is "
                "short",
                "our table in docs/FREEZING.md",
            )
        for task in self.facts.tasks:
            if task.imbalance >= MIN_IMBALANCE:
                yield Finding(
                    f"balance of {task.name}",
                    f"its most frequent label has {task.imbalance:.0f} times the rows of its rarest",
                    "class_weights: balanced",
                    "rare labels would hardly count in the loss",
                    "King and Zeng 2001 (Logistic Regression in Rare Events Data); not measured by us",
                )

    def _probed(self, chosen: Candidate) -> Iterator[Finding]:
        """Return what a probe of the chosen encoder measured for each task."""
        situation = replace(self.situation, encoder=chosen.size)
        for task in self.facts.tasks:
            found = situation.probed(task.name)
            if found is None:
                continue
            best = found.best_depth
            yield Finding(
                f"{task.name}, probed",
                f"at depth {best} they score {found.scores[best]:.3f}, and nowhere a point more"
                if best != len(found.scores) - 1
                else "no lower depth is better",
                f"linear heads on the frozen encoder score {found.scores[-1]:.3f} {found.metric} on "
                f"{found.held_out_rows:,} held-out rows",
                "training layers has to beat this",
                is_measured=True,
            )

    def _config(self, config: RunConfig, chosen: Candidate) -> RunConfig:
        streams = any(data.streams_train for data in config.data_configs)
        training = dict(config.training)
        if not streams:
            training.pop("max_steps", None)
            training["num_train_epochs"] = chosen.epochs
        training["learning_rate"] = chosen.size.learning_rate
        training["head_learning_rate"] = chosen.size.head_learning_rate
        if "max_tokens_per_batch" not in training:
            training["per_device_train_batch_size"] = self.batch_size
        tasks = []
        for task, facts in zip(config.tasks, self.facts.tasks, strict=True):
            if facts.imbalance >= MIN_IMBALANCE and task.class_weights is None and not streams:
                task = replace(task, class_weights="balanced")
            if task.name == self.situation.main_task and facts.kind != REGRESSION and self.facts.has_validation:
                kind = None if facts.is_token_task else facts.kind
                metric = metric_of(replace(task, problem_type=kind)).main_metric
                training |= {"metric_for_best_model": f"{task.name}_{metric}", "greater_is_better": True}
            tasks.append(task)
        return replace(config, encoder=chosen.size.name, tasks=tasks, freeze=chosen.preset, training=training)


def _preset(depth: str, groups: LayerGroups, layers: int) -> str:
    if depth == FROZEN:
        return "encoder"
    if depth == UPPER and encoder_is_divided(groups):
        return f"top:{math.ceil(layers / 3)}"
    return "heads-then-all" if depth == HEADS_FIRST else "none"


def _minutes(candidate: Candidate) -> str:
    minutes = candidate.minutes
    return f"{minutes:.1f} minutes" if minutes >= 1 else f"{minutes:.2g} minutes"
