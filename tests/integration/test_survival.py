# SPDX-License-Identifier: Apache-2.0
"""kill -9 of anything, at any instant: the flow ends by itself and the tree is exact."""
import os
import signal

import pytest

import trees

QUICK = {"master.hold": "4s", "master.lost_after": "2s", "master.reconcile": "2s", "master.part_bytes": "16MiB"}


def mixed(cluster, scale):
    a = cluster.root("a") / "tree"
    trees.hostile(a, files=6000 // scale, directories=200 // scale)
    for i in range(3):
        trees.write(a / f"large{i}", (300 << 20) // scale + i, seed=i)
    return a, cluster.root("b") / "tree"


def when(cluster, flow, fraction):
    """Waits until this fraction of the bytes is done (or the flow has ended)."""
    def there():
        now = cluster.show(flow)
        return now["state"] != "STARTED" or (now["bytes_total"] and now["bytes_done"] >= fraction * now["bytes_total"])
    cluster.until(there, f"{fraction} of the bytes")


def ends_exact(cluster, flow, source, destination):
    end = cluster.wait(flow)
    assert (end["state"], end["outcome"]) == ("COMPLETED", "delivered"), end
    assert trees.differences(source, destination) == ""
    assert trees.temporaries(destination) == []
    assert end["bytes_done"] == end["bytes_total"]
    return end


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.6])
@pytest.mark.parametrize("victim", ["master", "executor", "source", "all"])
def test_a_kill(start, scale, victim, fraction):
    cluster = start(settings=QUICK)
    source, destination = mixed(cluster, scale)
    flow = cluster.submit(f"a:{source}/", f"b:{destination}")
    when(cluster, flow, fraction)
    names = {"master": ["master"], "executor": cluster.agents("b")[:1], "source": cluster.agents("a")[:1],
             "all": ["master", *cluster.agents()]}[victim]
    pids = [cluster.pid(name) for name in names]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for name, pid in zip(names, pids):
        cluster.until(lambda name=name, pid=pid: cluster.pid(name) != pid, f"{name} to come back")
    ends_exact(cluster, flow, source, destination)


def test_a_stopped_executor_writes_nothing_after_its_hold(start, scale):
    cluster = start(settings=QUICK)
    source, destination = mixed(cluster, scale)
    flow = cluster.submit(f"a:{source}/", f"b:{destination}")
    when(cluster, flow, 0.1)
    pid = cluster.kill(cluster.agents("b")[0], signal.SIGSTOP)
    try:
        ends_exact(cluster, flow, source, destination)
        # The destination is edited meanwhile, and the edit survives.
        edited = [destination / f"large{i}" for i in range(3)]
        for path in edited:
            path.write_bytes(b"edited")
    finally:
        os.kill(pid, signal.SIGCONT)
    name = cluster.agents("b")[0]
    cluster.until(lambda: any(a["name"] == name and a["connected"] for a in
                              cluster.listed_agents()), "the executor to be back")
    assert all(path.read_bytes() == b"edited" for path in edited)
    assert trees.temporaries(destination) == []


def test_a_stopped_source_is_left_for_the_next(start, scale):
    cluster = start(settings=QUICK)
    source, destination = mixed(cluster, scale)
    flow = cluster.submit(f"a:{source}/", f"b:{destination}")
    when(cluster, flow, 0.1)
    pid = cluster.kill(cluster.agents("a")[0], signal.SIGSTOP)
    try:
        ends_exact(cluster, flow, source, destination)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_stopped_master_is_waited_for(start, scale):
    cluster = start(settings=QUICK)
    source, destination = mixed(cluster, scale)
    flow = cluster.submit(f"a:{source}/", f"b:{destination}")
    when(cluster, flow, 0.1)
    pid = cluster.kill("master", signal.SIGSTOP)
    # Long enough for every agent to give it up.
    cluster.until(lambda: all(any(line["event"] == "session_lost" for line in cluster.log_lines_tolerant(name))
                              for name in cluster.agents()) or stopped_for(cluster, pid, 8), "agents to give it up")
    os.kill(pid, signal.SIGCONT)
    ends_exact(cluster, flow, source, destination)


def stopped_for(cluster, pid, seconds):
    import time
    key = f"_stopped_{pid}"
    since = cluster.__dict__.setdefault(key, time.monotonic())
    return time.monotonic() - since > seconds


def test_cancel_while_an_agent_is_away(start, scale):
    cluster = start(settings=QUICK)
    source, destination = mixed(cluster, scale)
    flow = cluster.submit(f"a:{source}/", f"b:{destination}")
    when(cluster, flow, 0.1)
    cluster.kill(cluster.agents("b")[0])
    cluster.cancel(flow)
    cluster.wait(flow)
    cluster.until(lambda: not trees.temporaries(destination), "the temporaries to go")


def test_drain_gives_the_work_to_others(start, scale):
    cluster = start(settings=QUICK)
    source, destination = mixed(cluster, scale)
    flow = cluster.submit(f"a:{source}/", f"b:{destination}")
    drained = cluster.agents("b")[0]
    assert cluster.sluice("drain", drained).returncode == 0
    ends_exact(cluster, flow, source, destination)
    assert any(a["name"] == drained and a["draining"] for a in cluster.listed_agents())
    (source / "one more").write_bytes(b"x" * 1000)
    cluster.cp(f"a:{source}/one more", f"b:{destination}/one more")
    shares = {s["agent"] for s in cluster.flows()[0].get("agents", []) if s["bytes_written"]}
    assert drained not in shares
    assert cluster.sluice("undrain", drained).returncode == 0
