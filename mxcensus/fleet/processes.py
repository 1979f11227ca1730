"""Several workers on one machine: one process a core, started and stopped together."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType


def run_all(commands: Sequence[Sequence[str]]) -> int:
    """Run a process of this program for each command; the worst exit status when all have ended.

    Signals are passed on to all. A process that ends by itself is not started again: whoever supervises this one
    (systemd, a container engine) does that for all. The first to end badly ends the others.
    """
    children = [subprocess.Popen([sys.executable, "-m", "mxcensus", *arguments]) for arguments in commands]

    def pass_on(number: int, _frame: FrameType | None) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    statuses: list[int] = []
    for child in children:
        status = child.wait()
        statuses.append(status if status >= 0 else 128 - status)
        if status:
            pass_on(signal.SIGTERM, None)
    return max(statuses)
