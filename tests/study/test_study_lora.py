"""Scenarios of adapters in a study."""

from dataclasses import replace

from hf_multitask import RunConfig, run_study
from hf_multitask.cli.study import print_run, print_study
from hf_multitask.runs.lora import LoraSettings
from hf_multitask.study.run_training import run_config
from hf_multitask.study.study_plan import plan_study


def test_adapters_are_compared_with_the_weights_themselves(config, tmp_path, capsys):
    run = replace(RunConfig.from_file(config), lora=LoraSettings(r=2, target_modules=["query", "value"]))
    study = run_study(run, tmp_path / "study", ["nothing-frozen", "lora", "lora:top:1"], seeds=1, epochs=1)
    print_study(replace(study, advice="Use lora:top:1."))
    print_run("lora:top:1, 8 rows", study.scenarios[2].runs[0], 3, 3)
    printed = capsys.readouterr().out
    assert "Use lora:top:1." in printed
    assert "3/3 lora:top:1, 8 rows" in printed
    whole, lora, top = (scenario.runs[0] for scenario in study.scenarios)
    heads = lora.trainable_parameters - 3 * 2 * 2 * 16 * 2
    assert top.trainable_parameters == heads + 2 * 2 * 16 * 2
    assert whole.trainable_parameters == whole.parameters
    assert lora.parameters == whole.parameters + 3 * 2 * 2 * 16 * 2


def test_only_the_runs_of_adapters_have_any_and_higher_rates(config, tmp_path):
    run = RunConfig.from_file(config, {"training.learning_rate": 1e-4})
    plan, data = plan_study(run, tmp_path, ["nothing-frozen", "lora:top:2"], 1, ["all"], None, None)
    whole, lora = (run_config(plan, planned, data.tasks, tmp_path / "run") for planned in plan.runs)
    assert whole.lora is None
    assert lora.lora == LoraSettings(layers="encoder[-2:]")
    assert (whole.training["learning_rate"], lora.training["learning_rate"]) == (1e-4, 1e-3)
    assert lora.training.keys() == whole.training.keys()
