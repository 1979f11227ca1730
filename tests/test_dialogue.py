"""The dialogue by itself, without a connection: what arrives when."""

import asyncio

from scanner.dialogue import Dialogue


class Silent(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.sent = b""

    def write(self, data):
        self.sent += data

    def is_closing(self):
        return False


async def test_a_greeting_that_comes_before_it_is_waited_for_is_not_lost():
    # An event loop may read from a new connection before the task that made it goes on.
    dialogue = Dialogue()
    dialogue.connection_made(Silent())
    dialogue.data_received(b"220 mx.test ESMTP\r\n")
    assert (await dialogue.greeting(1)).code == 220


async def test_a_reply_is_the_answer_to_one_command_only():
    dialogue = Dialogue()
    transport = Silent()
    dialogue.connection_made(transport)
    dialogue.data_received(b"220 mx.test ESMTP\r\n")
    await dialogue.greeting(1)
    asking = asyncio.ensure_future(dialogue.command("EHLO a.test", 1))
    await asyncio.sleep(0)
    dialogue.data_received(b"250 mx.test\r\n")
    assert (await asking).code == 250
    assert transport.sent == b"EHLO a.test\r\n"
