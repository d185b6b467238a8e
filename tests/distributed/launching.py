"""Launch programs on several processes of this machine."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import psutil
import torch

from tests.distributed.run_schedule import run

ROOT = Path(__file__).parents[2]
TIMEOUT = 240

# The launcher of accelerate starts several processes on the CPU only with the type MULTI_GPU and use_cpu. With
# `accelerate launch --cpu`, or the type MULTI_CPU without MPI, it starts one process.
ACCELERATE_CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
use_cpu: true
num_machines: 1
num_processes: {processes}
machine_rank: 0
main_process_port: 0
mixed_precision: 'no'
"""


class Launch:
    """Results of a launched program."""

    def __init__(self, returncode, output, folder):
        self.returncode, self.output, self.folder = returncode, output, folder

    def report(self, name):
        return json.loads((self.folder / f"{name}.json").read_text())

    def weights(self, name):
        return torch.load(self.folder / f"{name}.pt")


def torchrun(processes):
    return ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]


def accelerate(processes, folder):
    config = folder / "accelerate.yaml"
    config.write_text(ACCELERATE_CONFIG.format(processes=processes))
    return ["-m", "accelerate.commands.launch", "--config_file", str(config)]


def launch(launcher, program, folder, scenarios, encoder):
    """Run scenarios with a module of the tests. No process that it starts outlives it."""
    given = {"encoder": str(encoder), "folder": str(folder), "scenarios": [asdict(scenario) for scenario in scenarios]}
    argument = json.dumps(given)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    process = subprocess.Popen(
        [sys.executable, *launcher, "-m", f"tests.{program}", argument],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        # torchrun gives each worker a separate session, so no signal to a process group reaches the workers.
        for started in [*psutil.Process(process.pid).children(recursive=True), process]:
            started.kill()
        output, _ = process.communicate()
        raise AssertionError(f"still running after {TIMEOUT} s:\n{output[-5000:]}") from None
    return Launch(process.returncode, output, folder)


def launch_scenarios(launcher, scenarios, encoder, folder):
    """Run scenarios with `run_schedule`, and check that all succeed."""
    done = launch(launcher, "distributed.run_schedule", folder, scenarios, encoder)
    assert done.returncode == 0, done.output[-5000:]
    return done


def largest_difference(weights, others):
    assert weights.keys() == others.keys()
    return max((weights[name] - others[name]).abs().max().item() for name in weights)


def difference_to_one_process(done, scenario, encoder, folder):
    """Train the scenario in this process only, and return the largest difference of a weight."""
    folder = folder / "alone"
    error = run(scenario.alone(), str(encoder), folder)
    assert error is None
    weights = torch.load(folder / f"{scenario.name}.pt")
    return largest_difference(weights, done.weights(scenario.name))
