# SPDX-License-Identifier: Apache-2.0
"""Within a file system that can share blocks, one agent copies by sharing them."""
import filecmp
import os

import pytest

import image
import trees

FILE_BYTES = 192 << 20


@pytest.fixture
def sharing(work):
    """A directory on a file system of its own, whose files can share blocks."""
    mounted = image.mount(work, ["xfs", "btrfs"])
    yield mounted
    image.unmount(mounted)


def used_bytes(path):
    os.sync()
    s = os.statvfs(path)
    return (s.f_blocks - s.f_bfree) * s.f_frsize


def read_bytes(pid):
    """By all calls of a process, from files and sockets."""
    for line in open(f"/proc/{pid}/io"):
        if line.startswith("rchar"):
            return int(line.split()[1])
    raise AssertionError("no rchar")


def test_blocks_are_shared_and_the_copy_is_exact(sharing, start):
    cluster = start(sites={"a": 1}, volumes=[("a", "data", sharing / "volume")])
    root = sharing / "volume"
    trees.write(root / "large", FILE_BYTES + 12345)
    (root / "small").write_bytes(os.urandom(100_000))
    before, read_before = used_bytes(sharing), read_bytes(cluster.pid("a-1"))
    told = cluster.cp(f"a:{root}/large", f"a:{root}/copy")
    assert b"blocks shared" in told.stdout + told.stderr
    assert read_bytes(cluster.pid("a-1")) - read_before < FILE_BYTES // 16, "nothing of a shared file is read"
    cluster.cp(f"a:{root}/small", f"a:{root}/small copy")
    assert filecmp.cmp(root / "large", root / "copy", shallow=False)
    assert filecmp.cmp(root / "small", root / "small copy", shallow=False)
    assert used_bytes(sharing) - before < FILE_BYTES // 4
    paths = {line["path"] for line in cluster.log_lines("a-1")
             if line["event"] == "task_done" and line["kind"] in ("part", "batch")}
    assert paths == {"reflink"}
    # What is written to one of them afterwards is not seen in the other.
    with open(root / "copy", "r+b") as f:
        f.write(b"changed")
    assert (root / "large").read_bytes()[:7] != b"changed"
