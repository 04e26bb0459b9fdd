"""Training across two hosts: network namespaces joined by a veth pair, each with a torchrun of its own."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.kill_and_resume import REPOSITORY, draw_dataset, identical

FLAGS = ["--weights", "none", "--image-size", "32", "--global-batch-size", "8", "--amp", "off", "--freeze-bn"]
HOSTS = {"fc-h1": "10.77.0.1", "fc-h2": "10.77.0.2"}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def hosts():
    if os.name == "nt" or os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    if not shutil.which("ip"):
        pytest.skip("making network namespaces needs the ip command of iproute2")
    try:
        for host in HOSTS:
            ip("netns", "add", host)
        ip("link", "add", "fc-v1", "netns", "fc-h1", "type", "veth", "peer", "name", "fc-v2", "netns", "fc-h2")
        for (host, address), device in zip(HOSTS.items(), ("fc-v1", "fc-v2"), strict=True):
            ip("-n", host, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", host, "link", "set", device, "up")
            ip("-n", host, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        remove_hosts()
        pytest.skip(f"this machine makes no network namespaces: {error.stderr.strip()}")
    yield list(HOSTS)
    remove_hosts()


def remove_hosts() -> None:
    for host in HOSTS:
        subprocess.run(["ip", "netns", "del", host], check=False, capture_output=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_dataset(tmp_path_factory.mktemp("data"), {"training": 13, "validation": 3, "evaluation": 3})


def start_on(
    host: str, log: Path, data: Path, output: Path, *flags: str, nodes: str = "2", launcher=()
) -> subprocess.Popen:
    """torchrun on one of the hosts, one process each; the first one keeps the rendezvous. It prints into `log`."""
    number = list(HOSTS).index(host)
    command = ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run", f"--nnodes={nodes}"]
    command += ["--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-endpoint=10.77.0.1:29400", "--rdzv-id=two-hosts"]
    command += [
        f"--rdzv-conf=is_host={int(number == 0)},last_call_timeout=5,join_timeout=120",
        f"--local-addr={HOSTS[host]}",
    ]
    command += [*launcher, str(REPOSITORY / "train_distributed.py"), "--data", str(data), "--output", str(output)]
    # no name server answers in a namespace: ask briefly
    network = {"GLOO_SOCKET_IFNAME": f"fc-v{number + 1}", "OMP_NUM_THREADS": "1", "RES_OPTIONS": "timeout:1 attempts:1"}
    # pytorch issue 135712: a restart may meet the addresses of the processes before it
    # and a host that joins later waits for an address that is announced in the first round only
    network["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    with open(log, "a") as file:
        return subprocess.Popen(
            [*command, *FLAGS, *flags], env={**os.environ, **network}, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip


def processes_of(host: str) -> list[int]:
    listed = subprocess.run(["ip", "netns", "pids", host], capture_output=True, text=True, check=True)
    return [int(number) for number in listed.stdout.split()]


def cut_off(host: str) -> None:
    """What a power cut leaves of a host: nothing."""
    for number in processes_of(host):
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_for(found, seconds: float, *logs: Path) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "\n\n".join(log.read_text()[-3000:] for log in logs)
        time.sleep(0.05)


def test_two_hosts_train_the_model_that_one_process_trains(hosts, data, tmp_path):
    logs = [tmp_path / f"{host}.log" for host in hosts]
    flags = ["--epochs", "2"]
    agents = [start_on(host, log, data, tmp_path / "two", *flags) for host, log in zip(hosts, logs, strict=True)]
    assert [agent.wait(240) for agent in agents] == [0, 0], "\n".join(log.read_text() for log in logs)
    assert "EPOCH: 2/2" in logs[0].read_text() + logs[1].read_text()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(REPOSITORY / "train_distributed.py"), "--data", str(data), "--output", str(tmp_path / "one")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *FLAGS, *flags], check=True, env=environment, capture_output=True, timeout=240)
    assert identical(tmp_path / "two" / "food_classifier.pth", tmp_path / "one" / "food_classifier.pth")


def test_a_run_continues_without_a_lost_host_and_takes_it_back(hosts, data, tmp_path):
    logs = [tmp_path / f"{host}.log" for host in hosts]
    output = tmp_path / "output"
    flags = ["--epochs", "40", "--checkpoint-every", "1"]
    elastic = {"nodes": "1:2", "launcher": ["--max-restarts=5"]}
    first = start_on(hosts[0], logs[0], data, output, *flags, **elastic)
    second = start_on(hosts[1], logs[1], data, output, *flags, **elastic)

    def told(pattern: str) -> int:
        return sum(len(re.findall(pattern, log.read_text())) for log in logs)

    def epochs() -> int:
        return told(r"EPOCH: \d+/40")

    try:
        wait_for(lambda: len(processes_of(hosts[1])) > 1 and epochs() >= 1, 180, *logs)
        cut_off(hosts[1])
        second.wait(30)
        wait_for(lambda: told("resuming after") >= 1, 180, *logs)  # alone
        alone_at = epochs()
        wait_for(lambda: epochs() > alone_at, 120, *logs)
        second = start_on(hosts[1], logs[1], data, output, *flags, **elastic)
        wait_for(lambda: told("resuming after") >= 2, 180, *logs)  # together again
        together_at = epochs()
        wait_for(lambda: epochs() > together_at, 120, *logs)
        assert len(processes_of(hosts[1])) > 1
    finally:
        for host in hosts:
            cut_off(host)
        for agent in (first, second):
            agent.wait(30)
