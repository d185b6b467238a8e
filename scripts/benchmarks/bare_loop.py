"""The limit of what a trainer can reach: forward, backward and the optimizer's step on batches that lie ready."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from hf_multitask import MultiTaskModel
from hf_multitask.data import EpochLengthGroupedSampler, MultiTaskDataCollator
from hf_multitask.models.encoder_dropout import QuickDropout
from hf_multitask.models.losses import count_labeled, example_losses

from .timing import wait_for_device
from .workload import SEED, Workload

Batch = dict[str, Any]


class BareLoop:
    """Training of everything, and of the heads alone on the encoder's states, with nothing around it.

    Args:
        work: What to train on.
        quick_dropout: Whether it has this library's dropout, or torch's own as a loop written by hand has.
    """

    def __init__(self, work: Workload, quick_dropout: bool = False) -> None:
        self.work = work
        self.quick_dropout = quick_dropout
        self.batches = collated_batches(work)
        self.stored: list[Batch] = []

    def time(self, epochs: int, bf16: bool = False) -> float:
        """Return the seconds of training everything, in bf16 by autocast where wanted."""
        model = self._new_model()

        def loss(batch: Batch) -> torch.Tensor:
            with torch.autocast(self.work.device, torch.bfloat16, enabled=bf16):
                return model(**batch).loss

        return _time_loop(model, loss, self.batches, epochs)

    def time_heads(self, epochs: int) -> float:
        """Return the seconds of training the heads on states of the encoder that lie ready."""
        model = self._new_model()
        self.stored = self.stored or [_encode(model, batch) for batch in self.batches]

        def loss(batch: Batch) -> torch.Tensor:
            logits = model.apply_heads(batch["states"], batch["attention_mask"], batch["tag_positions"])
            labels = batch["labels"]
            losses = [
                example_losses(task, logits[task.name], labels[task.name]).sum()
                / count_labeled(task, labels[task.name]).sum()
                for task in model.config.tasks
            ]
            return torch.stack(losses).sum()

        return _time_loop(model.heads, loss, self.stored, epochs)

    def _new_model(self) -> MultiTaskModel:
        model = MultiTaskModel.from_encoder(self.work.encoder, self.work.data.tasks)
        if not self.quick_dropout:
            _use_plain_dropout(model)
        return model.to(self.work.device).train()


def collated_batches(work: Workload) -> list[Batch]:
    """Return one epoch's batches of like length, as tensors on the device."""
    train = work.data["train"]
    order = list(EpochLengthGroupedSampler(train["length"][:], work.batch_size, SEED, epoch=lambda: 0))
    collate = MultiTaskDataCollator(work.tokenizer, work.data.tasks)
    starts = range(0, len(order), work.batch_size)
    batches = [collate([train[i] for i in order[start : start + work.batch_size]]) for start in starts]
    return [_to_device(batch, work.device) for batch in batches]


def _use_plain_dropout(model: nn.Module) -> None:
    for part in model.modules():
        for name, child in part.named_children():
            if isinstance(child, QuickDropout):
                setattr(part, name, nn.Dropout(child.p))


def _to_device(value: Any, device: str) -> Any:
    if isinstance(value, dict):
        return {name: _to_device(part, device) for name, part in value.items()}
    return value.to(device)


@torch.no_grad()
def _encode(model: MultiTaskModel, batch: Batch) -> Batch:
    model.encoder.eval()
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "tag_positions")}
    states = model.encoder(**inputs).last_hidden_state
    kept = {name: batch[name] for name in ("attention_mask", "tag_positions", "labels")}
    return {"states": states, **kept}


def _time_loop(
    trained: nn.Module, loss_of: Callable[[Batch], torch.Tensor], batches: Iterable[Batch], epochs: int
) -> float:
    optimizer = torch.optim.AdamW(trained.parameters(), lr=5e-5, weight_decay=0.01, fused=True)
    wait_for_device()
    start = time.perf_counter()
    for _ in range(epochs):
        for batch in batches:
            loss_of(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    wait_for_device()
    return time.perf_counter() - start
