"""Train a tiny model under FSDP2 in a hand-written loop with freezing; started by torchrun."""

import gc
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from hf_multitask import MultiTaskDataCollator, MultiTaskModel
from hf_multitask.freezing.apply import train_only
from hf_multitask.freezing.checks import check_fsdp, check_optimizer
from hf_multitask.freezing.schedule import FreezeSchedule
from hf_multitask.models.abstention import STATE_METHODS
from hf_multitask.models.encoder_layers import find_layers
from hf_multitask.training.scope import StateCollector
from tests.distributed.run_schedule import Scenario, make_multitask, run
from tests.trainers import without_dropout

STEPS_PER_STAGE = 2
ROWS_PER_STEP = 8
STAGES = [
    ["head.intent", "head.slots"],
    ["encoder.1", "encoder.2", "head.intent", "head.slots"],
    ["embeddings", "encoder.0", "encoder.1", "encoder.2", "head.intent", "head.slots"],
    ["encoder.2", "head.slots"],
]
ADAPTER_STAGES = [
    ["head.intent", "head.slots"],
    ["lora.1", "lora.2", "head.intent", "head.slots"],
    ["lora.0", "lora.1", "encoder.2", "lora.2", "head.intent", "head.slots"],
    ["lora.2", "head.slots"],
]
PRIVATE_STAGES = [
    ["head.intent", "head.slots"],
    ["encoder.2", "private.slots.1", "private.slots.2", "head.intent", "head.slots"],
    ["private.slots.2", "head.slots"],
]
# Further options of the scenario, and the stages, by name.
MODELS = {
    "layers": ({}, STAGES),
    "adapters": ({"lora_rank": 2}, ADAPTER_STAGES),
    "private layers": ({"slots": {"private_layers": 2}}, PRIVATE_STAGES),
}


def shard_by_hand(model, optimizer):
    """Shard layer by layer with torch, and return the model and an optimizer of the sharded weights."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in [
        *find_layers(model.encoder),
        *(layer for own in model.private_layers.values() for layer in own.values()),
    ]:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, make_optimizer(model)


def shard_with_accelerate(model, optimizer):
    """Shard with accelerate's own FSDP2 code.

    On a CPU accelerate does not choose FSDP. So its state is set to the type FSDP, as on GPUs, and everything after
    that is accelerate's code.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["BertLayer"],
        cpu_ram_efficient_loading=False,
    )
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    found = accelerator.distributed_type
    accelerator.state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin
    model, prepared = accelerator.prepare(model, optimizer)
    check_fsdp(FreezeSchedule.from_dict({"stages": [{"train": "all"}]}), accelerator.distributed_type, plugin)
    return model, prepared, found.value


def make_optimizer(model):
    # The gradient of some weights is only rounding noise, such as biases of attention keys and embeddings of rare
    # subwords. With Adam's usual eps the noise would make full updates.
    return torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1, eps=1e-4)


def full(weight):
    weight = weight.detach()
    return weight.full_tensor() if isinstance(weight, DTensor) else weight.clone()


def train(model, groups, trained_by_stage, optimizer, data, tokenizer):
    """Train the stages in turn, and return a record of each and the final weights as full tensors."""
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    collate = MultiTaskDataCollator(tokenizer, model.config.tasks)
    groups = groups.bind(model)
    check_optimizer(groups, [group.name for group in groups], optimizer)
    stages = []
    model.train()
    for number, trained in enumerate(trained_by_stage):
        train_only(model, groups, trained)
        before = {group.name: [full(weight) for weight in group.parameters.values()] for group in groups}
        for step in range(STEPS_PER_STAGE):
            start = (number * STEPS_PER_STAGE + step) % 2 * ROWS_PER_STEP
            rows = [data["train"][i] for i in range(start, start + ROWS_PER_STEP)]
            batch = collate(rows)
            items = {task.name: (batch["labels"][task.name] != -100).sum() for task in model.config.tasks}
            local = collate(rows[rank::world_size])
            # Processes average their gradients, so each loss is multiplied by the number of processes.
            loss = model(**local, num_items_in_batch=items).loss * world_size
            loss.backward()
            with_gradient = [
                group.name for group in groups if any(weight.grad is not None for weight in group.parameters.values())
            ]
            optimizer.step()
            optimizer.zero_grad()
        moved = [
            group.name
            for group in groups
            if not all(
                torch.equal(full(weight), old)
                for weight, old in zip(group.parameters.values(), before[group.name], strict=True)
            )
        ]
        eval_mode = [name for name, module in model.encoder.named_modules() if name and not module.training]
        stages.append({"trained": trained, "moved": moved, "with_gradient": with_gradient, "eval_mode": eval_mode})
    return stages, {name: full(weight) for group in groups for name, weight in group.parameters.items()}


def run_fsdp(way, what, encoder, folder):
    """Train in one way (``alone``, ``by hand``, ``accelerate``) and let the main process write the results."""
    options, trained_by_stage = MODELS[what]
    model, data, tokenizer = make_multitask(Scenario(missing={"slots": 1}, batch=1, **options), encoder)
    without_dropout(model)
    groups = model.layer_groups()
    optimizer = make_optimizer(model)
    found = None
    if way == "by hand":
        model, optimizer = shard_by_hand(model, optimizer)
    elif way == "accelerate":
        model, optimizer, found = shard_with_accelerate(model, optimizer)
    sharded = sum(isinstance(weight, DTensor) for weight in model.parameters())
    stages, weights = train(model, groups, trained_by_stage, optimizer, data, tokenizer)
    if not dist.is_initialized() or dist.get_rank() == 0:
        report = {
            "stages": stages,
            "found": found,
            "is_fsdp2": isinstance(model, FSDPModule),
            "sharded": sharded,
            "weights": len(list(model.parameters())),
        }
        Path(folder).mkdir(parents=True, exist_ok=True)
        torch.save(weights, Path(folder) / f"{way} {what}.pt")
        (Path(folder) / f"{way} {what}.json").write_text(json.dumps(report))


@torch.no_grad()
def fit_distances(way, method, encoder, folder):
    """Fit the statistic of states of a task that abstains, each process on its rows; write that of all rows."""
    _, data, tokenizer = make_multitask(Scenario(batch=1), encoder)
    intent, *others = data.tasks
    model = MultiTaskModel.from_encoder(encoder, [replace(intent, abstain={"method": method}), *others])
    if way == "accelerate":
        model, _, _ = shard_with_accelerate(model, make_optimizer(model))
    model.eval()
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    collate = MultiTaskDataCollator(tokenizer, model.config.tasks)
    rows = list(data["train"])[: 2 * ROWS_PER_STEP]
    collector = StateCollector(model.config.tasks, model.scope_statistics)
    with collector.watching():
        local = collate(rows[rank::world_size])
        collector.add(model(**local).logits, local["labels"], None)
    collector.fit()
    statistic = model(**collate(rows)).logits["intent.scope"]
    stored = model.config.tasks[0].abstention.stored
    Path(folder).mkdir(parents=True, exist_ok=True)
    torch.save({"statistic": statistic, "stored": stored}, Path(folder) / f"{way} {method} {rank}.pt")


def main():
    """Run the given scenarios with `run_schedule`, the loop with both ways of sharding, and fit distances."""
    given = json.loads(sys.argv[1])
    gc.freeze()  # Each training collects garbage; see conftest.py.
    for scenario in given["scenarios"]:
        error = run(Scenario(**scenario), given["encoder"], given["folder"])
        assert error is None, error
    for what in MODELS:
        for way in ("by hand", "accelerate"):
            run_fsdp(way, what, given["encoder"], given["folder"])
    for method in STATE_METHODS:
        fit_distances("accelerate", method, given["encoder"], given["folder"])
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
