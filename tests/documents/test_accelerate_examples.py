"""The files for `accelerate launch`: accelerate reads them, and means by them what they say."""

from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

FOLDER = Path(__file__).parents[2] / "examples" / "accelerate"
NAMES = sorted(path.name for path in FOLDER.glob("*.yaml"))


def parsed(name, *options):
    """Return the arguments of a launch with a file."""
    given = ["--config_file", str(FOLDER / name), *options, "-m", "hf_multitask"]
    return _validate_launch_command(launch_command_parser().parse_args(given))[0]


def test_there_is_a_file_for_each_kind_of_machine():
    assert NAMES == ["2-gpus.yaml", "8-gpus.yaml", "fsdp2.yaml", "two-nodes.yaml"]


@pytest.mark.parametrize("name", NAMES)
def test_accelerate_reads_the_file(name):
    values = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    config = load_config_from_file(str(FOLDER / name))
    assert config.distributed_type.value == values["distributed_type"]
    assert config.num_processes == values["num_processes"]
    # A misspelt key of this part is not refused by accelerate.
    assert all(hasattr(parsed(name), key) for key in values.get("fsdp_config", {}))
    assert f"examples/accelerate/{name}" in (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "processes"), [("2-gpus.yaml", 2), ("8-gpus.yaml", 8)])
def test_one_machine(name, processes):
    arguments = parsed(name)
    assert arguments.multi_gpu
    assert not arguments.use_fsdp
    prepare_multi_gpu_env(arguments)
    assert arguments.nproc_per_node == str(processes)


def test_fsdp2():
    arguments = parsed("fsdp2.yaml")
    assert arguments.use_fsdp
    environment = prepare_multi_gpu_env(arguments)
    assert environment["ACCELERATE_USE_FSDP"] == "true"
    assert environment["FSDP_VERSION"] == "2"
    assert environment["FSDP_AUTO_WRAP_POLICY"] == "TRANSFORMER_BASED_WRAP"
    assert environment["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"


def test_the_layers_of_an_encoder_are_what_fsdp_wraps(model):
    assert "BertLayer" in model._no_split_modules


@pytest.mark.parametrize("rank", [0, 1])
def test_two_machines(rank):
    arguments = parsed("two-nodes.yaml", "--machine_rank", str(rank))
    prepare_multi_gpu_env(arguments)
    assert (arguments.nnodes, arguments.nproc_per_node, arguments.node_rank) == ("2", "8", rank)
