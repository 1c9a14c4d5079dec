# SPDX-License-Identifier: Apache-2.0
"""Control that survives: listings that are cut, cancels at any instant, volumes that are not
shared, and memory that does not grow with the number of objects."""
import os
import subprocess

import pytest

import trees
from cluster import QUICK
from test_survival import ONLY_KILLED, ends_exact, mixed


def crowd(directory, n, size=0):
    """A directory of n files."""
    directory.mkdir(parents=True)
    fd = os.open(directory, os.O_RDONLY)
    for i in range(n):
        out = os.open(f"entry{i}", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd)
        if size:
            os.write(out, b"x" * size)
        os.close(out)
    os.close(fd)


@pytest.mark.parametrize("side", ["a", "b", "master", "all"])
@pytest.mark.parametrize("n", [40_000, pytest.param(500_000, marks=pytest.mark.large)])
def test_a_kill_while_a_large_directory_is_listed(start, scale, side, n):
    cluster = start(settings=QUICK)
    source, destination = cluster.root("a") / "tree", cluster.root("b") / "tree"
    n = n // scale
    crowd(source / "crowd", n)
    flow = cluster.submit(f"a:{source}/", f"b:{destination}")
    def is_listed_in_part():
        now = cluster.show(flow)
        return now["objects_total"] > n // 20 or not now["listing"]

    cluster.until(is_listed_in_part, "a part of the listing", below="state/master")
    names = {"master": ["master"], "all": ["master", *cluster.agents()]}.get(side) or cluster.agents(side)
    for name in names:
        cluster.kill(name)
    end = ends_exact(cluster, flow, source, destination)
    # Each object once: the files, the directory, and the root.
    assert n + 1 <= end["objects_done"] <= n + 2, end
    assert end["objects_done"] == end["objects_total"]


@pytest.mark.parametrize("instants", [5, pytest.param(50, marks=pytest.mark.large)])
def test_cancel_at_any_instant_leaves_nothing_half(counted, scale, instants):
    cluster, proxies = counted(ONLY_KILLED)  # one that is lost removes what it wrote later
    source = cluster.root("a") / "tree"
    trees.hostile(source, files=1500 // scale, directories=100 // scale)
    for i in range(2):
        trees.write(source / f"large{i}", (100 << 20) // scale, seed=i)
    _, size = trees.inventory(source)
    for instant in range(instants):
        destination = cluster.root("b") / f"tree{instant}"
        before = proxies.passed()
        proxies.limit(before + size * (instant + 0.5) / instants)  # it must not end before, however late this test is
        flow = cluster.submit(f"a:{source}/", f"b:{destination}")
        proxies.wait_passed(before + size * instant // instants, cluster.wait_s)
        done = cluster.sluice("cancel", flow)
        proxies.limit()
        assert done.returncode == 0, done.stderr
        end = cluster.wait(flow)
        assert end["outcome"] == "cancelled", end
        assert trees.temporaries(cluster.root("b")) == []
        for directory, _, names in os.walk(destination):  # what was delivered is whole
            for name in names:
                path = os.path.join(directory, name)
                assert os.path.lexists(path) and os.lstat(path).st_size == \
                    os.lstat(source / os.path.relpath(path, destination)).st_size
        assert proxies.is_quiet(0.2)
        subprocess.run(["rm", "-rf", destination], check=True)


def inodes(root):
    """What is known of every file below root, temporaries too."""
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            try:
                st = os.lstat(path)
            except FileNotFoundError:
                continue
            found[path] = (st.st_ino, st.st_size, st.st_mtime_ns, st.st_blocks)
    return found


@pytest.mark.parametrize("quiet_s", [2, pytest.param(40, marks=pytest.mark.large)])
def test_after_suspend_not_a_byte_moves_until_resume(counted, scale, quiet_s):
    """Under full load, at several instants. 40 s is longer than any hold or stall."""
    cluster, proxies = counted()
    source, destination = mixed(cluster, scale)
    _, size = trees.inventory(source)
    flow = None
    for fraction in (0.1, 0.4, 0.7):
        proxies.limit(size * (fraction + 0.2))  # it must not end before, however late this test is
        if flow:
            assert cluster.sluice("resume", flow).returncode == 0
        else:
            flow = cluster.submit(f"a:{source}/", f"b:{destination}")
        proxies.wait_passed(size * fraction, cluster.wait_s)
        done = cluster.sluice("suspend", flow)
        proxies.limit()
        assert done.returncode == 0, done.stderr
        before = inodes(destination)
        assert proxies.is_quiet(quiet_s)
        assert inodes(destination) == before
        assert cluster.show(flow)["state"] == "SUSPENDED"
    assert cluster.sluice("resume", flow).returncode == 0
    ends_exact(cluster, flow, source, destination)


def test_volumes_of_one_name_that_are_not_shared(start, binaries, work):
    cluster = start(sites={"a": 1})
    agents = []
    try:
        for i in (1, 2):
            (work / f"local{i}").mkdir()
            config = work / f"c-{i}.yaml"
            config.write_text(f"name: c-{i}\nsite: c\nmaster: {cluster.info['master']}\nstate_dir: {work}/state-{i}\n"
                              f"log_file: {work}/c-{i}.log\nvolumes:\n"
                              f"  - {{name: data, root: {work}/local{i}, mode: rw}}\n")
            agents.append(subprocess.Popen([binaries / "sluice-agent", "--config", config], env=cluster.environment))
        cluster.until(lambda: sum(a["connected"] and a["site"] == "c" for a in cluster.agents_now()) == 2, "agents")
        (cluster.root("a") / "f").write_bytes(b"hello")
        source = f"a:{cluster.root('a')}/f"
        done = cluster.sluice("cp", source, f"c:{work}/local1/f")
        assert done.returncode == 1, done.stderr
        assert b"c/AGENT:/path" in done.stderr and b"data" in done.stderr, done.stderr
        assert os.listdir(work / "local1") == []
        cluster.cp(source, f"c/c-2:{work}/local2/f")
        assert (work / "local2" / "f").read_bytes() == b"hello"
    finally:
        for agent in agents:
            agent.terminate()
        for agent in agents:
            agent.wait(cluster.wait_s)


def peak_mib(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


def database_mib(cluster):
    """With its log. Its files do not shrink, so that this is how large they ever were."""
    directory = cluster.directory / "up" / "state" / "master"
    return sum(path.stat().st_size for path in directory.glob("sluice.db*")) >> 20


POOL_MIB = 8 * 512 // 1024  # slots times buffer, by default


@pytest.mark.release_only
@pytest.mark.parametrize("counts", [(20_000,), pytest.param((100_000, 1_000_000), marks=pytest.mark.large)])
def test_memory_does_not_grow_with_the_number_of_objects(start, counts):
    """Empty files and files of one byte, in one flow."""
    peaks = {}
    for n in counts:
        cluster = start(sites={"a": 2, "b": 2})
        source, destination = cluster.root("a") / "tree", cluster.root("b") / "tree"
        for i in range(n // 1000):
            crowd(source / f"d{i}", 1000, size=i % 2)
        flow = cluster.submit(f"a:{source}/", f"b:{destination}")
        end = cluster.wait(flow, timeout=3000)
        assert end["outcome"] == "delivered" and end["objects_failed"] == 0
        assert trees.inventory(destination) == trees.inventory(source)
        peaks[n] = {name: peak_mib(cluster.pid(name)) for name in ["master", *cluster.agents()]}
        walked = next(line for line in cluster.log_lines("master")
                      if line["event"] == "flow_phase_changed" and line["from"] == "planning")
        if n >= 100_000:
            assert walked["bytes_done"] > 0, "the first byte moves before the walk ends"
        print(f"{n} objects: peak MiB {peaks[n]}, database {database_mib(cluster)} MiB, "
              f"{walked['objects_done']} were done when the walk ended")
        assert cluster.stop() == []
        subprocess.run(["rm", "-rf", source, destination], check=True)
    fewest, most = peaks[counts[0]], peaks[counts[-1]]
    for name, peak in most.items():
        assert peak < (256 if name == "master" else 128 + POOL_MIB), peaks
        assert peak <= 1.2 * fewest[name], peaks
