"""A farm of STARTTLS servers in a process of its own: one listener answers on every address of 127.0.0.0/8.

`python benchmarks/farm.py [LATENCY_MS]` prints its port and serves until its standard input closes. Every reply is
delayed by the latency. The certificate is ECDSA P-256, its issuer is presented too.
"""

import asyncio
import ssl
import sys
import tempfile
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lab.authority import Authority, Leaf


def context() -> ssl.SSLContext:
    issued, listed = Authority().issue(Leaf("server+client"), "farm.test")
    key = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.pem"
        path.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in listed) + key)
        made.load_cert_chain(path)
    return made


async def main(latency: float) -> None:
    tls = context()
    loop = asyncio.get_running_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(data: bytes) -> None:
            if latency:
                await asyncio.sleep(latency)
            writer.write(data)

        try:
            await say(b"220 farm.test ESMTP Postfix\r\n")
            await reader.readline()
            await say(b"250-farm.test\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 8BITMIME\r\n")
            await reader.readline()
            await say(b"220 2.0.0 ready\r\n")
            await writer.start_tls(tls)
            await reader.readline()
            await say(b"250-farm.test\r\n250 8BITMIME\r\n")
            await reader.readline()
            await say(b"221 2.0.0 bye\r\n")
        except (OSError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "0.0.0.0", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0))
