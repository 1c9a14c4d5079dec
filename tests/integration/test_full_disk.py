# SPDX-License-Identifier: Apache-2.0
"""A destination whose disk is full."""
import os

import pytest

import trees
from small_disk import SmallDisk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small tmpfs")


@pytest.fixture
def small_disk(work):
    """Makes a disk for site b; it goes after the clusters that are started later."""
    disks = []

    def make(mib):
        disks.append(SmallDisk(work / "small", mib))
        return disks[-1]

    yield make
    for disk in disks:
        disk.close()


def volumes(work, disk):
    return [("a", "data", work / "va"), ("b", "data", disk.path)]


def test_it_fails_the_flow(small_disk, start, work):
    disk = small_disk(20)
    cluster = start(volumes=volumes(work, disk))
    trees.write(work / "va" / "f", 40 << 20)
    done = cluster.sluice("cp", f"a:{work}/va/f", f"b:{disk.path}/f")
    assert done.returncode == 1, done.stderr
    assert b"space" in done.stderr.lower()
    assert disk.names() == [], "nothing half-written stays"
    tries = [line for name in cluster.agents("b") for line in cluster.log_lines(name)
             if line["event"] == "task_failed"]
    assert len(tries) <= 2, "a full disk is not tried again and again"


def test_one_that_was_full_at_the_start_is_shared_once_it_is_not(small_disk, start, work):
    disk = small_disk(20)
    with open(disk.path / "filler", "wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, disk.free_bytes())
    cluster = start(volumes=volumes(work, disk))
    (work / "va" / "f").write_bytes(b"x")
    os.unlink(disk.path / "filler")
    cluster.until(lambda: cluster.sluice("cp", f"a:{work}/va/f", f"b:{disk.path}/f").returncode == 0, "a proof")
