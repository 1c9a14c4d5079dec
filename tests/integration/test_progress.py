# SPDX-License-Identifier: Apache-2.0
"""Progress is true, shared work is shared, and what changes is noticed."""
import json
import os
import threading

import pytest

import trees


def events(cluster, flow):
    done = cluster.sluice("log", flow, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_bytes_never_run_backwards_and_end_at_the_truth(cluster, scale):
    a, b = cluster.root("a"), cluster.root("b")
    trees.hostile(a / "tree", files=5000 // scale, directories=200 // scale)
    trees.write(a / "tree" / "large", (600 << 20) // scale)
    files, size = trees.inventory(a / "tree")
    flow = cluster.submit(f"a:{a}/tree/", f"b:{b}/tree")
    end = cluster.wait(flow)
    assert (end["state"], end["outcome"]) == ("COMPLETED", "delivered"), end
    assert end["bytes_done"] == end["bytes_total"] == size
    assert end["objects_done"] == end["objects_total"]
    assert end["objects_failed"] == 0 and end["bytes_resent"] == 0
    seen = 0
    told = events(cluster, flow)
    for event in told:
        now = event["bytes_done"]
        assert seen <= now <= size
        seen = now
    assert seen == size
    states = [event["state"] for event in told if event["event"] == "state_changed"]
    assert states[0] == "STARTED" and states[-1] == "COMPLETED"
    assert [event["seq"] for event in told] == sorted({event["seq"] for event in told})
    for name in ["master", *cluster.agents()]:
        for line in cluster.log_lines(name):
            assert {"ts", "level", "event"} <= set(line)
    last = [line for line in cluster.log_lines("master") if line["event"] == "flow_progress"][-1]
    assert (last["flow"], last["bytes_done"]) == (flow, size)


@pytest.mark.release_only
def test_work_is_shared_by_executors_and_sources(start):
    cluster = start(sites={"a": 4, "b": 4})
    a, b = cluster.root("a"), cluster.root("b")
    (a / "tree").mkdir()
    for i in range(2):
        trees.write(a / "tree" / f"large{i}", 1 << 30, seed=i)
    flow = cluster.submit(f"a:{a}/tree/", f"b:{b}/tree", )
    end = cluster.wait(flow)
    assert end["outcome"] == "delivered"
    shares = {share["agent"]: share for share in end["agents"]}
    for site, key in (("a", "bytes_read"), ("b", "bytes_written")):
        for agent in cluster.agents(site):
            assert shares[agent][key] > 0, shares  # how much is a matter of who is fast just then


def test_a_file_that_changes_under_the_copy_fails_as_such(start):
    cluster = start(sites={"a": 1, "b": 1})
    a, b = cluster.root("a"), cluster.root("b")
    (a / "tree").mkdir()
    trees.write(a / "tree" / "calm", 1 << 20)
    trees.write(a / "tree" / "growing", 64 << 20)
    stop = threading.Event()

    def grow():
        with open(a / "tree" / "growing", "ab") as f:
            while not stop.is_set():
                f.write(b"x")
                f.flush()

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        for n in range(100):  # until a write falls into the time in which it is read
            copy = b / f"tree{n}"
            done = cluster.sluice("cp", f"a:{a}/tree/", f"b:{copy}")
            if done.returncode != 0:
                break
    finally:
        stop.set()
        writer.join()
    assert done.returncode == 3, done.stderr
    flow = cluster.flows()[0]
    failed = cluster.sluice("show", flow["id"], "--failed").stdout
    assert b"written to while it was read" in failed and b"growing" in failed, failed
    assert os.listdir(copy) == ["calm"]


def test_cancel_leaves_what_was_delivered_and_nothing_half(cluster, scale):
    a, b = cluster.root("a"), cluster.root("b")
    (a / "tree").mkdir()
    trees.write(a / "tree" / "large", (2 << 30) // scale)
    for i in range(200):
        trees.write(a / "tree" / f"f{i}", 100_000, seed=i)
    flow = cluster.submit(f"a:{a}/tree/", f"b:{b}/tree")
    cluster.until(lambda: cluster.show(flow)["bytes_done"] > 0 or cluster.show(flow)["state"] != "STARTED", "bytes")
    cluster.cancel(flow)
    end = cluster.wait(flow)
    assert (end["state"], end["outcome"]) in (("TERMINATED", "cancelled"), ("COMPLETED", "delivered"))
    assert trees.temporaries(b) == []
    for directory, _, names in os.walk(b / "tree"):
        for name in names:
            assert os.path.getsize(os.path.join(directory, name)) == os.path.getsize(a / "tree" / name)


def test_suspend_stops_the_bytes_and_resume_goes_on(cluster, scale):
    a, b = cluster.root("a"), cluster.root("b")
    (a / "tree").mkdir()
    trees.write(a / "tree" / "large", (2 << 30) // scale)
    flow = cluster.submit(f"a:{a}/tree/", f"b:{b}/tree")
    done = cluster.sluice("suspend", flow)
    if done.returncode == 0:
        def usage():
            return sorted((e.name, e.stat().st_mtime_ns, e.stat().st_blocks) for e in os.scandir(b / "tree")) \
                if (b / "tree").exists() else []
        before = usage()
        assert cluster.show(flow)["state"] == "SUSPENDED"
        cluster.sluice("agents")  # a round trip later
        assert usage() == before
        assert cluster.sluice("resume", flow).returncode == 0
    end = cluster.wait(flow)
    assert end["outcome"] == "delivered", end
    assert trees.differences(a / "tree", b / "tree") == ""


def test_the_same_request_is_the_same_flow(cluster):
    a, b = cluster.root("a"), cluster.root("b")
    (a / "f").write_bytes(b"x")
    first = cluster.submit(f"a:{a}/f", f"b:{b}/f", "--request-id", "one")
    assert cluster.submit(f"a:{a}/f", f"b:{b}/f", "--request-id", "one") == first
    done = cluster.sluice("submit", f"a:{a}/f", f"b:{b}/other", "--request-id", "one")
    assert done.returncode == 1 and b"exists" in done.stderr, done.stderr
    cluster.wait(first)
    retried = cluster.sluice("retry", first)
    assert retried.returncode == 0, retried.stderr
    assert cluster.wait(retried.stdout.decode().strip())["outcome"] == "delivered"
