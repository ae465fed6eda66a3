"""Samples what load generator and engine cost, twice a second, until it is stopped.

Usage: watch.py K6_PID ENGINE_PID_FILE DATA_DIRECTORY

Prints one line a sample: time, CPU ticks of k6, CPU ticks of the engine, resident KiB of the engine, idle and all ticks of
the machine, bytes of the data directory. The engine's number is read anew each time, because a scenario may kill it.
"""

import os
import sys
import time


def ticks(pid):
    """User and system ticks of a process; 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            # The name stands in brackets and may hold spaces.
            fields = file.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        return 0


def resident_kib(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def machine():
    with open("/proc/stat", encoding="ascii") as file:
        figures = [int(text) for text in file.readline().split()[1:9]]
    return figures[3] + figures[4], sum(figures)


def size(directory):
    total = 0
    for where, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(where, name)).st_blocks * 512
            except OSError:
                pass
    return total


def main():
    k6, engine_file, data = sys.argv[1:4]
    bytes_on_disk = 0
    for sample in range(1 << 40):
        try:
            with open(engine_file, encoding="ascii") as file:
                engine = file.read().strip()
        except OSError:
            engine = "none"
        if sample % 10 == 0:
            bytes_on_disk = size(data)
        idle, everything = machine()
        row = (time.time_ns() // 1_000_000, ticks(k6), ticks(engine), resident_kib(engine), idle, everything, bytes_on_disk)
        print(*row, sep="\t", flush=True)
        time.sleep(0.5)


main()
