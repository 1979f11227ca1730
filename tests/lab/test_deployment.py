"""docker-compose.yml, by the rules of compose files, and its processes with their settings, natively.

No container engine is needed: commands and environment are read from the file, and only what containers would
provide (host names, ports, the folder of secrets) is put in their place.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import postgres
import pytest
from conftest import need
from fleets import Fleet

from lab.mta.process import program
from lab.world import World

compose_spec = pytest.importorskip("compose_spec", reason="NOT TESTED: compose-spec is not installed")
pytest.importorskip("procrastinate", reason="NOT TESTED: the extra fleet is not installed")

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = compose_spec.PyCompose.from_yaml(TEXT)
SERVICES = COMPOSE.services
OURS = ("migrate", "worker", "dashboard", "census")
LONG_RUNNING = ("postgres", "unbound", "worker", "dashboard")


def test_the_file_is_a_compose_file():
    COMPOSE.validate()
    with pytest.raises(ValueError, match="restrat"):
        compose_spec.PyCompose.from_yaml(TEXT.replace("restart:", "restrat:", 1))


def test_what_is_measured_has_the_settings_that_are_shipped():
    given = set(SERVICES["postgres"].command)
    assert {f"{name}={value}" for name, value in postgres.SHIPPED.items()} <= given


def test_the_services_of_a_census_are_there():
    assert set(LONG_RUNNING) | set(OURS) | {"prometheus"} <= set(SERVICES)
    assert [name for name in SERVICES if SERVICES[name].profiles] == ["census", "prometheus", "postgres-exporter"]


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_what_runs_long_has_limits_and_is_started_again(name):
    limits = SERVICES[name].deploy.resources.limits
    assert limits.memory
    assert limits.cpus
    assert SERVICES[name].restart == "unless-stopped"
    assert SERVICES[name].healthcheck or name == "worker"


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_do_little(name):
    service = SERVICES[name]
    assert service.read_only
    assert service.cap_drop == {"ALL"}
    assert "no-new-privileges:true" in service.security_opt
    assert not service.privileged
    assert set(service.secrets) <= set(COMPOSE.secrets)


def test_images_run_as_nobody_in_particular_and_secrets_are_files():
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")[1:]
    assert len(stages) == 2
    assert all("\nUSER " in stage and "USER root" not in stage for stage in stages)
    assert all("file" in str(secret) for secret in COMPOSE.secrets.values())
    assert ":@" not in TEXT
    for service in SERVICES.values():
        for name, value in (service.environment or {}).items():
            secret = any(word in name for word in ("PASS", "TOKEN"))
            assert not secret or str(value).startswith("/run/secrets/"), name


def test_the_resolver_s_settings_are_ones_that_unbound_takes(tmp_path):
    check = program("unbound-checkconf")
    if check is None:
        need("unbound is missing")
    settings = (
        (ROOT / "deploy/unbound.conf").read_text().replace("/usr/share/dns/root.key", str(tmp_path / "root.key"))
    )
    (tmp_path / "root.key").write_text(". IN DS 20326 8 2 " + "ab" * 32 + "\n")
    (tmp_path / "unbound.conf").write_text(settings)
    done = subprocess.run(
        [check, tmp_path / "unbound.conf"], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr


class Stack:
    """The services of the file as processes of this machine."""

    def __init__(self, folder, places):
        self.folder = folder
        self._places = places
        self._processes = []
        (folder / "secrets").mkdir()
        for name in COMPOSE.secrets:
            (folder / "secrets" / name).write_text(f"secret of {name}")

    def start(self, name):
        service = SERVICES[name]
        environment = {key: self._native(str(value)) for key, value in service.environment.items()}
        command = [self._native(word) for word in service.command]
        assert command.pop(0) == "mxcensus"
        process = subprocess.Popen(
            ["sh", ROOT / "deploy/entrypoint.sh", sys.executable, "-m", "mxcensus", *command],
            env={"PATH": os.environ["PATH"], "XDG_CONFIG_HOME": str(self.folder)} | environment,
            cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._processes.append(process)
        return process

    def _native(self, word):
        for container, here in self._places.items():
            word = word.replace(container, here)
        return word

    def close(self):
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.communicate(timeout=60)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def init_database(cluster, folder, url):
    """What deploy/init-database.sh does in the container, on the tests' cluster."""
    name = url.partition("@/")[2].partition("?")[0]
    environment = {
        "PATH": os.environ["PATH"], "POSTGRES_USER": "postgres", "POSTGRES_DB": name,
        "PGHOST": str(cluster.directory),
        "ROLES": str(ROOT / "storage/roles.sql"), "SECRETS": str(folder / "secrets"),
    }  # fmt: skip
    subprocess.run(
        ["sh", ROOT / "deploy/init-database.sh"], check=True, env=environment, timeout=30, capture_output=True
    )
    return name


@pytest.mark.lab
@pytest.mark.xdist_group("fleet")
@pytest.mark.timeout(200)
def test_the_same_processes_with_the_same_settings_do_a_census(postgresql, tmp_path):
    if shutil.which("psql") is None:
        need("psql is missing")
    with ExitStack() as stack:
        world = stack.enter_context(World(20, tmp_path))
        url = postgresql.database()
        stack.callback(postgresql.drop, url)
        port = free_port()
        places = {
            "unbound:5353": world.resolver,
            "0.0.0.0": "127.0.0.1",
            "8025": str(port),
            "/run/secrets": str(tmp_path / "secrets"),
        }
        services = Stack(tmp_path, places)
        name = init_database(postgresql, tmp_path, url)
        places["@postgres/census"] = f"@/{name}?host={postgresql.directory}"
        stack.callback(services.close)
        assert services.start("migrate").wait(60) == 0

        fleet = Fleet(world, tmp_path, f"postgresql+psycopg://mxcensus_scanner@/{name}?host={postgresql.directory}")
        trust = ["--trust", str(world.snapshot)]
        SERVICES["worker"].command += trust
        stack.callback(lambda: [SERVICES["worker"].command.remove(word) for word in trust])
        fleet.enqueue()
        workers = [services.start("worker") for _ in range(2)]
        services.start("dashboard")
        fleet.wait_until_finished()
        assert [worker.poll() for worker in workers] == [None, None]

        fleet.wait_for(lambda: status_of(f"http://127.0.0.1:{port}/") == 401)
        assert status_of(f"http://127.0.0.1:{port}/?token=secret%20of%20token") == 200
        locked = "SELECT count(*) FROM pg_authid WHERE rolname LIKE 'mxcensus%' AND rolpassword IS NOT NULL"
        fleet.url, scanner = url, fleet.url  # only the owner may ask that
        assert fleet.query(locked) == [(2,)]
        fleet.url = scanner
        assert json.loads(fleet.run("fleet", "status", "--json", "--db", fleet.url))["backlog"] == 0


def status_of(address):
    for _ in range(3):
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            time.sleep(0.1)
    return None
