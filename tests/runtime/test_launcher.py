"""What a launcher leaves to the ranks: its environment variables, their places, and its own death."""

import os
import signal
import socket
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
import torch.distributed as dist
from helpers.photos import REPOSITORY

from pyimagesearch.runtime import distributed, launcher
from pyimagesearch.runtime.errors import UserError

ONE_RANK = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29876"}


@pytest.fixture
def environment(monkeypatch):
    """environment(RANK="1") sets those of one rank and these; None removes one."""

    def set_all(**variables):
        for name, value in {**ONE_RANK, "LOCAL_RANK": None, "LOCAL_WORLD_SIZE": None, **variables}.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize(
    "variables, named",
    [
        ({"MASTER_ADDR": None, "MASTER_PORT": None}, "not MASTER_ADDR and MASTER_PORT;"),
        ({"MASTER_PORT": None}, "not MASTER_PORT;"),
        ({"RANK": "first"}, "RANK is 'first'"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE is '-1'"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT is 'http'"),
        ({"LOCAL_RANK": ""}, "LOCAL_RANK is ''"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 and WORLD_SIZE is 2"),
        ({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "1"}, "LOCAL_RANK is 1 and LOCAL_WORLD_SIZE is 1"),
        ({"MASTER_PORT": "99999"}, "port must have value from 0 to 65535"),
    ],
    ids=str,
)
def test_an_incomplete_or_wrong_environment_is_named(environment, variables, named):
    environment(**variables)
    with pytest.raises(UserError, match=named):
        distributed.start("ddp")
    assert not dist.is_initialized()


def test_a_port_in_use_is_named(environment):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        environment(MASTER_PORT=str(port))
        with pytest.raises(UserError, match=f"127.0.0.1:{port}.*in use"):
            distributed.start("ddp")


@pytest.mark.parametrize("rank", ["0", "1"])
def test_ranks_that_do_not_come_are_named_by_host_and_port(environment, monkeypatch, rank):
    monkeypatch.setattr(distributed, "JOIN_TIMEOUT", timedelta(seconds=1))
    environment(RANK=rank, WORLD_SIZE="2")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:29876"):
        distributed.start("ddp")


def test_a_complete_environment_of_one_rank_is_joined(environment):
    environment(MASTER_PORT="0")
    with distributed.started() as launch:
        assert (launch.parallel, distributed.world_size()) == ("ddp", 1)
    assert not dist.is_initialized()


def test_nproc_is_refused_where_a_launcher_has_started_this_process(environment):
    environment()
    with pytest.raises(UserError, match="--nproc 2"):
        launcher.run_by_torchrun("train_distributed.py", [], 2)


@pytest.mark.parametrize(
    "places, named",
    [
        ([["a", 0, None]], None),
        ([["a", 0, "0"], ["a", 0, "1"]], None),
        ([["a", 2, "0"], ["a", 2, "1"], ["b", 1, "0"]], None),
        ([["a", 1, None], ["b", 1, None]], None),
        ([["a", 2, None], ["b", 2, "0"], ["a", 2, None]], "2 ranks run on a, and rank 0 has no LOCAL_RANK"),
        ([["a", 0, None], ["a", 0, "1"]], "2 ranks run on a, and rank 0 has no LOCAL_RANK"),
        ([["a", 2, "0"], ["b", 0, "0"]], "rank 0 on a has 2 GPUs and rank 1 on b has 0"),
        ([["a", 2, "0"], ["a", 2, "1"], ["a", 2, "2"]], "a has 2 GPUs, and rank 2 there has LOCAL_RANK 2"),
    ],
)
def test_ranks_that_do_not_fit_the_gpus_of_their_hosts_are_named(places, named):
    fault = distributed.misplaced(places)
    assert fault is None if named is None else named in fault


def test_misplaced_ranks_all_end_and_one_says_why(monkeypatch):
    monkeypatch.setattr(distributed, "_store", dist.HashStore(), raising=False)
    monkeypatch.setenv("LOCAL_RANK", "0")
    ended = {}

    def rank(number: int, gpus: int) -> None:
        try:
            distributed._check_places(number, 2, gpus)
        except (UserError, SystemExit) as error:
            ended[number] = error

    ranks = [threading.Thread(target=rank, args=numbers) for numbers in ((0, 0), (1, 4))]
    for thread in ranks:
        thread.start()
    for thread in ranks:
        thread.join(30)
    assert isinstance(ended[0], UserError) and "has 0 GPUs" in str(ended[0])
    assert isinstance(ended[1], SystemExit) and ended[1].code == 2


@pytest.mark.parametrize(
    "exitcodes, status, printed",
    [
        ({0: 1, 1: -signal.SIGKILL}, 137, "error: rank 1 was killed by SIGKILL; "),
        ({0: -signal.SIGSEGV, 1: -signal.SIGTERM}, 139, "error: rank 0 was killed by SIGSEGV\n"),
        ({0: -signal.SIGTERM, 1: 2}, 2, ""),
        ({0: -signal.SIGTERM}, 143, ""),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="processes of Windows are not killed by signals")
def test_nproc_says_which_rank_was_killed(capsys, exitcodes, status, printed):
    assert launcher._status(exitcodes) == status
    err = capsys.readouterr().err
    assert err.startswith(printed) and len(err.splitlines()) == bool(printed)


# a rank that its stop signal does not end, as in a collective
STUCK = """
import signal, sys, time
from pyimagesearch.runtime import launcher
launcher.GRACE_S = 1
signal.signal(signal.SIGTERM, lambda *_: print("asked to stop", flush=True))
launcher.end_with_launcher()
open(sys.argv[1], "w")
time.sleep(4)
print("alive", flush=True)
"""
# a launcher that dies when its rank has begun
LAUNCHER = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", *sys.argv[1:]])
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
os._exit(0)
"""


@pytest.mark.skipif(os.name == "nt", reason="a process of Windows keeps its parent's number")
@pytest.mark.parametrize(
    "variables, printed", [({"TORCHELASTIC_RUN_ID": "job"}, "asked to stop\n"), (ONE_RANK, "alive\n")]
)
def test_a_rank_ends_after_torchrun_even_when_it_is_stuck_and_goes_on_after_other_parents(tmp_path, variables, printed):
    environment = {name: value for name, value in os.environ.items() if name != "TORCHELASTIC_RUN_ID"} | variables
    command = [sys.executable, "-c", LAUNCHER, STUCK, str(tmp_path / "begun")]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout == printed
