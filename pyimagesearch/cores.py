"""How many cores this process may use."""

import os


def available_cores() -> int:
    """The cores that this process may use: its affinity, and on Linux what the container (cgroup) grants."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _cgroup_cores(default=cores)))


def _cgroup_cores(default: int) -> int:
    """CPU time granted per period, in cores: cgroup v2's cpu.max ("200000 100000" is two), else v1's two files."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        try:
            with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as file:
                quota = file.read().strip()
            with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as file:
                period = file.read().strip()
        except OSError:
            return default
    return default if quota in ("max", "-1") else max(1, round(int(quota) / int(period)))
