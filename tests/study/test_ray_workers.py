"""Studies and races on a cluster of Ray on this machine, of which a node is killed in the middle."""

import json
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from hf_multitask import RunConfig, run_race, run_study
from hf_multitask.runtime import extras
from hf_multitask.study import race_rungs
from hf_multitask.study.ray_workers import Share, _share

PAIR = ["encoder-frozen", "nothing-frozen"]


@pytest.mark.parametrize(
    ("nodes", "processes", "share"),
    [
        ([{"CPU": 8}, {"CPU": 4}], 1, Share(4, 0)),
        ([{"CPU": 8}, {"CPU": 4}], 3, Share(1, 0)),
        ([{"CPU": 8}, {"memory": 1}], 2, Share(4, 0)),
        # A run for each GPU, on the machines that have some.
        ([{"CPU": 16, "GPU": 4}, {"CPU": 2}], 1, Share(4, 1)),
        ([{"CPU": 16, "GPU": 1}], 2, Share(8, 0.5)),
        ([{"CPU": 2}], 8, Share(1, 0)),
    ],
)
def test_the_share_of_a_run_fits_each_node(nodes, processes, share):
    assert _share(nodes, processes) == share


@pytest.fixture
def cluster(monkeypatch):
    """Start three nodes on the loopback address; the one that the study connects to trains nothing."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'hf-multitask[ray]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # The processes of the nodes would yield to every other test.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    memory = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    cluster.lost = cluster.add_node(num_cpus=1, **memory)
    cluster.add_node(num_cpus=1, **memory)
    yield cluster
    cluster.shutdown()


def scores(folder):
    """Return what each training of a study has scored, row by row."""
    records = {}
    for path in sorted(folder.glob("runs/**/record.json")):
        values = json.loads(path.read_text())
        records[path.relative_to(folder).as_posix()] = (values["metrics"], values["rows"], values["drift"])
    return records


@pytest.mark.distributed
@pytest.mark.slow
def test_a_study_loses_a_node_and_has_the_results_of_one_machine(cluster, config, tmp_path):
    run_config = RunConfig.from_file(config)
    run_study(run_config, tmp_path / "alone", PAIR, seeds=2)
    folder, lost = tmp_path / "cluster", []

    def kill():
        worker, run = stopped_training(cluster.lost, folder)
        cluster.remove_node(cluster.lost, allow_graceful=False)
        lost.append((run, (folder / run / "record.json").exists()))
        worker.kill()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    names = []
    study = run_study(
        run_config, folder, PAIR, seeds=2, ray_address=cluster.address, on_run=lambda name, *_: names.append(name)
    )
    thread.join(timeout=60)
    [(run, was_finished)] = lost
    assert not was_finished
    assert (folder / run / "record.json").exists()
    assert len(set(names)) == len(names) == 4
    assert scores(folder) == scores(tmp_path / "alone")
    assert study.skipped == []


def stopped_training(node, folder):
    """Stop a process of a node in the middle of a training, and return it with the folder of the run."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    while True:
        for worker in raylet.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                # The process that trains a run has its lock open.
                for claimed in {Path(file.path).parent for file in worker.open_files()}:
                    if claimed.is_relative_to(folder) and (claimed / "training").exists():
                        worker.suspend()
                        if (claimed / "training").exists() and not (claimed / "record.json").exists():
                            return worker, claimed.relative_to(folder)
                        worker.resume()
        time.sleep(0.01)


@pytest.mark.distributed
@pytest.mark.slow
def test_a_race_on_a_cluster_decides_as_on_one_machine(cluster, config, tmp_path, monkeypatch):
    monkeypatch.setattr(race_rungs, "MIN_ROWS", 4)
    run_config = RunConfig.from_file(config)
    here = run_race(run_config, tmp_path / "here", PAIR, seeds=1)
    there = run_race(run_config, tmp_path / "there", PAIR, seeds=1, ray_address=cluster.address)
    assert scores(tmp_path / "there") == scores(tmp_path / "here")
    assert (there.winner, there.runner_up, there.difference) == (here.winner, here.runner_up, here.difference)


def test_without_ray_the_message_says_what_to_install(config, tmp_path, monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "ray", ("ray_is_not_here",))
    with pytest.raises(ImportError, match=r"a study on a cluster needs .*pip install 'hf-multitask\[ray\]'"):
        run_study(RunConfig.from_file(config), tmp_path / "study", PAIR, ray_address="auto")
