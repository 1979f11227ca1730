"""`python -m lab`: run a lab by hand, or for another process that reads one line of JSON."""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
from pathlib import Path

from lab.population import cell_size
from lab.process import PRESENTED, VISITS
from lab.world import World


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab", description="A small Internet on loopback.")
    parser.add_argument("--domains", type=int, default=cell_size(), metavar="N", help="(default: one of each)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="snapshot, targets, log (default: a new one)")
    parser.add_argument("--hostile", action="store_true", help="servers that mean ill")
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input closes; print JSON")
    arguments = parser.parse_args()
    if arguments.until_eof:  # Ctrl-C is for the one who started us, who then closes our input
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    else:  # a shell that starts us in the background has SIGINT ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        log = stack.enter_context((folder / VISITS).open("w", encoding="utf-8"))
        world = stack.enter_context(World(arguments.domains, folder, log, hostile=arguments.hostile))
        targets = world.write_targets(folder / "domains.csv")
        presented = [(*key, digests) for key, digests in world.presented.items()]
        (folder / PRESENTED).write_text(json.dumps(presented), encoding="utf-8")
        if arguments.until_eof:
            _wait_for_eof(world)
        else:
            _tell(world, targets, folder)


def _wait_for_eof(world: World) -> None:
    where = {"resolver": world.resolver, "port": world.port, "block": world.block, "ipv6": world.ipv6}
    where["https_port"] = world.https_port
    _say(json.dumps(where))
    sys.stdin.read()


def _tell(world: World, targets: Path, folder: Path) -> None:
    for (host, address), fields in world.population.expected_endpoints.items():
        words = (fields.get(name) for name in ("stage", "failure", "client_auth", "eku_class", "hierarchy"))
        _say(f"{address:15} {host:45} {' '.join(str(word) for word in words if word)}")
    _say(
        f"\n{len(world.population.domains)} domains. Scan them, from another terminal:\n\n"
        f"mxcensus scan -f {targets} --resolver {world.resolver} --port {world.port} --trust {world.snapshot} \\\n"
        f"    --mta-sts --mta-sts-port {world.https_port} "
        "--allow-special-purpose --interval 0.2 --per-operator 100 --rate 1000 \\\n"
        "    --ehlo-name census.example --contact me\n\n"
        f"Connections are logged in {folder / VISITS}. Ctrl-C ends it."
    )
    signal.pause()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
