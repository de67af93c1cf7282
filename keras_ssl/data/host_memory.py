"""The free memory of the machine or the container."""

import pathlib
from collections.abc import Iterator

GIB = 2**30
_CGROUPS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


def free_host_memory() -> float | None:
    """Returns the bytes that are left in the container or on the machine; `None` if unknown.

    Example:
        >>> free_host_memory() / GIB
        14.2
    """
    found = [*left_in_cgroup(pathlib.Path("/sys/fs/cgroup"))]
    found += [*left_in_cgroup(pathlib.Path("/sys/fs/cgroup/memory"))]
    meminfo = pathlib.Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            found.append(int(lines["MemAvailable"].split()[0]) * 1024.0)
    return min(found, default=None)


def left_in_cgroup(folder: pathlib.Path) -> Iterator[float]:
    """Yields the bytes that a control group has left, if it has a limit.

    Args:
        folder: the group's directory, of version 1 or 2.
    """
    for limit, usage in _CGROUPS:
        try:
            most, used = (int((folder / name).read_text()) for name in (limit, usage))
            lines = (folder / "memory.stat").read_text().splitlines()
            cached = int(dict(line.split() for line in lines).get("inactive_file", 0))
        except (OSError, ValueError):  # no such file, or no limit
            continue
        yield float(most - used + cached)  # the kernel drops cached files first
