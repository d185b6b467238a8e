"""The commands of docs/RESULTS.md run as they are written, on few rows and with a tiny encoder."""

import json
from pathlib import Path

import yaml

from tests.documents.blocks import claim, run_commands
from tests.tiny import config_of_two_datasets

PAGE = "docs/RESULTS.md"
SCORES = claim(PAGE, "bash", "scores-2e-4.json")
CHOSEN = claim(PAGE, "bash", "benchmark.py defaults")
MIX = claim(PAGE, "bash", "benchmark.py mix")


def test_the_benchmark_of_chosen_settings(folder, encoder, benchmark):
    (folder / "snips").mkdir()
    for split in ("train", "validation", "test"):
        Path(f"{split}.jsonl").rename(folder / "snips" / f"{split}.jsonl")
    shorter = {"--data ../shared/data": f"--data . --encoder {encoder} --seeds 0", "given standard": "given quick"}
    run_commands(CHOSEN, shorter, {"python scripts/benchmark.py": benchmark})
    runs = json.loads(Path("defaults.json").read_text())["runs"]
    assert [run["settings"] for run in runs] == ["given", "quick"]
    assert all("joint_accuracy" in run["test"] for run in runs)


def test_the_benchmarks_of_the_scores(folder, encoder, benchmark):
    programs = {"python scripts/benchmark.py": benchmark}
    run_commands(
        SCORES, {"--data ../shared/data/snips": f"--data . --encoder {encoder} --epochs 1 --seeds 0"}, programs
    )
    assert json.loads(Path("scores.json").read_text())["benchmark"] == "scores"
    files = {split: f"{split}.jsonl" for split in ("train", "validation", "test")}
    config = config_of_two_datasets(encoder, files, "out/mix")
    (folder / "mix.yaml").write_text(yaml.safe_dump(config))
    run_commands(MIX, {"examples/wnut17-clinc150.yaml --seeds 0 1 2 3 4": "mix.yaml --seeds 0"}, programs)
    assert json.loads(Path("mix.json").read_text())["benchmark"] == "mix"
