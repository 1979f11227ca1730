"""Every packet that reaches a block of 127/8, as the system saw it: what no server's log can leave out.

A packet socket on the loopback interface with a filter in the kernel; it needs CAP_NET_RAW.
"""

import ctypes
import select
import socket
import struct
import threading
from dataclasses import dataclass

ETH_P_IP = 0x0800
SO_ATTACH_FILTER, SO_TIMESTAMPNS = 26, 35
SOL_PACKET, PACKET_STATISTICS, PACKET_OUTGOING = 263, 6, 4
RECEIVE_BUFFER = 64_000_000
SYN_WITHOUT_ACK, SYN_AND_ACK = 0x02, 0x12


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet to the block, at the kernel's time in seconds; `begins` says that it asks for a connection."""

    at: float
    address: str
    port: int
    begins: bool


class Packets:
    """Captures while it is entered; `seen` are the packets so far. Raises PermissionError where it must not.

    `block` is the first two octets of the addresses: `127.5`.
    """

    def __init__(self, block):
        self.seen = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._capture, daemon=True)
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)  # nothing comes before it is bound
        first, second = map(int, block.split("."))
        program = [  # destination address & 255.255.0.0 == block: the whole packet, else nothing
            (0x20, 0, 0, 16),
            (0x54, 0, 0, 0xFFFF0000),
            (0x15, 0, 1, first << 24 | second << 16),
            (0x06, 0, 0, 0xFFFF),
            (0x06, 0, 0, 0),
        ]
        octets = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
        attached = struct.pack("HL", len(program), ctypes.addressof(octets))
        self._sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._sock.bind(("lo", ETH_P_IP))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        """Stop, and raise AssertionError where the system had to drop packets: then nothing is proved."""
        self._stop.set()
        self._thread.join()
        _, dropped = struct.unpack("II", self._sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self._sock.close()
        assert dropped == 0, f"{dropped} packets were not seen"

    def _capture(self):
        arriving = select.poll()
        arriving.register(self._sock, select.POLLIN)
        while arriving.poll(100) or not self._stop.is_set():
            while arriving.poll(0):
                packet, [(_, _, clock)], _, where = self._sock.recvmsg(64, 64)
                if where[2] != PACKET_OUTGOING:  # on loopback every packet comes by twice
                    self.seen.append(_read(packet, clock))


def _read(packet, clock):
    seconds, nanoseconds = struct.unpack("qq", clock)
    head = (packet[0] & 0x0F) * 4
    is_tcp = packet[9] == socket.IPPROTO_TCP
    port = int.from_bytes(packet[head + 2 : head + 4])
    begins = is_tcp and packet[head + 13] & SYN_AND_ACK == SYN_WITHOUT_ACK
    return Packet(seconds + nanoseconds / 1e9, socket.inet_ntoa(packet[16:20]), port, begins)
