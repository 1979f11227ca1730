"""The disk is full in the middle of a scan: one clear line, and with room again it goes on exactly."""

import subprocess

import pytest
from resuming import Program, differences

from lab.world import World

DOMAINS = 75
FULL, ROOM = "600k", "50m"

pytestmark = pytest.mark.lab


def mount(folder, options):
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture
def small_disk(tmp_path, not_tested):
    """A file system of its own with room for half a scan."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = mount(folder, f"size={FULL}")
    if made.returncode:
        not_tested(f"no file system can be mounted: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_scan_that_filled_the_disk_goes_on_where_it_was(tmp_path, small_disk):
    with World(DOMAINS, tmp_path / "lab") as world:
        undisturbed = Program(world, tmp_path, f"sqlite:///{tmp_path}/census.db")
        undisturbed.finish(undisturbed.start())
        program = Program(world, tmp_path, f"sqlite:///{small_disk}/census.db")
        process = program.start()
        _, err = process.communicate(timeout=100)
        assert process.returncode == 1
        assert "no room left on the disk" in err
        assert "Traceback" not in err
        full = 1, len(world.visits), program.done_addresses()
        assert full[2], "the disk was full before anything was stored"
        assert mount(small_disk, f"remount,size={ROOM}").returncode == 0
        program.finish(program.start("--resume"))
        assert differences(program.rows(), undisturbed.rows()) == []
        program.assert_polite()
        program.assert_not_again([full])
