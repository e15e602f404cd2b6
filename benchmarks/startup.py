"""CPU seconds of starting up: importing the package and printing the help. Aims: 0.1 and 0.3."""

from __future__ import annotations

import resource
import subprocess
import sys

AIMS = {"import scmodelforge": 0.1, "scmodelforge --help": 0.3}
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import scmodelforge": [sys.executable, "-c", "import scmodelforge"],
    "scmodelforge --help": [sys.executable, "-m", "scmodelforge", "--help"],
}


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    print(f"{'command':24} {'CPU s (median of 5)':>20} {'over bare python':>18} {'aim':>6}")
    bare = 0.0
    for name, command in COMMANDS.items():
        median = sorted(cpu_seconds(command) for _ in range(5))[2]
        bare = bare or median
        print(f"{name:24} {median:20.2f} {median - bare:18.2f} {AIMS.get(name, ''):>6}")


if __name__ == "__main__":
    main()
