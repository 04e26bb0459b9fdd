"""The available cores are those of this process, not of the machine."""

import pytest
import torch

from pyimagesearch import config
from pyimagesearch.runtime import distributed, threads


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"/sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"/sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({}, 64),
    ],
)
def test_a_container_has_the_cores_of_its_quota(files, expected, monkeypatch):
    def read_text(path):
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: range(64), raising=False)
    monkeypatch.setattr(threads.Path, "read_text", read_text)
    assert threads.available_cores() == expected


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_torch_takes_no_more_threads_than_a_rank_has_cores(monkeypatch, device):
    taken = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(config, "DEVICE", torch.device(device))
    monkeypatch.setattr(distributed, "available_cores", lambda: 3)
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    distributed.start("none")
    assert taken == [3]
