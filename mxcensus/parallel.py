"""Applies a function to many items in copies of this process, one a processor, and gives the results in order.

Copies are made by fork: they have all that this process has in memory, and only results travel back. Where there
is one processor or no safe fork, everything happens here.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 100
"""Results that travel together."""


def processors() -> int:
    """How many processors this process may use; 1 where it cannot be copied."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def mapped(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """`function` of each item, in order. Results have to be picklable; an exception of a copy ends it and this."""
    workers = min(workers, (len(items) + CHUNK - 1) // CHUNK)
    if workers < 2:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(workers)]
    processes = [
        context.Process(target=_work, args=(function, items, range(number, _chunks(items), workers), sending))
        for number, (_, sending) in enumerate(pipes)
    ]
    try:
        for process in processes:
            process.start()
        for _, sending in pipes:
            sending.close()
        for number in range(_chunks(items)):
            yield from _received(pipes[number % workers][0])
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()
        for receiving, _ in pipes:
            receiving.close()


def _chunks(items: Sequence[object]) -> int:
    return (len(items) + CHUNK - 1) // CHUNK


def _work(
    function: Callable[[Item], Result], items: Sequence[Item], numbers: range, sending: "Connection[Any, Any]"
) -> None:
    """In the copy: the chunks of these numbers, one after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who ends us
    for number in numbers:
        sending.send([function(item) for item in items[number * CHUNK : (number + 1) * CHUNK]])


def _received(receiving: "Connection[Any, Any]") -> list[Any]:
    try:
        found: list[Any] = receiving.recv()
    except EOFError:
        raise RuntimeError("a copy of this process ended before its work; see its own message above") from None
    return found
