# SPDX-License-Identifier: Apache-2.0
"""kill -9 of anything, at any instant, and everything else that takes daemons from each other: the
flow ends by itself, the tree is exact, and no more is sent again than was in flight.

What was in flight is what counting proxies before the sources' agents saw: the payload that came
for tasks which the master's database did not know to have ended, on the connections concerned."""
import os
import signal

import pytest

import trees
from changes import wait_end

# What is killed is noticed at once; what is only slow, on a busy machine, is not taken for lost.
ONLY_KILLED = {"master.hold": "200s", "master.lost_after": "100s"}

# Received by the kernel for a process that is gone, or read again from the last whole leaf on: what
# a proxy handed on and nobody counts. Per connection, at most.
SLACK = 12 << 20
# What a task has asked for ahead, and leaves to the socket, when it yields to an idle agent, at most.
YIELDED = 24 << 20

INSTANTS = [0.0, 0.4]
MORE_INSTANTS = [pytest.param(f, marks=pytest.mark.large) for f in (0.02, 0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 0.97)]


def mixed(cluster, scale):
    a = cluster.root("a") / "tree"
    trees.hostile(a, files=4000 // scale, directories=200 // scale)
    for i in range(3):
        trees.write(a / f"large{i}", (160 << 20) // scale + i, seed=i)
    return a, cluster.root("b") / "tree"


def ends_exact(cluster, flow, source, destination):
    end = cluster.wait(flow)
    assert (end["state"], end["outcome"]) == ("COMPLETED", "delivered"), end
    assert trees.differences(source, destination) == ""
    assert trees.temporaries(destination) == []
    assert end["bytes_done"] == end["bytes_total"]
    return end


class Flow:
    """A flow that is under way, at an instant, and what of it is in flight then. It does not end before
    go_on(), however late that is: its last bytes do not pass."""

    def __init__(self, cluster, proxies, scale, fraction):
        self.cluster, self.proxies = cluster, proxies
        self.source, self.destination = mixed(cluster, scale)
        _, self.bytes = trees.inventory(self.source)
        proxies.limit(min(fraction + 0.1, (fraction + 1) / 2) * self.bytes)
        self.id = cluster.submit(f"a:{self.source}/", f"b:{self.destination}")
        proxies.wait_passed(fraction * self.bytes, cluster.wait_s)
        self.mark()

    def go_on(self):
        self.proxies.limit()

    def mark(self):
        self.ended = self.proxies.tasks() - self.cluster.stored_tasks()
        self.before = self.proxies.connections()

    def in_flight(self, connections):
        return self.proxies.payload_of(connections, but=self.ended)

    def disturbances(self, expected):
        """Agents that were taken for lost, or left by those that read from them, but for those expected."""
        lost = {line["agent"] for line in self.cluster.log_lines_tolerant("master") if line["event"] == "agent_lost"}
        for name in self.cluster.agents("b"):
            lost |= {line["source_agent"] for line in self.cluster.log_lines_tolerant(name)
                     if line["event"] == "source_agent_failed"}
        return lost - set(expected)

    def ends(self, expected, in_flight, n_connections=None):
        """As it should. in_flight: what was lost on its way, at most, when the agents that are expected to
        be lost were; n_connections: those that it was on, if what is told is compared with what was sent."""
        end = ends_exact(self.cluster, self.id, self.source, self.destination)
        again = self.proxies.passed() - self.bytes
        others = self.disturbances(expected)
        yielded = YIELDED * sum(line["event"] in ("task_returned", "lease_stopped") for name in self.cluster.agents("b")
                                for line in self.cluster.log_lines_tolerant(name))
        print(f"{self.bytes} bytes, sent again {again}, told {end['bytes_resent']}, in flight {in_flight}, "
              f"also lost: {others or 'nobody'}")
        assert end["bytes_done"] == self.bytes
        if not others:  # else a busy machine lost more than was taken from it, and nobody saw how much
            assert end["bytes_resent"] <= in_flight
            assert again <= in_flight + yielded
        if n_connections is not None:
            assert again <= end["bytes_resent"] + n_connections * SLACK + yielded
        return end


def kill(flow, victim):
    """Kills, and waits until what was killed is there again. What was in flight, and on how many connections."""
    cluster, proxies = flow.cluster, flow.proxies
    names, whose = {
        "master": (["master"], {"executor": "nobody"}),
        "executor": (["b-1"], {"executor": "b-1"}),
        "source": (["a-1"], {"source": "a-1"}),
        "all": (["master", "a-1", "a-2", "b-1", "b-2"], {}),
    }[victim]
    pids = [cluster.pid(name) for name in names]
    flow.mark()
    before = proxies.connections_ever(**whose)
    lost = [c for c in before if c.is_open]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        wait_end(pid, cluster.wait_s)
    lost += [c for c in proxies.connections_ever(**whose) if c not in before]  # begun meanwhile
    if victim == "master":
        # Agents that are late to come back go on with what they have, and others begin with it anew.
        cluster.back("master", pids[0])
        cluster.until(cluster.all_connected, "all to be connected")
        now = flow.in_flight(proxies.connections_ever())
        flow.go_on()
        return names, now, 0
    flow.go_on()
    for name, pid in zip(names, pids):
        cluster.back(name, pid)
    proxies.wait_closed(lost, cluster.wait_s)
    return names, flow.in_flight(lost), len(lost)


@pytest.mark.parametrize("fraction", INSTANTS + MORE_INSTANTS)
@pytest.mark.parametrize("victim", ["master", "executor", "source", "all"])
def test_a_kill(counted, scale, victim, fraction):
    cluster, proxies = counted(ONLY_KILLED)
    flow = Flow(cluster, proxies, scale, fraction)
    flow.ends(*kill(flow, victim))


def edit(destination):
    """The destination is edited by somebody else."""
    for i in range(3):
        (destination / f"large{i}").unlink()
        (destination / f"large{i}").write_bytes(b"edited")


def is_edited(destination):
    return all((destination / f"large{i}").read_bytes() == b"edited" for i in range(3)) and \
        not trees.temporaries(destination)


def is_same(flow, before):
    return all(flow[key] == before[key] for key in ("state", "outcome", "bytes_done", "bytes_resent", "objects_done"))


def is_back(flow, name, held):
    """Connected, and what it was in the middle of, on the connections held, is over."""
    ended = {line["task"] for line in flow.cluster.log_lines_tolerant(name)
             if line["event"] in ("task_done", "task_failed", "task_returned", "lease_fenced", "lease_stopped")}
    tasks = {task for c in held if c.executor == name for task in c.payload}
    return tasks <= ended and any(agent["name"] == name and agent["connected"]
                                  for agent in flow.cluster.agents_now())


@pytest.mark.parametrize("fraction", [0.3] + MORE_INSTANTS)
def test_a_stopped_executor_writes_nothing_after_its_hold(counted, scale, fraction):
    cluster, proxies = counted()
    flow = Flow(cluster, proxies, scale, fraction)
    pid = cluster.kill("b-1", signal.SIGSTOP)
    try:
        held = proxies.connections(executor="b-1")
        flow.go_on()
        end = cluster.wait(flow.id)
        flow.ends(["b-1"], flow.in_flight(held))
        edit(flow.destination)
    finally:
        os.kill(pid, signal.SIGCONT)
    cluster.until(lambda: is_back(flow, "b-1", held), "the executor to be back")
    assert is_edited(flow.destination)
    assert is_same(cluster.show(flow.id), end)


@pytest.mark.parametrize("fraction", [0.3] + MORE_INSTANTS)
@pytest.mark.parametrize("name", ["b-1", "a-1"])
def test_an_agent_behind_a_connection_that_drops_everything(counted, scale, name, fraction):
    cluster, proxies = counted(cut_off=name)
    flow = Flow(cluster, proxies, scale, fraction)
    side = {"executor": name} if name == "b-1" else {"source": name}
    proxies.darken(**side)
    proxies.master.darken()
    held = proxies.connections(**side)
    flow.go_on()
    end = cluster.wait(flow.id)
    flow.ends([name], flow.in_flight(held))
    edit(flow.destination)
    proxies.light()
    proxies.master.light()
    cluster.until(lambda: is_back(flow, name, held), "the agent to be back")
    assert is_edited(flow.destination)
    assert is_same(cluster.show(flow.id), end)


def test_a_stopped_source_is_left_for_the_next(counted, scale):
    cluster, proxies = counted()
    flow = Flow(cluster, proxies, scale, 0.1)
    pid = cluster.kill("a-1", signal.SIGSTOP)
    held = proxies.connections(source="a-1")
    flow.go_on()
    try:
        cluster.wait(flow.id)
        flow.ends(["a-1"], flow.in_flight(held))
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_stopped_master_is_waited_for(counted, scale):
    cluster, proxies = counted()
    flow = Flow(cluster, proxies, scale, 0.1)
    pid = cluster.kill("master", signal.SIGSTOP)
    flow.go_on()
    # Long enough for every agent to give it up.
    try:
        cluster.until(lambda: all(any(line["event"] == "session_lost" for line in cluster.log_lines_tolerant(name))
                                  for name in cluster.agents()), "agents to give it up")
    finally:
        os.kill(pid, signal.SIGCONT)
    flow.ends(cluster.agents(), flow.bytes)


def test_cancel_while_an_agent_is_away(counted, scale):
    cluster, proxies = counted()
    flow = Flow(cluster, proxies, scale, 0.1)
    cluster.kill("b-1")
    assert cluster.sluice("cancel", flow.id).returncode == 0
    flow.go_on()
    assert cluster.wait(flow.id)["outcome"] == "cancelled"
    cluster.until(lambda: not trees.temporaries(flow.destination), "the temporaries to go")


def test_drain_gives_the_work_to_others(counted, scale):
    cluster, proxies = counted()
    flow = Flow(cluster, proxies, scale, 0)
    drained = cluster.agents("b")[0]
    assert cluster.sluice("drain", drained).returncode == 0
    flow.go_on()
    ends_exact(cluster, flow.id, flow.source, flow.destination)
    assert any(a["name"] == drained and a["draining"] for a in cluster.listed_agents())
    (flow.source / "one more").write_bytes(b"x" * 1000)
    cluster.cp(f"a:{flow.source}/one more", f"b:{flow.destination}/one more")
    shares = {s["agent"] for s in cluster.flows()[0].get("agents", []) if s["bytes_written"]}
    assert drained not in shares
    assert cluster.sluice("undrain", drained).returncode == 0
