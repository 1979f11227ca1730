"""A network namespace joined to this one by a pair of virtual interfaces: a machine whose cable can be pulled.

What listens on this side's loopback is reached from there, so that a program of the lab runs there unchanged. It
needs root and the command `ip`; nothing but the two interfaces is made, and they go with the namespace.
"""

import os
import shutil
import subprocess
from itertools import count
from pathlib import Path

_numbers = count()


def missing():
    """Why there can be no namespace here, or None."""
    if shutil.which("ip") is None:
        return "the command ip is missing (apt-get install iproute2)"
    if os.getuid() != 0:
        return "network namespaces need root"
    name = f"mxcp{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False, timeout=10)
    if made.returncode:
        return "this machine gives no network namespaces"
    subprocess.run(["ip", "netns", "del", name], check=True, timeout=10)
    return None


class Namespace:
    """One, at `address`; `prefix` before a command runs it there, `cut` pulls the cable, `close` removes it."""

    def __init__(self):
        number = os.getpid() * 16 + next(_numbers)
        self.name = f"mxc{number}"
        self._here, there = f"{self.name}h", f"{self.name}n"
        third, fourth = number // 64 % 256, number % 64 * 4
        ours, self.address = (f"10.213.{third}.{fourth + host}" for host in (1, 2))
        self.prefix = ("ip", "netns", "exec", self.name)
        self._run("ip", "netns", "add", self.name)
        try:
            self._run("ip", "link", "add", self._here, "type", "veth", "peer", "name", there, "netns", self.name)
            self._run("ip", "address", "add", f"{ours}/30", "dev", self._here)
            self._run(*self.prefix, "ip", "address", "add", f"{self.address}/30", "dev", there)
            self._run("ip", "link", "set", self._here, "up")
            self._run(*self.prefix, "ip", "link", "set", there, "up")
            # There the loopback device stays down, and loopback's addresses are this side's.
            setting = "/proc/sys/net/ipv4/conf/{}/route_localnet"
            Path(setting.format(self._here)).write_text("1")
            self._run(*self.prefix, "sh", "-c", f"echo 1 > {setting.format(there)}")
            self._run(*self.prefix, "ip", "route", "add", "127.0.0.0/8", "via", ours, "dev", there)
        except Exception:
            self.close()
            raise

    def cut(self):
        """From now on no packet passes, and nobody is told."""
        self._run("ip", "link", "set", self._here, "down")

    def close(self):
        self._run("ip", "netns", "del", self.name)

    @staticmethod
    def _run(*command):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
        assert done.returncode == 0, (command, done.stderr)
