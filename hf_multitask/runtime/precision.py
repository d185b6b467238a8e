"""Precision of a run, and native bfloat16 of its device."""

import logging

import torch
from transformers import TrainingArguments
from transformers.utils import is_torch_bf16_gpu_available

logger = logging.getLogger(__name__)

# CPU capabilities with bfloat16 arithmetic, of Intel and AMD and of Arm.
BF16_CAPABILITIES = ("avx512_bf16", "amx_bf16", "avx10_2", "bf16", "sve_bf16")


def has_native_bf16(device: torch.device) -> bool:
    """Return whether a device computes natively in bfloat16. Other devices may emulate it, which is slow.

    Args:
        device: The device.

    Returns:
        Whether bfloat16 is native; False for a CPU that this version of torch does not know.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return is_torch_bf16_gpu_available()
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in BF16_CAPABILITIES)
    # Before 2.10, torch reports this only for Intel and AMD.
    known = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(is_supported() for is_supported in known if is_supported)


def log_precision(args: TrainingArguments, dtype: torch.dtype) -> None:
    """Log the precision of a run, and whether it leaves bfloat16 unused or emulates it.

    Args:
        args: Arguments of the run.
        dtype: Data type of the model's weights.
    """
    weights = str(dtype).removeprefix("torch.")
    device = args.device.type
    is_native = has_native_bf16(args.device)
    if args.bf16 or args.fp16:
        line = f"{'bfloat16' if args.bf16 else 'float16'} where autocast allows it, weights in {weights}"
    else:
        line = weights
        if is_native and dtype == torch.float32:
            how = "bf16=true with use_cpu=true" if device == "cpu" else "bf16=true"
            line += f"; this {device} has bfloat16: {how} computes in it"
    logger.info("Precision on %s: %s.", device, line)
    if (args.bf16 or dtype == torch.bfloat16) and not is_native:
        logger.warning(
            "bf16: this %s has no bfloat16 and emulates it, which is slower than float32; leave bf16 out.", device
        )
