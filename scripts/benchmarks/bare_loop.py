"""Upper limit of a trainer's speed: forward, backward and optimizer step on batches that are prepared in advance."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from hf_multitask import MultiTaskModel
from hf_multitask.data import EpochLengthGroupedSampler, MultiTaskDataCollator
from hf_multitask.models.encoder_dropout import QuickDropout
from hf_multitask.models.losses import count_labeled, example_losses
from hf_multitask.models.type_aliases import Batch

from .timing import wait_for_device, warm_up_steps
from .workload import SEED, Workload


class BareLoop:
    """Bare training loops for the whole model, and for the heads on precomputed encoder states.

    Args:
        work: Workload.
        quick_dropout: Whether to use the dropout of this library instead of torch's, which a loop written by hand
            has.
    """

    def __init__(self, work: Workload, quick_dropout: bool = False) -> None:
        self.work = work
        self.quick_dropout = quick_dropout
        self.batches = collated_batches(work)
        self.encoded: list[Batch] = []

    def time(self, epochs: int, bf16: bool = False) -> float:
        """Return the seconds of training the whole model, with bf16 autocast if wanted."""
        model = self._new_model()

        def loss(batch: Batch) -> torch.Tensor:
            with torch.autocast(self.work.device, torch.bfloat16, enabled=bf16):
                return model(**batch).loss

        return _time_loop(model, loss, self.batches, epochs)

    def seconds_per_step(self, bf16: bool = False) -> float:
        """Return the seconds per step of training the whole model, without the first steps."""
        model = self._new_model()

        def loss(batch: Batch) -> torch.Tensor:
            with torch.autocast(self.work.device, torch.bfloat16, enabled=bf16):
                return model(**batch).loss

        warm_up = warm_up_steps(len(self.batches))
        _time_loop(model, loss, self.batches[:warm_up], 1)
        return _time_loop(model, loss, self.batches[warm_up:], 1) / (len(self.batches) - warm_up)

    def time_heads(self, epochs: int) -> float:
        """Return the seconds of training the heads on precomputed encoder states."""
        model = self._new_model()
        self.encoded = self.encoded or [_encode(model, batch) for batch in self.batches]

        def loss(batch: Batch) -> torch.Tensor:
            logits = model.apply_heads(batch["states"], batch["attention_mask"], batch["tag_positions"])
            labels = batch["labels"]
            losses = [
                example_losses(task, logits[task.name], labels[task.name]).sum()
                / count_labeled(task, labels[task.name]).sum()
                for task in model.config.tasks
            ]
            return torch.stack(losses).sum()

        return _time_loop(model.heads, loss, self.encoded, epochs)

    def _new_model(self) -> MultiTaskModel:
        model = MultiTaskModel.from_encoder(self.work.encoder, self.work.data.tasks)
        if not self.quick_dropout:
            _use_plain_dropout(model)
        model.to(self.work.device)  # type: ignore[arg-type]  # transformers wraps `to` without its `self`
        return model.train()


def collated_batches(work: Workload) -> list[Batch]:
    """Return the batches of one epoch, grouped by length, as tensors on the device."""
    train = work.data["train"]
    order = list(EpochLengthGroupedSampler(train["length"][:], work.batch_size, SEED, epoch=lambda: 0))
    collate = MultiTaskDataCollator(work.tokenizer, work.data.tasks)
    starts = range(0, len(order), work.batch_size)
    batches = [collate([train[i] for i in order[start : start + work.batch_size]]) for start in starts]
    return [_to_device(batch, work.device) for batch in batches]


def _use_plain_dropout(model: nn.Module) -> None:
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, QuickDropout):
                setattr(module, name, nn.Dropout(child.p))


def _to_device(value: Any, device: str) -> Any:
    if isinstance(value, dict):
        return {name: _to_device(item, device) for name, item in value.items()}
    return value.to(device)


@torch.no_grad()
def _encode(model: MultiTaskModel, batch: Batch) -> Batch:
    model.encoder.eval()
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "tag_positions")}
    states = model.encoder(**inputs).last_hidden_state
    return {"states": states, **{name: batch[name] for name in ("attention_mask", "tag_positions", "labels")}}


def _time_loop(
    module: nn.Module, loss_of: Callable[[Batch], torch.Tensor], batches: Iterable[Batch], epochs: int
) -> float:
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-5, weight_decay=0.01, fused=True)
    wait_for_device()
    start = time.perf_counter()
    for _ in range(epochs):
        for batch in batches:
            loss_of(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    wait_for_device()
    return time.perf_counter() - start
