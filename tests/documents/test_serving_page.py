"""The examples of docs/SERVING.md run as they are written, and examples/serve names options that exist."""

import re
import shutil
import subprocess

import pytest

from tests.documents.blocks import ROOT, claim
from tests.serving.conftest import running_server

PAGE = "docs/SERVING.md"
REQUESTS = claim(PAGE, "python", "urlopen")
EXAMPLE = ROOT / "examples" / "serve"


def test_the_requests(save_model, tmp_path):
    save_model(tmp_path / "model")
    with running_server(tmp_path / "model", tmp_path / "server.log") as server:
        names = {}
        text = REQUESTS.changed({"127.0.0.1:8000": f"127.0.0.1:{server.port}"})
        exec(compile(text, PAGE, "exec"), names)
        answer = names["ask"]("/predict", inputs="play jazz")
    assert answer.keys() == {"intent", "slots"}
    log = server.log.read_text(encoding="utf-8")
    assert log.count("POST /predict 200") == 4
    assert log.count("POST /embed 200") == 1


@pytest.mark.parametrize("name", ["Dockerfile", "hf-multitask.service"])
def test_options_in_the_examples_exist(name):
    from hf_multitask.cli.serve_command import serve_command

    text = (EXAMPLE / name).read_text(encoding="utf-8")
    command = re.sub(
        r'[\[\]",]', " ", next(line for line in text.splitlines() if line.startswith(("ENTRYPOINT", "ExecStart")))
    )
    options = re.findall(r"--([a-z-]+)", command[command.index("serve") :])
    assert options
    for option in options:
        assert option.replace("-", "_") in serve_command.__annotations__, option


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_valid(tmp_path):
    """The path of the program is replaced: systemd checks that it is there."""
    unit = tmp_path / "hf-multitask.service"
    text = (EXAMPLE / unit.name).read_text(encoding="utf-8")
    unit.write_text(text.replace("/opt/hf-multitask/bin/hf-multitask", "/bin/true"), encoding="utf-8")
    result = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
