"""A lab in a process of its own: what it costs is not the scanner's, and the scanner may be killed beside it.

The child is `python -m lab --folder DIR --until-eof`; it says on one line where it listens, and stops when its
standard input closes, so that it never outlives who started it.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Self

from lab.population import Population
from lab.talk import Visit
from lab.world import Expectations, lay_out, write_targets

VISITS = "visits.jsonl"
PRESENTED = "presented.json"


class LabError(Exception):
    """The lab did not start; the text says why."""


class WorldProcess:
    """Like `lab.world.World`, but apart. `visits` has the finished ones only."""

    def __init__(self, count: int, folder: Path, *, hostile: bool = False) -> None:
        self._count = count
        self._hostile = hostile
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.population = Population()
        self.snapshot = folder / "trust"
        self.resolver = ""
        self.port = self.https_port = 0

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "lab", "--domains", str(self._count), "--folder", str(self._folder)]
        command += ["--until-eof", *(["--hostile"] if self._hostile else [])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.__exit__()
            raise LabError("the lab ended before it had begun")
        said = json.loads(line)
        self.resolver, self.port, self.https_port = said["resolver"], said["port"], said["https_port"]
        self.population = lay_out(self._count, said["block"], ipv6=said["ipv6"], hostile=self._hostile)
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()
        process.wait()

    @property
    def visits(self) -> list[Visit]:
        """Every finished connection that the servers saw so far."""
        lines = (self._folder / VISITS).read_text(encoding="utf-8").split("\n")[:-1]  # the last may be half written
        return [Visit(**json.loads(line)) for line in lines]

    @property
    def expected(self) -> Expectations:
        presented = json.loads((self._folder / PRESENTED).read_text(encoding="utf-8"))
        return Expectations(self.population, {(host, address): digests for host, address, digests in presented})

    def write_targets(self, path: Path) -> Path:
        """The lab's domains as CSV with weights, for `scan -f`."""
        return write_targets(self.population, path)
