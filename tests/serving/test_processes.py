"""Servers that are started and ended: signals, lost workers, full queues, tokens, logs, and missing models."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from benchmarks.serving_processes import Clients

from tests.serving.http_client import Client
from tests.tiny import SENTENCES
from tests.waiting import wait_until

LONG = " ".join(SENTENCES * 40)
TOKEN = "s3cret-🔑"


@pytest.fixture(scope="module")
def narrow(start):
    """Start a server with a token and a short queue, which logs nothing but errors."""
    options = ["--token", TOKEN, "--max-queue", "4", "--max-texts", "4", "--max-batch", "1", "--log", "errors"]
    with start(*options, "--allow-origin", "https://example.org") as running:
        yield running
    assert running.process.returncode == 0


def ask(port, inputs, token=TOKEN):
    with Client(port) as client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}".encode()}
        return client.send("/predict", json.dumps({"inputs": inputs}).encode(), headers)


@pytest.mark.parametrize("token", [None, "", "s3cret", TOKEN + "x", "Bearer"])
def test_without_the_token_nothing_is_answered(narrow, token):
    status, headers, _ = ask(narrow.port, "play", token)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    with Client(narrow.port) as client:
        assert [client.send(path)[0] for path in ("/model", "/metrics", "/other")] == [401] * 3
        assert [client.send(path)[0] for path in ("/health", "/ready")] == [200] * 2


def test_with_the_token_a_request_is_answered(narrow):
    assert ask(narrow.port, "play")[0] == 200


def test_pages_of_an_allowed_origin_alone_may_read_answers(narrow):
    with Client(narrow.port) as client:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        for origin, allowed in (("https://example.org", True), ("https://example.com", False)):
            status, headers, _ = client.send("/predict", None, {**asked, "Origin": origin}, "OPTIONS")
            assert (status == 200) == allowed
            assert (headers["Access-Control-Allow-Origin"] == origin) == allowed


def test_a_full_queue_says_when_to_try_again(narrow):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(narrow.port, [LONG] * 2), range(32)))
    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {200, 429}
    full = next(headers for status, headers, _ in answers if status == 429)
    assert int(full["Retry-After"]) >= 1
    assert ask(narrow.port, "play")[0] == 200


def test_sigterm_finishes_what_is_in_flight(narrow):
    """This ends the server of this module; its exit status is checked by the fixture."""
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(ask, narrow.port, [LONG] * 2) for _ in range(2)]
        time.sleep(0.3)
        os.kill(narrow.process.pid, signal.SIGTERM)
        assert [future.result()[0] for future in running] == [200] * 2
    assert narrow.process.wait(30) == 0
    with pytest.raises(ConnectionRefusedError):
        ask(narrow.port, "play")


def test_logs_have_no_texts(server):
    check_log(server, has_texts=False)


def test_logs_have_texts_if_asked(start):
    with start("--log", "texts") as running:
        check_log(running, has_texts=True)


def check_log(running, has_texts):
    with Client(running.port) as client:
        client.predict("zanzibar")
        client.post("/predict", {"inputs": {"text": "zanzibar", "tokens": ["zanzibar", "other"]}})
        client.send("/zanzibar?text=zanzibar", b"{}")
        client.send("/predict", b'{"inputs": "zanzibar')
        client.get("/health")
    text = running.log.read_text(encoding="utf-8")
    assert "POST /predict 200" in text
    assert ("zanzibar" in text) == has_texts


@pytest.mark.slow
def test_a_killed_worker_loses_only_its_requests(start):
    bodies = [json.dumps({"inputs": sentence}) for sentence in SENTENCES]
    with start("--workers", "2", "--log", "errors") as running:
        clients = Clients(running, 16)
        clients.send(bodies * 4)
        first, second = running.workers
        clients.begin(bodies, seconds=4)
        time.sleep(1)
        first.kill()
        (result,) = clients.end()
        assert result["statuses"].keys() == {"200"}
        assert 0 < result["broken"] <= 32, result["broken"]
        assert sum(result["statuses"].values()) > 10 * result["broken"]
        wait_until(lambda: len(running.workers) >= 2, seconds=60)
        assert second in running.workers
        assert len(running.workers) == 2
        with Client(running.port) as client:  # the metrics of all workers, those of the killed one included
            lines = client.get("/metrics").decode().splitlines()
        counted = [float(line.split()[-1]) for line in lines if 'endpoint="/predict",status="200"' in line]
        assert sum(counted) >= sum(result["statuses"].values())
        assert "a worker ended with status -9; another takes its place." in running.log.read_text(encoding="utf-8")
        clients.close()
    assert running.process.returncode == 0


@pytest.mark.slow
def test_a_worker_that_cannot_start_again_leaves_the_others_alone(start, served_folder, tmp_path):
    folder = shutil.copytree(served_folder, tmp_path / "model")
    with start("--workers", "2", folder=folder) as running:
        (folder / "config.json").rename(tmp_path / "config.json")
        first, second = running.workers
        first.kill()
        wait_until(lambda: "It is tried again in" in running.log.read_text(encoding="utf-8"))
        assert "error: " in running.log.read_text(encoding="utf-8")
        assert running.workers == [second]
        assert ask(running.port, "play", None)[0] == 200
        (tmp_path / "config.json").rename(folder / "config.json")
        wait_until(lambda: running.log.read_text(encoding="utf-8").count("ready: ") == 3)
        assert len(running.workers) == 2
    assert running.process.returncode == 0


@pytest.mark.slow
def test_workers_that_are_told_to_stop_give_back_what_they_have_opened(start):
    with start("--workers", "2") as running:
        assert ask(running.port, "play", None)[0] == 200
    assert running.process.returncode == 0
    lines = [line for line in running.log.read_text(encoding="utf-8").splitlines() if "INFO" not in line]
    assert not [line for line in lines if "leaked" in line or "Error" in line], lines


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a process cannot be killed there without its workers")
def test_workers_end_with_the_process_that_started_them(start):
    with start("--workers", "2") as running:
        workers = running.workers
        running.process.kill()
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive
        with pytest.raises(ConnectionRefusedError):
            ask(running.port, "play", None)


def serve(folder, *options):
    command = [sys.executable, "-m", "hf_multitask", "serve", str(folder), "--port", "0", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_model_that_cannot_be_loaded_ends_the_start(tmp_path):
    result = serve(tmp_path / "missing")
    assert result.returncode == 2
    assert re.fullmatch("error: .*missing.*", result.stderr.strip()), result.stderr


@pytest.mark.slow
def test_workers_that_cannot_load_the_model_end_the_start(served_folder):
    result = serve(served_folder, "--workers", "2", "--backend", "onnx")
    assert result.returncode == 2
    assert "error: backend 'onnx': " in result.stderr
    assert "has no onnx/model.onnx" in result.stderr
    assert "error: a worker could not start; its error is above." in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_in_use_ends_the_start(served_folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        used = serve(served_folder, "--port", str(port))
    assert used.returncode == 2
    assert f"127.0.0.1:{port} cannot be used" in used.stderr
