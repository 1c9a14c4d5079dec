# SPDX-License-Identifier: Apache-2.0
"""Control that survives: listings that are cut, cancels at any instant, volumes that are not
shared, and memory that does not grow with the number of objects."""
import os
import signal
import subprocess
import time

import pytest

import trees
from test_survival import QUICK, ends_exact


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


@pytest.mark.parametrize("side", ["a", "b", "master"])
def test_a_kill_while_a_large_directory_is_listed(start, scale, full, side):
    cluster = start(settings=QUICK)
    source, destination = cluster.root("a") / "tree", cluster.root("b") / "tree"
    n = 500_000 if full else 40_000 // scale
    crowd(source / "crowd", n)
    flow = cluster.submit(f"a:{source}/", f"b:{destination}")
    cluster.until(lambda: cluster.show(flow)["objects_total"] > n // 10 or not cluster.show(flow)["listing"],
                  "a part of the listing")
    for name in ["master"] if side == "master" else cluster.agents(side):
        cluster.kill(name)
    end = ends_exact(cluster, flow, source, destination)
    # Each object once: the files, the directory, and the root.
    assert n + 1 <= end["objects_done"] <= n + 2, end
    assert end["objects_done"] == end["objects_total"]


def test_cancel_at_any_instant_leaves_nothing_half(start, scale, full):
    cluster = start(settings=QUICK)
    source = cluster.root("a") / "tree"
    trees.hostile(source, files=1500 // scale, directories=100 // scale)
    for i in range(2):
        trees.write(source / f"large{i}", (100 << 20) // scale, seed=i)
    for instant in range(50 if full else 8):
        destination = cluster.root("b") / f"tree{instant}"
        flow = cluster.submit(f"a:{source}/", f"b:{destination}")
        time.sleep(0.02 * (instant % 25))  # the instant is the point
        done = cluster.sluice("cancel", flow)
        end = cluster.wait(flow)
        assert done.returncode == 0 or end["outcome"] == "delivered", done.stderr
        assert end["outcome"] in ("cancelled", "delivered"), end
        assert trees.temporaries(cluster.root("b")) == []
        subprocess.run(["rm", "-rf", destination], check=True)


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


def test_a_connection_that_drops_everything(start, scale):
    """An executor that is stopped for good while its leases run: others do its work."""
    cluster = start(settings=QUICK)
    source, destination = cluster.root("a") / "tree", cluster.root("b") / "tree"
    trees.hostile(source, files=2000 // scale, directories=50)
    trees.write(source / "large", (300 << 20) // scale)
    flow = cluster.submit(f"a:{source}/", f"b:{destination}")
    pids = [cluster.kill(cluster.agents(site)[1], signal.SIGSTOP) for site in ("a", "b")]
    try:
        ends_exact(cluster, flow, source, destination)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def peak_mib(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


@pytest.mark.large
def test_memory_does_not_grow_with_the_number_of_objects(start):
    peaks = {}
    for n in (100_000, 1_000_000):
        cluster = start(sites={"a": 2, "b": 2})
        source, destination = cluster.root("a") / "tree", cluster.root("b") / "tree"
        for i in range(n // 1000):
            crowd(source / f"d{i}", 1000, size=i % 2)
        flow = cluster.submit(f"a:{source}/", f"b:{destination}")
        first = cluster.until(lambda: (lambda f: f if f["objects_done"] else None)(cluster.show(flow)), "the first object")
        assert first["listing"], "the first byte moves before the walk ends"
        end = cluster.wait(flow, timeout=1200)
        assert end["outcome"] == "delivered" and end["objects_failed"] == 0
        peaks[n] = {name: peak_mib(cluster.pid(name)) for name in ["master", *cluster.agents()]}
        size = sum(f.stat().st_size for f in (cluster.directory / "up").rglob("*") if f.is_file() and "database" in f.name or f.suffix in (".db", ".sqlite"))
        print(n, peaks[n], f"database {size >> 20} MiB")
        assert cluster.stop() == []
        subprocess.run(["rm", "-rf", source, destination], check=True)
    for name, peak in peaks[1_000_000].items():
        assert peak < (256 if name == "master" else 128 + 16), peaks
        assert peak < 1.2 * peaks[100_000][name] + 8, peaks
