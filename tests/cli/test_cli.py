"""Command line, in this process and through launchers."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
import yaml

import hf_multitask
from hf_multitask import MultiTaskModel, RunConfig, run_evaluation
from hf_multitask.cli import main
from hf_multitask.cli.main import app
from hf_multitask.runs.inspection import inspect_data
from hf_multitask.runs.output_dir import find_last_checkpoint, read_metrics
from tests.tiny import ROWS, save_tiny_run
from tests.waiting import wait_until


@pytest.fixture
def config(tmp_path):
    """Write a config, its data and its encoder to a folder with a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    training = {"num_train_epochs": 2, "learning_rate": 1e-3, "per_device_train_batch_size": 8}
    return save_tiny_run(folder, training, folder / "out")


def start(*arguments, **kwargs):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **kwargs,
    )


def run(*arguments):
    process = start(*arguments)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def test_train_evaluate_predict(config, tmp_path, capsys):
    out = config.parent / "out"
    assert main(["train", str(config), "--training.num_train_epochs", "1"]) == 0
    assert "joint_accuracy" in capsys.readouterr().out

    assert main(["evaluate", str(out), str(config.parent / "test.jsonl"), "--output", str(tmp_path / "m.json")]) == 0
    written = json.loads((out / "metrics.json").read_text())["test"]
    evaluated = json.loads((tmp_path / "m.json").read_text())
    assert evaluated.pop("support") == written.pop("support")
    assert evaluated == pytest.approx(written, rel=1e-5)

    assert main(["predict", str(out), str(config.parent / "test.jsonl"), "--output", str(tmp_path / "p.jsonl")]) == 0
    predictions = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert len(predictions) == len(ROWS[9:])
    for prediction, row in zip(predictions, ROWS[9:], strict=True):
        assert prediction.keys() == {"intent", "slots"}
        assert prediction["intent"].keys() == {"label", "score"}
        assert len(prediction["slots"]["labels"]) == len(row["tokens"])
        for entity in prediction["slots"]["entities"]:
            assert entity.keys() == {"label", "start", "end", "text", "score"}
            assert " ".join(row["tokens"])[entity["start"] : entity["end"]] == entity["text"]


def test_a_model_is_scored_on_rows_with_labels_for_some_of_its_tasks(config, tmp_path, capsys, write_jsonl):
    rows = write_jsonl([{"tokens": row["tokens"], "intent": row["intent"]} for row in ROWS])
    assert main(["train", str(config), "--training.num_train_epochs", "1"]) == 0
    command = ["evaluate", str(config.parent / "out"), str(rows)]
    assert main(command) == 2
    assert "give the `tasks` that they have labels for: intent." in capsys.readouterr().err
    assert main([*command, "--tasks", "intent"]) == 0
    printed = capsys.readouterr().out
    assert "intent_accuracy" in printed
    assert "slots" not in printed


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["predict"], ["inspect"], ["quickstart"]])
def test_help_is_everywhere(command, capsys):
    assert main([*command, "--help"]) == 0
    assert "Usage:" in capsys.readouterr().out


def test_help_shows_a_list_of_groups_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["train", "--help"]) == 0
    assert "--freeze '[encoder, head.intent]'" in capsys.readouterr().out


def test_an_existing_model_needs_overwrite_or_resume(config, capsys):
    short = ["train", str(config), "--training.num_train_epochs", "1"]
    assert main(short) == 0
    assert main(short) == 2
    assert "already contains a model. Use --overwrite" in capsys.readouterr().err
    assert main([*short, "--overwrite"]) == 0
    assert main(["train", str(config), "--resume"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trainig.seed", "1"], "unknown key 'trainig'. Did you mean 'training'"),
        (["--freeze", "[head.slot]"], "unknown group 'head.slot'. Did you mean 'head.slots'"),
        (["--encoder", "./nowhere"], "'./nowhere': the folder does not exist"),
        (["--training.seed", "x"], "training.seed: expected a whole number, found 'x'"),
    ],
)
def test_errors_are_one_line_and_status_2(arguments, message, config, capsys):
    assert main(["train", str(config), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (config.parent / "out").exists()


def test_a_model_of_another_kind_is_refused(config, capsys):
    assert main(["evaluate", str(config.parent / "encoder"), str(config.parent / "test.jsonl")]) == 2
    assert "expected a multi-task model, found a model of type 'bert'" in capsys.readouterr().err


@pytest.mark.parametrize("frozen", ["encoder", "[encoder, head.intent]", "[encoder, head.intent, head.slots]"])
def test_freezing_from_the_command_line(frozen, config):
    assert main(["train", str(config), "--freeze", frozen, "--training.num_train_epochs", "1"]) == 0
    model = MultiTaskModel.from_pretrained(config.parent / "out")
    untouched = MultiTaskModel.from_encoder(config.parent / "encoder", model.config.tasks)
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, untouched.encoder.state_dict()[name])


@pytest.mark.distributed
@pytest.mark.slow
def test_two_processes_train_what_one_does(config):
    """Without dropout, 2 × 4 rows per step result in the weights and scores of 1 × 8."""
    encoder_config = json.loads((config.parent / "encoder" / "config.json").read_text())
    encoder_config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (config.parent / "encoder" / "config.json").write_text(json.dumps(encoder_config))
    values = yaml.safe_load(config.read_text())
    for task in values["tasks"]:
        task["dropout"] = 0.0
    values["training"] |= {"optim": "sgd", "learning_rate": 0.05}
    config.write_text(yaml.safe_dump(values))
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29511"]
    command = ["-m", "hf_multitask", "train", config, "--training.use_cpu", "true", "--output_dir"]

    run(*launch, *command, config.parent / "two", "--training.per_device_train_batch_size", "4")
    run(*command, config.parent / "one")

    one, two = (MultiTaskModel.from_pretrained(config.parent / name).state_dict() for name in ("one", "two"))
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-5), name
    state = json.loads((find_last_checkpoint(config.parent / "two") / "trainer_state.json").read_text())
    assert state["train_batch_size"] == 4
    assert state["global_step"] == 4, "16 rows, 2 epochs, 8 rows a step on two processes"
    scores = read_metrics(config.parent / "two")
    assert run_evaluation(config.parent / "two", config.parent / "test.jsonl") == pytest.approx(
        scores["test"], rel=1e-4
    )


@pytest.mark.slow
def test_accelerate_launch(config):
    output = run(
        "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "-m", "hf_multitask", "train", config
    )
    assert "joint_accuracy" in output
    assert (config.parent / "out" / "metrics.json").is_file()


def test_training_in_stages_says_what_happens_and_what_each_stage_gave(config):
    output = run("-m", "hf_multitask", "train", config, "--freeze", "heads-then-all", "--training.num_train_epochs", 3)
    assert "stage 'heads' starts: only head.intent and head.slots train." in output
    assert "stage 'all' starts (stage 'heads' is at its bound): everything trains." in output
    (row,) = [line for line in output.splitlines() if "trainable parameters" in line]
    heads, everything = (int(cell.replace(",", "")) for cell in row.split("│")[2:4])
    assert 0 < heads < everything


@pytest.mark.slow
def test_an_interrupt_leaves_the_last_checkpoint_usable(config):
    out = config.parent / "out"
    process = start(
        *("-m", "hf_multitask", "train", config, "--training.num_train_epochs", "2000"),
        cwd=config.parent,
        # Tests that run in the background ignore the signal, and their children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until(lambda: find_last_checkpoint(out) is not None)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert re.search(r"resume from .+checkpoint-\d+ with --resume", output)
    assert "Traceback" not in output
    checkpoint = find_last_checkpoint(out)
    steps = int(checkpoint.name.removeprefix("checkpoint-"))
    epochs = str(steps // 2 + 2)
    assert main(["train", str(config), "--resume", "--training.num_train_epochs", epochs]) == 0
    assert (out / "metrics.json").is_file()


def test_inspect_prints_the_counts(config, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["inspect", str(config), "--data.max_length", "6", "--rows", "1"]) == 0
    output = capsys.readouterr().out
    cells = {
        row[0]: row[1:] for line in output.splitlines() if (row := [cell.strip() for cell in line.split("│")[1:-1]])
    }
    counts = inspect_data(RunConfig.from_file(config, {"data.max_length": 6})).datasets[0].splits
    train, test = counts["train"], counts["test"]
    assert cells["rows"] == ["16", "9", "13"]
    assert cells["rows over 6 subwords"][0] == (
        f"{train.windowed_rows} in {train.windows} windows ({train.cut_share:.2%})"
    )
    assert train.windowed_rows > 0
    assert cells["rows that are also in train"] == [
        "",
        "9, 0 with other labels",
        f"{test.also_in['train'].rows}, 0 with other labels",
    ]
    assert cells["PlayMusic"] == [str(split.tasks["intent"].labels["PlayMusic"]) for split in counts.values()]
    assert cells["B-place"][0] == str(sum("B-place" in row["slots"] for row in ROWS[:16]))
    assert f"{config.parent / 'train.jsonl'}:1\n" in output
    assert f"{config.parent / 'train.jsonl'}:2\n" not in output
    assert "intent: PlayMusic" in output


def test_inspect_shows_what_is_broken_or_unseen(config, write_jsonl, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    rows = [{"tokens": ["in", "rome"], "intent": "Fly", "slots": ["O", "I-place"]}]
    write_jsonl(rows, config.parent / "test.jsonl")
    assert main(["inspect", str(config), "--rows", "0"]) == 0
    output = capsys.readouterr().out
    assert f"{config.parent / 'test.jsonl'}:1: slots: 'I-place' (word 1, 'rome') breaks the rule" in output
    assert "expected 'B-place'" in output
    cells = {
        row[0]: row[1:] for line in output.splitlines() if (row := [cell.strip() for cell in line.split("│")[1:-1]])
    }
    assert cells["intent: labels that are not in train"] == ["0", "0", "1"]
    assert cells["Fly"] == ["0", "0", "1 unseen"]
    assert cells["slots: rows with broken tags"] == ["0", "0", "1"]


def test_inspect_as_json_writes_nothing_else_to_stdout(config):
    picture = config.parent / "data.png"
    command = [sys.executable, "-m", "hf_multitask", "inspect", config, "--json", "--picture", picture, "--rows=2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == inspect_data(RunConfig.from_file(config), num_rows=2).to_dict()
    assert picture.read_bytes().startswith(b"\x89PNG")
    # No bars either, as it is no terminal.
    assert result.stderr == f"Figure written to {picture}\n"


@pytest.mark.parametrize(
    ("picture", "message"),
    [("data.gif", "expected a file that ends with .png or .svg"), ("data.png", "pip install 'hf-multitask[plots]'")],
)
def test_a_picture_that_can_not_be_drawn_is_refused_at_once(picture, message, config, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["inspect", str(config), "--encoder", "./nowhere", "--picture", picture]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["nope"], "No such command 'nope'"),
        (["train"], "Missing argument 'CONFIG'"),
        (["plan", "nowhere.yaml"], "nowhere.yaml: there is no such file."),
        (["init", "a", "nowhere.csv"], "nowhere.csv: there is no such file."),
        (["train", "aa"], "aa: there is no such file. Did you mean 'a'?"),
        (["predict", "a", "b"], "Missing option '--output'"),
        (["predict", "a", "b", "--outputt", "c"], "No such option: --outputt. Did you mean --output?"),
        (["train", "a", "--overwite"], "option --overwite has no value. Did you mean '--overwrite'?"),
        (["predict", "a", "b", "--output", "c", "--top-k", "0"], "--top-k"),
        (["predict", "a", "b", "--output", "c", "--workers", "-1"], "--workers"),
        (["inspect", "a", "--rows", "-1"], "--rows"),
        (["evaluate", "a", "b", "--batch-size", "0"], "--batch-size"),
        (["evaluate", "a", "b", "--batch-size", "x"], "--batch-size"),
        (["app", "--port", "99999999"], "--port"),
        (["study", "a", "--seeds", "0"], "--seeds"),
        (["study", "a", "--processes", "0"], "--processes"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line_and_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").touch()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert "--help." in error or "--overwrite" in error


def test_without_arguments_there_is_help(capsys):
    assert main([]) == 2
    assert "predict" in capsys.readouterr().out


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hf-multitask {hf_multitask.__version__}\n"


COMMANDS = list(typer.main.get_command(app).commands)

HELP = """
import sys
sys.argv = ["hf-multitask"]  # as the installed program
from hf_multitask.cli import main
for command in COMMANDS:
    assert main([*command, "--help"]) == 0
assert main(["train", "nowhere.yaml"]) == main(["init", "nowhere.csv"]) == 2
print([name for name in ("torch", "transformers", "datasets", "accelerate") if name in sys.modules])
"""


def test_help_of_every_command_and_missing_files_load_no_library():
    commands = [[], *([name] for name in COMMANDS)]
    assert len(commands) > 12
    output = run("-c", HELP.replace("COMMANDS", repr(commands)))
    assert output.splitlines()[-1] == "[]"
    assert output.count("Usage:") == len(commands)


@pytest.mark.parametrize("command", [[], ["train"]])
def test_help_answers_in_a_second(command):
    times = []
    for _ in range(3):
        begin = os.times()
        run("-m", "hf_multitask", *command, "--help")
        times.append(sum(os.times()[2:4]) - sum(begin[2:4]))
    assert min(times) < 1, "seconds of computation, whatever else the machine does"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands(shell):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment |= {"_HF_MULTITASK_COMPLETE": f"complete_{shell}", "COMP_WORDS": "hf-multitask ev", "COMP_CWORD": "1"}
    environment |= {"_TYPER_COMPLETE_ARGS": "hf-multitask ev", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    found = subprocess.run(
        [sys.executable, "-m", "hf_multitask"], env=environment, capture_output=True, text=True, check=False
    )
    assert "evaluate" in found.stdout
    assert "predict" not in found.stdout


def test_a_run_that_fails_has_status_1(config, capsys):
    """Usage is status 2; a run that was valid and could not be finished is another thing."""
    rate = ["--training.learning_rate", "1e30", "--training.max_grad_norm", "0"]
    assert main(["train", str(config), *rate]) == 1
    assert "not finite" in capsys.readouterr().err


def test_a_reader_of_a_pipe_may_end_early():
    command = f"{sys.executable} -m hf_multitask --help | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    found = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode in (0, 1)
    assert "Traceback" not in found.stderr
    assert "error:" not in found.stderr


def test_all_names_are_listed():
    assert set(hf_multitask.__all__) <= set(dir(hf_multitask))
    names = run("-c", "import hf_multitask; print(*dir(hf_multitask))").split()
    assert set(hf_multitask.__all__) <= set(names)
    for name in hf_multitask.__all__:
        assert getattr(hf_multitask, name).__name__ == name
