#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A cluster within one guest moves trees over RDMA, and loses its device meanwhile.
Usage, inside a guest: rdma_cluster.py PRESET TEST..."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integration"))
sys.dont_write_bytecode = True
from cluster import Cluster  # noqa: E402
import trees  # noqa: E402

PRESET = sys.argv[1]
ADDRESS = os.environ["GUEST_ADDRESS"]
LARGE = 96 << 20 if PRESET == "release" else 24 << 20  # of flows that lose something meanwhile


def start(directory):
    # A busy guest is slow to connect: nothing falls back to TCP for that.
    rdma = f"{{listen: '{ADDRESS}:0', security: auth, pool: 32MiB, retry: 2s, connect: 300s}}"
    cluster = Cluster(ROOT / "build" / PRESET / "bin", PRESET, directory, sites={"a": 1, "b": 1},
                      settings={"agent.rdma": rdma, "agent.data_idle": "1ms"})
    cluster.wait_s = 600  # at emulated speed, on a busy machine
    cluster.fallbacks_caused = 0  # by tests
    return cluster


def finished(cluster, flow):
    now = cluster.wait(flow)
    assert (now["state"], now["outcome"]) == ("COMPLETED", "delivered"), now
    return now


def events(cluster, agent, name):
    return [line for line in cluster.log_lines_tolerant(agent) if line["event"] == name]


def a_tree_travels_over_rdma(cluster):
    source, target = cluster.root("a") / "tree", cluster.root("b") / "tree"
    trees.hostile(source, files=60, directories=10)
    trees.write(source / "large", 24 << 20)
    travels(cluster, source, target, "auto", "rdma")
    assert any(line.get("transport") == "rdma" for line in events(cluster, "b-1", "task_done"))


def travels(cluster, source, target, choice, used):
    """A flow over `used` alone."""
    now = finished(cluster, cluster.submit(f"a:{source}/", f"b:{target}", "--transport", choice))
    assert trees.differences(source, target) == ""
    assert now["transport"] == used, now
    no_other_fallbacks(cluster)


def fallbacks(cluster):
    return [line for agent in ("a-1", "b-1") for name in ("rdma_fell_back", "rdma_not_available")
            for line in events(cluster, agent, name)]


def no_other_fallbacks(cluster):
    """Every time that an agent left RDMA, ever, was caused by a test."""
    all_of_them = fallbacks(cluster)
    assert len(all_of_them) == cluster.fallbacks_caused, all_of_them


def each_flow_may_choose(cluster):
    source, target = cluster.root("a") / "choice", cluster.root("b") / "choice"
    source.mkdir()
    trees.write(source / "file", 3 << 20)
    for choice, used in [("tcp", "tcp"), ("rdma", "rdma"), ("auto", "rdma")]:
        travels(cluster, source, f"{target}-{choice}", choice, used)


def level(cluster):
    """What the cluster's agents hold: of the device, and the descriptors, threads and pinned memory
    of each."""
    now = {}
    for kind in ("qp", "mr", "cq", "pd", "cm_id"):
        shown = subprocess.run(["rdma", "resource", "show", kind], capture_output=True, text=True, check=True).stdout
        now[kind] = len(shown.splitlines())
        if kind == "mr":
            now["registered bytes"] = sum(map(int, re.findall(r"mrlen (\d+)", shown)))
    assert min(now.values()) > 0, now  # while the agents have RDMA there is some of each
    for agent in ("a-1", "b-1"):
        process = pathlib.Path("/proc") / str(cluster.pid(agent))
        now[f"pinned KiB of {agent}"] = int(re.search(r"VmPin:\s+(\d+)", (process / "status").read_text())[1])
        now[f"descriptors of {agent}"] = len(os.listdir(process / "fd"))
        now[f"threads of {agent}"] = len(os.listdir(process / "task"))
    return now


def a_hundred_flows_in_a_row_leave_nothing_behind(cluster):
    """Each over connections of its own: those of the one before were given up (data_idle)."""
    source, target = cluster.root("a") / "row", cluster.root("b") / "row"
    source.mkdir()
    trees.write(source / "file", 1 << 20)
    content = (source / "file").read_bytes()

    def flow():
        now = json.loads(cluster.cp(f"a:{source}/", f"b:{target}", "--json").stdout.splitlines()[-1])
        assert (now["outcome"], now["transport"]) == ("delivered", "rdma"), now
        assert (target / "file").read_bytes() == content
        shutil.rmtree(target)

    flow()
    before, connected = level(cluster), queue_pairs_ever()
    for _ in range(100):
        flow()
    no_other_fallbacks(cluster)
    assert queue_pairs_ever() >= connected + 100, "connections were kept"

    def is_back():
        now = level(cluster)
        return all(now[key] <= before[key] for key in before)
    cluster.until(is_back, f"the level {before}; it is {level(cluster)}", 60)


def queue_pairs_ever():
    """The highest number that the device gave to a queue pair so far."""
    shown = subprocess.run(["rdma", "resource", "show", "qp"], capture_output=True, text=True, check=True).stdout
    return max(map(int, re.findall(r"lqpn (\d+)", shown)))


def a_killed_source_comes_back(cluster):
    source, target = cluster.root("a") / "killed", cluster.root("b") / "killed"
    source.mkdir()
    trees.write(source / "file", LARGE, seed=1)
    flow = cluster.submit(f"a:{source}/", f"b:{target}")
    cluster.until(lambda: cluster.show(flow)["bytes_done"] > 0 or moving(cluster, target), "bytes")
    cluster.kill("a-1", signal.SIGKILL)
    finished(cluster, flow)
    assert trees.differences(source, target) == ""
    cluster.fallbacks_caused = len(fallbacks(cluster))


def moving(cluster, target):
    """Bytes on their way to the directory `target`: its temporaries."""
    return target.is_dir() and any(os.path.getsize(target / name) > 1 << 20 for name in os.listdir(target))


def falls_back(cluster, name, command):
    """A flow during which `command` takes RDMA away ends exact over TCP, which is said once."""
    source, target = cluster.root("a") / name, cluster.root("b") / name
    source.mkdir()
    trees.write(source / "file", LARGE, seed=2)
    cluster.until(lambda: rdma_works(cluster), "RDMA to be used")  # it may rest, after the last test
    before = len(events(cluster, "b-1", "rdma_fell_back"))
    flow = cluster.submit(f"a:{source}/", f"b:{target}")
    cluster.until(lambda: moving(cluster, target), "bytes")
    running = subprocess.Popen(command)
    now = finished(cluster, flow)
    assert trees.differences(source, target) == ""
    assert now["transport"].endswith("tcp"), now["transport"]
    assert now["bytes_resent"] <= LARGE, now
    assert len(events(cluster, "b-1", "rdma_fell_back")) == before + 1
    cluster.fallbacks_caused = len(fallbacks(cluster))
    return running


def a_port_that_goes_down_leaves_tcp(cluster):
    # The kernel's soft-RoCE sets up no connection any more once its interface was down, for rping
    # neither: that RDMA is tried again is shown by tests/unit/dataplane/test_conn_pool_rdma.c.
    falls_back(cluster, "down", ["ip", "link", "set", "eth0", "down"]).wait()


def a_deleted_device_leaves_tcp(cluster):
    # The kernel's soft-RoCE is gone only when no process has it open any more: not waited for.
    falls_back(cluster, "deleted", ["rdma", "link", "delete", "rxe0"])
    assert events(cluster, "a-1", "rdma_device_lost")


def rdma_works(cluster, count=[0]):
    count[0] += 1
    source, target = cluster.root("a") / "again", cluster.root("b") / f"again{count[0]}"
    source.mkdir(exist_ok=True)
    (source / "file").write_bytes(b"again")
    return finished(cluster, cluster.submit(f"a:{source}/", f"b:{target}"))["transport"] == "rdma"


def the_check_says_what_is_wrong(cluster):
    agent = str(cluster.binaries / "sluice-agent")
    config = next((cluster.directory / "up" / "etc").glob("a-1.yaml"))
    done = subprocess.run([agent, "--config", config, "--check"], capture_output=True, text=True)
    assert done.returncode == 0 and "RDMA device rxe0 on eth0" in done.stdout and "can be used" in done.stdout, done
    limited = subprocess.run(["bash", "-c", "ulimit -l 1024; exec setpriv --bounding-set -ipc_lock "
                              f"--inh-caps -ipc_lock {agent} --config {config} --check"], capture_output=True, text=True)
    assert "LimitMEMLOCK=67108864" in limited.stdout and "1048576 bytes" in limited.stdout, limited
    subprocess.run(["ip", "link", "set", "eth0", "mtu", "1500"], check=True)
    short = subprocess.run([agent, "--config", config, "--check"], capture_output=True, text=True)
    assert "cut at 1024 bytes" in short.stdout, short
    subprocess.run(["ip", "link", "set", "eth0", "mtu", "4200"], check=True)


def the_check_says_that_the_port_is_down(cluster):
    subprocess.run(["ip", "link", "set", "eth0", "down"], check=True)
    config = next((cluster.directory / "up" / "etc").glob("a-1.yaml"))
    done = subprocess.run([str(cluster.binaries / "sluice-agent"), "--config", config, "--check"],
                          capture_output=True, text=True)
    assert done.returncode != 0 and "cannot be used: its port" in done.stdout, done


def main():
    cluster = start(pathlib.Path(tempfile.mkdtemp(dir="/dev/shm")) / "cluster")
    tests = [a_tree_travels_over_rdma, each_flow_may_choose, a_hundred_flows_in_a_row_leave_nothing_behind,
             the_check_says_what_is_wrong,
             a_killed_source_comes_back, a_port_that_goes_down_leaves_tcp,
             the_check_says_that_the_port_is_down, a_deleted_device_leaves_tcp]
    wanted = sys.argv[2:]
    assert set(wanted) <= {test.__name__ for test in tests}, wanted
    for test in tests:
        if test.__name__ in wanted:
            print(test.__name__, flush=True)
            began = time.monotonic()
            try:
                test(cluster)
                no_other_fallbacks(cluster)
            except BaseException:
                print(cluster.log_tail(), flush=True)
                raise
            print(f"  {time.monotonic() - began:.0f} s", flush=True)
    problems = cluster.stop()
    assert not problems, "\n".join(problems)


if __name__ == "__main__":
    main()
