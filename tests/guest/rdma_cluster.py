#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A cluster within one guest moves trees over RDMA, and loses its device meanwhile.
Usage, inside a guest: rdma_cluster.py PRESET TEST..."""
import os
import pathlib
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


def start(directory, sites=None):
    rdma = f"{{listen: '{ADDRESS}:0', security: auth, pool: 32MiB, retry: 2s}}"
    cluster = Cluster(ROOT / "build" / PRESET / "bin", PRESET, directory, sites=sites or {"a": 1, "b": 1},
                      settings={"agent.rdma": rdma})
    cluster.wait_s = 600  # at emulated speed, on a busy machine
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
    """A flow over `used` alone. On a machine that is too busy for a connection to be made in time
    one may fall back to TCP: it must be exact all the same, and then the next one is asked."""
    for attempt in range(10):
        now = finished(cluster, cluster.submit(f"a:{source}/", f"b:{target}", "--transport", choice))
        assert trees.differences(source, target) == ""
        if now["transport"] == used:
            return
        shutil.rmtree(target)
        time.sleep(attempt)  # RDMA rests for a while
    raise AssertionError(f"{now['transport']}, not {used}")


def each_flow_may_choose(cluster):
    source, target = cluster.root("a") / "choice", cluster.root("b") / "choice"
    source.mkdir()
    trees.write(source / "file", 3 << 20)
    for choice, used in [("tcp", "tcp"), ("rdma", "rdma"), ("auto", "rdma")]:
        travels(cluster, source, f"{target}-{choice}", choice, used)


def level(cluster):
    """What the cluster's agents hold: queue pairs and registered regions of the device, and the
    descriptors and threads of each."""
    now = {kind: len(subprocess.run(["rdma", "resource", "show", kind], capture_output=True, text=True,
                                    check=True).stdout.splitlines()) for kind in ("qp", "mr", "cq", "pd")}
    for agent in ("a-1", "b-1"):
        process = pathlib.Path("/proc") / str(cluster.pid(agent))
        now[f"descriptors of {agent}"] = len(os.listdir(process / "fd"))
        now[f"threads of {agent}"] = len(os.listdir(process / "task"))
    return now


def leave_nothing_behind(cluster, n):
    source, target = cluster.root("a") / "row", cluster.root("b") / "row"
    source.mkdir()
    trees.write(source / "file", 1 << 20)

    def flow():
        travels(cluster, source, target, "auto", "rdma")
        shutil.rmtree(target)

    flow()
    before = level(cluster)
    for _ in range(n):
        flow()

    def is_back():
        now = level(cluster)
        return all(now[key] <= before[key] for key in before)
    cluster.until(is_back, f"the level {before}; it is {level(cluster)}")


def some_flows_in_a_row_leave_nothing_behind(cluster):
    leave_nothing_behind(cluster, 10)


def flows_in_a_row_leave_nothing_behind(cluster):
    leave_nothing_behind(cluster, 100)


def a_killed_source_comes_back(cluster):
    source, target = cluster.root("a") / "killed", cluster.root("b") / "killed"
    source.mkdir()
    trees.write(source / "file", LARGE, seed=1)
    flow = cluster.submit(f"a:{source}/", f"b:{target}")
    cluster.until(lambda: cluster.show(flow)["bytes_done"] > 0 or moving(cluster, target), "bytes")
    cluster.kill("a-1", signal.SIGKILL)
    finished(cluster, flow)
    assert trees.differences(source, target) == ""


def moving(cluster, target):
    """Bytes on their way to the directory `target`: its temporaries."""
    return target.is_dir() and any(os.path.getsize(target / name) > 1 << 20 for name in os.listdir(target))


def falls_back(cluster, name, command):
    """A flow during which `command` takes RDMA away ends exact over TCP, which is said once."""
    source, target = cluster.root("a") / name, cluster.root("b") / name
    source.mkdir()
    trees.write(source / "file", LARGE, seed=2)
    cluster.until(lambda: rdma_works(cluster), "RDMA to be used")
    before = len(events(cluster, "b-1", "rdma_fell_back"))
    flow = cluster.submit(f"a:{source}/", f"b:{target}")
    cluster.until(lambda: moving(cluster, target), "bytes")
    running = subprocess.Popen(command)
    now = finished(cluster, flow)
    assert trees.differences(source, target) == ""
    assert now["transport"].endswith("tcp"), now["transport"]
    assert now["bytes_resent"] <= LARGE, now
    assert len(events(cluster, "b-1", "rdma_fell_back")) == before + 1
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
    tests = [a_tree_travels_over_rdma, each_flow_may_choose, some_flows_in_a_row_leave_nothing_behind,
             flows_in_a_row_leave_nothing_behind, the_check_says_what_is_wrong,
             a_killed_source_comes_back, a_port_that_goes_down_leaves_tcp,
             the_check_says_that_the_port_is_down, a_deleted_device_leaves_tcp]
    wanted = sys.argv[2:]
    assert set(wanted) <= {test.__name__ for test in tests}, wanted
    for test in tests:
        if test.__name__ in wanted:
            print(test.__name__, flush=True)
            try:
                test(cluster)
            except BaseException:
                print(cluster.log_tail(), flush=True)
                raise
    problems = cluster.stop()
    assert not problems, "\n".join(problems)


if __name__ == "__main__":
    main()
