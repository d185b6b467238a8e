"""When each signal of `converged` would freeze layers and what it costs, recorded in one training of everything."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_multitask import MultiTaskModel
from hf_multitask.freezing.converged import Converged, Unit, freezable_units
from hf_multitask.freezing.convergence import Convergence, Measurement, Span
from hf_multitask.freezing.convergence_meter import ConvergenceMeter
from hf_multitask.runs import build_trainer

from .arguments import add_numbers
from .converged import add_training, training_config

WEIGHTS, STATES, GRADIENTS = "distance of the weights", "drift of the states", "change of the gradient norm"
VALIDATION_ROWS = 64

# What one signal has measured by step and layer.
Record = dict[int, dict[str, float]]


class _Recorder(TrainerCallback):
    """Records all signals of each layer.

    Args:
        inputs: Inputs of the encoder for a fixed sample of validation rows.
    """

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self.inputs = inputs
        self.records: dict[str, Record] = {WEIGHTS: {}, STATES: {}, GRADIENTS: {}}
        self.seconds = dict.fromkeys(self.records, 0.0)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: MultiTaskModel | None = None,
        **kwargs: object,
    ) -> None:
        """Remember where the layers start."""
        if model is None:
            return
        self.span = Span(state.max_steps // state.num_train_epochs, state.max_steps)
        groups = model.layer_groups()
        self.trained = [group.name for group in groups]
        self.units = freezable_units(Converged(keep=0), self.trained, groups)
        self.meter = ConvergenceMeter(self.units, groups)
        self.weights = {unit.name: list(groups.parameters_of(unit.groups).values()) for unit in self.units}
        self.sums = self._zeros()
        self.origin = self._states(model)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Add the gradients of a step."""
        with self._timed(GRADIENTS):
            for name, weights in self.weights.items():
                for total, weight in zip(self.sums[name], weights, strict=True):
                    if weight.grad is not None:
                        total += weight.grad

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: MultiTaskModel | None = None,
        **kwargs: object,
    ) -> None:
        """Measure."""
        step = state.global_step
        if model is None or step % self.span.interval:
            return
        with self._timed(WEIGHTS):
            self.records[WEIGHTS][step] = self.meter.measure(self.trained)
        with self._timed(STATES):
            states = self._states(model)
            self.records[STATES][step] = {
                name: ((states[name] - before).norm() / before.norm()).item() for name, before in self.origin.items()
            }
        with self._timed(GRADIENTS):
            self.records[GRADIENTS][step] = {
                name: torch.stack([total.norm() for total in totals]).norm().item()
                for name, totals in self.sums.items()
            }
            self.sums = self._zeros()

    @contextmanager
    def _timed(self, signal: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[signal] += time.process_time() - start

    def _zeros(self) -> dict[str, list[torch.Tensor]]:
        return {name: [torch.zeros_like(weight) for weight in weights] for name, weights in self.weights.items()}

    @torch.no_grad()
    def _states(self, model: MultiTaskModel) -> dict[str, torch.Tensor]:
        """Return the states above each layer, of tokens only."""
        was_training = model.training
        model.eval()
        states = model(**self.inputs, output_hidden_states=True).hidden_states
        model.train(was_training)
        tokens = self.inputs["attention_mask"].bool()
        return {unit.name: above[tokens] for unit, above in zip(self.units, states, strict=True)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py signals``."""
    add_training(parser)
    add_numbers(parser, {"seeds": ([0], "random seeds")})


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train everything, and replay what each signal would have frozen when."""
    runs = []
    for dataset in arguments.datasets:
        for seed in arguments.seeds:
            runs.append({"dataset": dataset, "seed": seed, **_train(arguments, dataset, seed)})
            _print_freezes(runs[-1])
    return {"benchmark": "signals", "encoder": arguments.encoder, "keep": arguments.keep, "runs": runs}


def _train(arguments: argparse.Namespace, dataset: str, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        config = training_config(arguments, dataset, "none", seed, Path(folder))
        trainer, data = build_trainer(config)
        batch = trainer.data_collator(list(islice(data["validation"], VALIDATION_ROWS)))
        recorder = _Recorder({name: batch[name].to(trainer.args.device) for name in ("input_ids", "attention_mask")})
        trainer.add_callback(recorder)
        start = time.process_time()
        trainer.train()
        seconds = time.process_time() - start - sum(recorder.seconds.values())
    groups = trainer.layer_groups
    units = freezable_units(Converged(keep=arguments.keep), recorder.trained, groups)
    freezes: dict[str, list[tuple[int, str]]] = {}
    for signal in (WEIGHTS, STATES):
        for value in arguments.aggressiveness:
            options = Converged(aggressiveness=value, keep=arguments.keep)
            rule = _share_ahead(Convergence(options, units, 0, recorder.span), recorder.span)
            freezes[f"{signal}, {value:g}"] = _replay(recorder.records[signal], units, rule)
    freezes[GRADIENTS] = _replay(recorder.records[GRADIENTS], units, _below_median(units))
    costs = {signal: spent / seconds for signal, spent in recorder.seconds.items()}
    return {"steps": recorder.span.max_steps, "freezes": freezes, "costs": costs, "signals": recorder.records}


def _replay(
    record: Record, units: Sequence[Unit], num_frozen: Callable[[int, Mapping[str, float]], int]
) -> list[tuple[int, str]]:
    """Return the steps at which layers freeze, each with the uppermost of them."""
    freezes, before = [], 0
    for step, values in record.items():
        now = num_frozen(step, values)
        if now > before:
            freezes.append((step, units[now - 1].name))
        before = now
    return freezes


def _share_ahead(convergence: Convergence, span: Span) -> Callable[[int, Mapping[str, float]], int]:
    """Return the rule of `converged`, for distances of any kind."""

    def num_frozen(step: int, values: Mapping[str, float]) -> int:
        convergence.measure(Measurement(step, dict(values), caches=True), span.max_steps, None)
        return convergence.num_frozen

    return num_frozen


def _below_median(units: Sequence[Unit]) -> Callable[[int, Mapping[str, float]], int]:
    """Return AutoFreeze's rule (Liu et al. 2021): the change of the norm is below the median of what trains."""
    frozen = 0
    before: dict[str, float] = {}

    def num_frozen(step: int, values: Mapping[str, float]) -> int:
        nonlocal frozen, before
        names = list(values)[frozen:]
        if before:
            change = {name: abs(before[name] - values[name]) / before[name] for name in names}
            median = statistics.median(change.values())
            while frozen < len(units) and change[units[frozen].name] < median:
                frozen += 1
        before = dict(values)
        return frozen

    return num_frozen


def _print_freezes(run: Mapping[str, Any]) -> None:
    print(f"\n{run['dataset']}, seed {run['seed']}, {run['steps']} steps")
    for rule, freezes in run["freezes"].items():
        changes = ", ".join(f"{step}: up to {name}" for step, name in freezes)
        print(f"  {rule:<32}{changes or 'nothing freezes'}")
    for signal, share in run["costs"].items():
        print(f"  {signal:<32}costs {share:.2%} of the processor time of training everything")
