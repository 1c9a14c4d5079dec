# SPDX-License-Identifier: Apache-2.0
"""Two masters on one database: the standby takes over, flows end exact, watchers miss nothing."""
import datetime
import json
import os
import signal
import subprocess
import time

import pytest

import trees

QUICK = {"master.hold": "8s", "master.lost_after": "4s", "master.reconcile": "2s", "master.part_bytes": "16MiB",
         "master.database_session": "2s"}


class Watcher:
    """`sluice watch --json` of a flow, into a file."""

    def __init__(self, cluster, flow, path):
        self.flow = flow
        self.path = path
        with open(path, "wb") as out:
            self.process = subprocess.Popen([str(cluster.binaries / "sluice"), "watch", "--json", flow], stdout=out,
                                            stderr=subprocess.DEVNULL, env=cluster.environment)

    def check(self, cluster):
        """It ended with the flow's end; stored events came in order, each once, without a gap, and are those of the
        flow's log."""
        assert self.process.wait(timeout=cluster.wait_s) == 0, f"watch {self.flow}\n{cluster.log_tail()}"
        events = [json.loads(line) for line in self.path.read_bytes().splitlines()]
        seen = [event["seq"] for event in events if not event["live"]]
        assert seen == list(range(1, len(seen) + 1)), f"{self.flow}: {seen}"
        log = cluster.sluice("log", "--json", self.flow)
        assert log.returncode == 0, log.stderr
        assert [json.loads(line)["seq"] for line in log.stdout.splitlines()] == seen, f"{self.flow}: {seen}"


def cluster_with_standby(start, **settings):
    cluster = start(masters=2, settings={**QUICK, **settings})
    cluster.until(cluster.standby_masters, "the standby")
    return cluster


def begin(cluster, n_flows, n_watchers, files, large_bytes, work):
    """Flows of small files and a large one each, and watchers that go round them."""
    flows = []
    for i in range(n_flows):
        source = cluster.root("a") / f"tree{i}"
        trees.hostile(source, files=files, directories=max(2, files // 30), seed=i)
        trees.write(source / "large", large_bytes + i, seed=i)
        destination = cluster.root("b") / f"tree{i}"
        flows.append((cluster.submit(f"a:{source}/", f"b:{destination}"), source, destination))
    watchers = [Watcher(cluster, flows[i % n_flows][0], work / f"watch{i}") for i in range(n_watchers)]
    # (One whose first question finds no master ends with that.)
    cluster.until(lambda: all(w.path.stat().st_size > 0 for w in watchers), "watchers to see something")
    return flows, watchers


def under_way(cluster, flows):
    """Waits until some of the flows moved bytes (or have ended)."""
    def some():
        now = [cluster.show(flow) for flow, _, _ in flows[:3]]
        return any(n["bytes_done"] > 0 or n["state"] != "STARTED" for n in now)
    cluster.until(some, "bytes to move")


def taken_over(cluster, term):
    cluster.until(lambda: cluster.active_master()[1] > term, "the standby to take over")


def check(cluster, flows, watchers):
    for flow, source, destination in flows:
        end = cluster.wait(flow)
        assert (end["state"], end["outcome"]) == ("COMPLETED", "delivered"), end
        assert end["bytes_done"] == end["bytes_total"]
        assert trees.differences(source, destination) == ""
        assert trees.temporaries(destination) == []
    for watcher in watchers:
        watcher.check(cluster)


def fail_over(cluster, work, n_flows, n_watchers, files, large_bytes, sig):
    flows, watchers = begin(cluster, n_flows, n_watchers, files, large_bytes, work)
    under_way(cluster, flows)
    name, term = cluster.active_master()
    pid = cluster.kill(name, sig)
    taken_over(cluster, term)
    if sig == signal.SIGSTOP:
        os.kill(pid, signal.SIGCONT)
        # It finds its session ended, stops acting at once, and is started again as a standby.
        cluster.until(lambda: cluster.pid(name) != pid and name in cluster.standby_masters(),
                      "the master that was stopped to become the standby")
        events = [line.get("event") for line in cluster.log_lines_tolerant(name)]
        assert "master_stops_acting" in events
    check(cluster, flows, watchers)


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_standby_takes_over(start, work, scale, sig):
    cluster = cluster_with_standby(start)
    fail_over(cluster, work, 5, 10, 600 // scale, (60 << 20) // scale, sig)


@pytest.mark.large
@pytest.mark.release_only
def test_a_standby_takes_over_a_hundred_flows(start, work):
    cluster = cluster_with_standby(start, **{"master.limits": "{flows_active: 100}"})
    for agent in cluster.agents("b"):  # nothing moves until all are there
        cluster.json("drain", agent)
    flows, watchers = begin(cluster, 100, 50, 200, 8 << 20, work)
    for agent in cluster.agents("b"):
        cluster.json("undrain", agent)
    under_way(cluster, flows)
    name, term = cluster.active_master()
    running = [flow["id"] for flow in cluster.flows() if flow["state"] == "STARTED"]
    assert len(running) >= 80
    cluster.kill(name)
    killed = time.time()
    taken_over(cluster, term)
    check(cluster, flows, watchers)
    started = next(line for line in cluster.log_lines_tolerant(cluster.active_master()[0])
                   if line["event"] == "master_started" and line["term"] > term)
    serves = datetime.datetime.fromisoformat(started["ts"].replace("Z", "+00:00")).timestamp()
    resent = sum(cluster.show(flow)["bytes_resent"] for flow, _, _ in flows)
    print(f"{len(running)} flows ran; the standby served {serves - killed:.2f} s after the kill; "
          f"{resent / 2**20:.1f} MiB were sent again")


def test_back_and_forth(start, work, scale):
    """Each of the two takes over from the other, again and again, in the middle of the same flows."""
    cluster = cluster_with_standby(start)
    flows, watchers = begin(cluster, 2, 4, 1500 // scale, (200 << 20) // scale, work)
    under_way(cluster, flows)
    for _ in range(4):
        name, term = cluster.active_master()
        cluster.kill(name)
        taken_over(cluster, term)
        cluster.until(lambda name=name: name in cluster.standby_masters(), f"{name} to stand by")
    check(cluster, flows, watchers)


def test_a_clean_stop_hands_over(start, work, scale):
    cluster = cluster_with_standby(start)
    flows, watchers = begin(cluster, 2, 2, 600 // scale, (100 << 20) // scale, work)
    under_way(cluster, flows)
    name, term = cluster.active_master()
    cluster.kill(name, signal.SIGTERM)
    taken_over(cluster, term)
    check(cluster, flows, watchers)


def test_a_database_that_crashes_is_waited_for(start, work, scale):
    """The server is gone for a while: nothing new is taken, nothing is lost, and the same master goes on."""
    cluster = start(database="postgresql", settings=QUICK)
    flows, watchers = begin(cluster, 2, 2, 1500 // scale, (100 << 20) // scale, work)
    under_way(cluster, flows)
    pid = cluster.pid("master")

    def told(event):
        return sum(line["event"] == event for line in cluster.log_lines("master"))

    for n in range(1, 4):
        cluster.postgres.stop()
        cluster.until(lambda n=n: told("database_trouble") >= n, "the master to notice")
        cluster.postgres.start()
        cluster.until(lambda n=n: told("database_recovered") >= n, "the master to go on")
    check(cluster, flows, watchers)
    assert cluster.pid("master") == pid
