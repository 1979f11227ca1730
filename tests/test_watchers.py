"""Who is told of connections: the log, the metrics, and whoever reads along with --verbose."""

import asyncio
import contextlib
import json
import socket
import stat
import threading
import urllib.request
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families
from smtpfake import GREETING, server_context, serving
from test_lab_scan import EHLO_NAME, mxcensus
from test_session import contact, says

from lab.world import World
from mxcensus import connection_log
from mxcensus.cli import build_parser, main
from mxcensus.commands.fleet import own_options
from mxcensus.commands.scan import make_plan
from mxcensus.inputs import listening_address
from mxcensus.metrics import serving as serving_metrics
from mxcensus.plan import BadPlan
from mxcensus.steps import make_steps
from scanner.records import Endpoint, Failure, Observation, Stage, Status
from scanner.scan import Progress

START = datetime(2026, 3, 1, 12, 0, 0, 5000, tzinfo=UTC)
SEEN = Observation(
    Endpoint("mx.test", "192.0.2.1", 25), 1, Status.FAILED, Stage.GREETING, Failure.MALFORMED, START, 12,
    source="192.0.2.9 4711", octets_in=100, octets_out=7, detail="\x1b[2J\r\n\u202e\udc80\u2028 café",
)  # fmt: skip


# ------------------------------------------------------------------------------------------------- octets


@contextlib.contextmanager
def relayed(port):
    """A port that leads to `port`, and the octets that went each way."""
    count = Counter()
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(one, other, way):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                count[way] += len(data)
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def relay():
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            back = threading.Thread(target=pump, args=(server, client, "in"))
            back.start()
            pump(client, server, "out")
            back.join()

    thread = threading.Thread(target=relay)
    thread.start()
    yield listener.getsockname()[1], count
    thread.join()
    listener.close()


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_octets_of_a_session_over_tls_are_those_on_the_wire(version):
    def script(peer):
        peer.until_starttls()
        peer.tls(server_context(version))
        peer.rest()

    with serving(script) as (port, _), relayed(port) as (near, count):
        seen = await contact(near)
    assert seen.failure is None
    assert (seen.octets_in, seen.octets_out) == (count["in"], count["out"])
    assert min(count.values()) > 300


async def test_octets_in_clear_text_and_our_own_end():
    replies = GREETING, b"250 mx.test\r\n", b"221 bye\r\n"
    with serving(says(*replies)) as (port, _):
        seen = await contact(port)
    assert seen.octets_in == sum(map(len, replies))
    assert seen.octets_out == len(b"EHLO scanner.example\r\nQUIT\r\n")
    assert seen.source.startswith("127.0.0.1 ")
    refused = await contact(port)
    assert (refused.failure, refused.source, refused.octets_in) == (Failure.REFUSED, None, 0)


# ---------------------------------------------------------------------------------------------------- log


def lines_of(path):
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def test_a_line_is_printable_ascii_whatever_the_server_wrote(tmp_path):
    path = tmp_path / "log"
    with connection_log.opened(path) as log:
        log.ended(SEEN)
        log.cut_off(SEEN.endpoint, 2, START)
    text = path.read_bytes()
    assert all(0x20 <= octet < 0x7F or octet == 0x0A for octet in text)
    first, second = lines_of(path)
    assert first == {
        "time": "2026-03-01T12:00:00.005Z", "mx_host": "mx.test", "address": "192.0.2.1", "port": 25, "attempt": 1,
        "source": "192.0.2.9 4711", "duration_ms": 12, "octets_in": 100, "octets_out": 7, "status": "failed",
        "stage": "greeting", "failure": "malformed", "reply_code": None, "detail": SEEN.detail,
    }  # fmt: skip
    assert (second["attempt"], second["status"]) == (2, "interrupted")


def test_the_log_is_rotated_and_every_file_is_its_owner_s_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(connection_log, "FILE_BYTES", 1000)
    monkeypatch.setattr(connection_log, "FILES", 3)
    path = tmp_path / "log"
    with connection_log.opened(path) as log:
        for number in range(100):
            log.ended(replace(SEEN, attempt=number))
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log", "log.1", "log.2", "log.3"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert all(file.stat().st_size <= 1000 for file in files)
    kept = [line["attempt"] for file in reversed(files) for line in lines_of(file)]
    assert kept == list(range(100 - len(kept), 100))


def test_a_log_is_appended_to(tmp_path):
    for _ in range(2):
        with connection_log.opened(tmp_path / "log") as log:
            log.ended(SEEN)
    assert len(lines_of(tmp_path / "log")) == 2


def test_a_full_disk_is_said_once_and_lost_lines_are_counted(tmp_path, capsys):
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    with connection_log.opened(path) as log:
        for _ in range(5):
            log.ended(SEEN)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "No space left" in said[0]
    assert "5 connections could not be logged" in said[1]


async def test_a_session_that_is_cut_off_has_a_line(tmp_path):
    arguments = build_parser().parse_args(["scan", "a.example", "--allow-special-purpose"])
    with (
        connection_log.opened(tmp_path / "log") as log,
        serving(says(GREETING, end="silence")) as (port, peers),
    ):
        steps = make_steps(make_plan(arguments), None, [log])
        session = asyncio.ensure_future(steps.probe(Endpoint("mx.test", "127.0.0.1", port), 1))
        async with asyncio.timeout(20):
            while not peers or not peers[0].received:  # noqa: ASYNC110  the server is a thread
                await asyncio.sleep(0.01)
        session.cancel()
        with pytest.raises(asyncio.CancelledError):
            await session
    (line,) = lines_of(tmp_path / "log")
    assert (line["address"], line["port"], line["status"]) == ("127.0.0.1", port, "interrupted")


# ------------------------------------------------------------------------------------------ the whole program


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(40, tmp_path_factory.mktemp("lab")) as world:
        yield world


def scan_arguments(world, *more):
    return (
        "scan", "--resolver", world.resolver, "--port", world.port, "--trust", world.snapshot,
        "--ehlo-name", EHLO_NAME, "--contact", "the tests", "--allow-special-purpose", "--interval", "0.1",
        "--per-operator", "200", "--rate", "2000", "--timeout", "10", "--seed", "7", *more,
    )  # fmt: skip


def test_the_log_has_a_line_for_every_connection_that_the_servers_saw(world, tmp_path):
    targets = world.write_targets(tmp_path / "domains.csv")
    before = len(world.visits)
    mxcensus(tmp_path, *scan_arguments(world, "-f", targets, "--connection-log", "log", "--json"))
    lines = lines_of(tmp_path / "log")
    connected = Counter(line["address"] for line in lines if line["stage"] != "connect")
    assert connected == Counter(visit.address for visit in world.visits[before:])
    assert {line["failure"] for line in lines if line["stage"] == "connect"} <= {
        "refused",
        "unreachable",
        "timeout",
    }
    assert all(line["octets_out"] > 0 for line in lines if line["stage"] not in {"connect", "greeting"})


def test_verbose_explains_a_session_line_by_line(world, tmp_path):
    said = mxcensus(tmp_path, *scan_arguments(world, "good-0.example", "--verbose", "--json")).stderr
    told = [line.partition("]:")[2].partition(" ")[2] for line in said.splitlines() if "]:" in line]
    kinds = [line[:2] for line in told]
    assert kinds[:2] == ["*:", "S:"]  # connected, greeting
    commands = [line for line in told if line.startswith("C:")]
    assert commands == [f"C: EHLO {EHLO_NAME}", "C: STARTTLS", f"C: EHLO {EHLO_NAME}", "C: QUIT"]
    shaken = next(line for line in told if line.startswith("*: TLS: "))
    assert told.index("C: STARTTLS") < told.index(shaken) < len(told) - told[::-1].index(commands[2])
    assert any(line.startswith("*: certificate 0: ") and "EKU" in line for line in told)
    assert "octets in" in told[-1]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--connection-log", "missing/log"], "No such file"),
        (["--metrics", "127.0.0.1:PORT"], "in use"),
        (["--metrics", "somewhere"], "not HOST:PORT"),
        (["--metrics", "127.0.0.1:99999"], "not HOST:PORT"),
    ],
)
def test_what_cannot_be_opened_is_said_in_a_line_before_anything_begins(
    tmp_path, monkeypatch, capsys, option, words
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        option = [word.replace("PORT", str(taken.getsockname()[1])) for word in option]
        assert main(["scan", "a.example", "--resolver", "127.0.0.1:9", *option]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert words in said
    assert list(tmp_path.glob("census.db*")) == []


# ------------------------------------------------------------------------------------------------ metrics


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def read_metrics(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def test_metrics_count_what_happened_and_name_nobody():
    progress = Progress(phase="probe", domains=5, in_flight=3, parked=2, stopped_operators={"secret.example"})
    port = free_port()
    with serving_metrics(("127.0.0.1", port), progress) as metrics:
        metrics.ended(SEEN)
        metrics.ended(replace(SEEN, status=Status.MEASURED, stage=Stage.QUIT, failure=None, duration_ms=1000))
        metrics.ended(SEEN)
        metrics.cut_off(SEEN.endpoint, 1, START)
        found = read_metrics(port)
        progress.in_flight = 4
        assert read_metrics(port)["mxcensus_sessions_in_flight",] == 4
    failed = ("failure", "malformed"), ("stage", "greeting"), ("status", "failed")
    assert found["mxcensus_sessions_total", *failed] == 2
    assert found["mxcensus_sessions_total", ("failure", "none"), ("stage", "quit"), ("status", "measured")] == 1
    assert found["mxcensus_octets_total", ("direction", "in")] == 300
    assert found["mxcensus_octets_total", ("direction", "out")] == 21
    assert found["mxcensus_sessions_cut_off_total",] == 1
    assert found["mxcensus_session_seconds_sum",] == pytest.approx(1.024)
    assert found["mxcensus_session_seconds_count",] == 3
    assert found["mxcensus_domains_routed_total",] == 5
    assert found["mxcensus_operators_stopped",] == 1
    assert [found["mxcensus_phase", ("phase", phase)] for phase in ("route", "select", "probe")] == [0, 0, 1]
    assert not [key for key in found if "secret" in str(key) or "192.0.2" in str(key)]


def test_a_port_can_be_had_again_once_metrics_are_closed():
    port = free_port()
    for _ in range(2):
        with serving_metrics(("127.0.0.1", port), Progress()):
            with pytest.raises(BadPlan, match="in use"), serving_metrics(("127.0.0.1", port), Progress()):
                pass
            assert read_metrics(port)["mxcensus_domains_routed_total",] == 0


@pytest.mark.parametrize(
    ("words", "own"),
    [
        ([], []),
        (["--metrics", "9100"], ["--metrics", "[127.0.0.1]:9102"]),
        (["--metrics", "[::1]:9100"], ["--metrics", "[::1]:9102"]),
        (["--connection-log", "log"], ["--connection-log", "log.2"]),
    ],
)
def test_each_process_of_a_fleet_worker_has_a_log_and_a_port_of_its_own(words, own):
    arguments = build_parser("fleet").parse_args(["fleet", "worker", *words])
    assert own_options(arguments, 2) == own
    again = build_parser("fleet").parse_args(["fleet", "worker", *words, *own])
    assert listening_address(again.metrics, "--metrics") in {None, ("127.0.0.1", 9102), ("::1", 9102)}
