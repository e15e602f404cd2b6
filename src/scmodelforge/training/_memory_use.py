"""How much memory a device has, how much is free, and how much was in use at most."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

__all__ = ["free_memory", "peak_bytes", "total_memory"]

_STATUS = Path("/proc/self/status")
_MEMINFO = Path("/proc/meminfo")
#: Limit of a container and what it uses: of version 2 of control groups, and of version 1.
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"), Path("/sys/fs/cgroup/memory.stat")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.stat"),
    ),
)


def total_memory(device: torch.device) -> int:
    """Return the bytes of a device, or of the machine or container."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    limits = [limit for limit, _ in _limits()]
    return min([_of_machine("MemTotal"), *limits])


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be allocated without swapping, killing or failing."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    left = [max(0, limit - used) for limit, used in _limits()]
    return min([_of_machine("MemAvailable"), *left])


def peak_bytes(device: torch.device) -> int:
    """Return the most bytes this process had in use, on the device or else on the host."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return 0
    if _STATUS.is_file():  # where a process does not begin with the peak of the one that started it, as below
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _of_machine(name: str) -> int:
    """Return an entry of the kernel's list in bytes; elsewhere the machine's memory, or half of it as available."""
    if _MEMINFO.is_file():
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 8 << 30
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return physical // (2 if name == "MemAvailable" else 1)


def _limits() -> list[tuple[int, int]]:
    """Return limits below the machine's memory, each with what is used of it: of the container and of the process."""
    found = []
    for limit, used, stat in _CGROUPS:
        text = limit.read_text().strip() if limit.is_file() else "max"
        if text != "max":
            found.append((int(text), int(used.read_text()) - _reclaimable(stat)))
    if sys.platform == "linux":
        import resource

        space = resource.getrlimit(resource.RLIMIT_AS)[0]
        if space != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            found.append((space, pages * os.sysconf("SC_PAGE_SIZE")))
    return found


def _reclaimable(stat: Path) -> int:
    """Return the bytes of files kept in memory that go when it is needed."""
    lines = stat.read_text().splitlines() if stat.is_file() else []
    return sum(int(line.split()[1]) for line in lines if line.split()[0] in ("inactive_file", "total_inactive_file"))
