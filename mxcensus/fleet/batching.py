"""Questions to the database that come one by one and are answered together, a transaction for all that wait."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Batcher(Generic[Question, Answer]):
    """`answer` gets every question that came in `seconds` or while it was busy, and answers in the same order."""

    def __init__(self, answer: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]], seconds: float) -> None:
        self._answer = answer
        self._seconds = seconds
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, question: Question) -> Answer:
        """The answer; whatever `answer` raises is raised to everybody who waited for it."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._seconds)
            batch, self._waiting = self._waiting, []
            try:
                answers = await self._answer([question for question, _ in batch])
            except Exception as error:  # noqa: BLE001  # it is theirs who asked
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():  # its asker may have been cancelled
                    future.set_result(answer)
