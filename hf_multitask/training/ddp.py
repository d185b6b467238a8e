"""DDP for a set of trainable weights that changes during training."""

from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def rebuild_ddp(model: nn.Module, handler: DistributedDataParallelKwargs | None) -> None:
    """Let DDP reduce exactly the weights that train now.

    DDP is initialized again in place. It stays the same object for everything that refers to it: the training loop,
    accelerate, the trainer.

    Args:
        model: The wrapped model. Nothing happens if no DDP wraps it.
        handler: Accelerate's settings of DDP.
    """
    ddp = getattr(model, "_orig_mod", model)  # torch.compile wraps DDP
    if not isinstance(ddp, DistributedDataParallel):
        return
    handler = handler or DistributedDataParallelKwargs()
    # mypy: calling __init__ on an instance is unusual, and the point here.
    ddp.__init__(  # type: ignore[misc]
        ddp.module, device_ids=ddp.device_ids, output_device=ddp.output_device, init_sync=False, **handler.to_kwargs()
    )
    handler.register_comm_hook(ddp)
