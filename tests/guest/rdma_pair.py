#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A cluster across two guests moves trees over RDMA, whatever happens to the link and the peer.
Usage, in both guests: rdma_pair.py PRESET SHARED-DIRECTORY TEST..."""
import os
import sys
import time

from pair import WORK, Agent, Far, Pair, wait_until

PRESET, SHARED = sys.argv[1:3]
LARGE = 48 << 20


def over_rdma(pair, name):
    """A flow that RDMA alone carried."""
    now = pair.delivered(pair.submit(name), name)
    assert now["transport"] == "rdma", f"{now}\n{pair.tails()}"
    no_other_fallbacks(pair)


def no_other_fallbacks(pair):
    """Every time that the agent left RDMA, ever, was caused by a test."""
    all_of_them = pair.events("rdma_fell_back") + pair.events("rdma_not_available")
    assert len(all_of_them) == pair.fallbacks_caused, all_of_them


def a_tree_travels_over_rdma(pair):
    tree = pair.near.volume / "tree"
    pair.far.hostile(tree, 60)
    pair.far.write(tree / "large", LARGE, 1)
    over_rdma(pair, "tree")
    assert any(line.get("transport") == "rdma" for line in pair.events("task_done"))


def in_mid_flow(pair, name, act):
    """@act happens while a flow moves bytes over RDMA, and may end RDMA. The flow, when it has ended exact."""
    pair.far.write(pair.near.volume / "first" / "file", 1 << 20, 2)
    over_rdma(pair, "first")
    pair.near.run(f"rm -rf '{pair.near.volume / 'first'}'")
    pair.far.write(pair.near.volume / name / "file", 2 * LARGE, 3)
    flow = pair.submit(name)
    pair.wait_moving(name, flow)
    act()
    now = pair.delivered(flow, name)
    pair.fallbacks_caused = len(pair.events("rdma_fell_back"))
    return now


def fell_back(pair, before):
    events = pair.events("rdma_fell_back")
    return len(events) > before and events[-1]


def a_killed_peer_is_asked_again_when_it_is_back(pair):
    def act():
        pair.far.kill()
        pair.far.start()
    in_mid_flow(pair, "killed", act)


def a_port_that_goes_down_leaves_tcp(pair):
    before = len(pair.events("rdma_fell_back"))
    now = in_mid_flow(pair, "down", lambda: pair.far.run("ip link set eth0 down"))
    assert "tcp" in now["transport"] and fell_back(pair, before), now


def a_device_that_is_deleted_leaves_tcp(pair):
    before = len(pair.events("rdma_fell_back"))
    now = in_mid_flow(pair, "deleted", lambda: pair.far.run("rdma link delete rxe0 </dev/null >/dev/null 2>&1 &"))
    assert "tcp" in now["transport"] and fell_back(pair, before), now


def a_stopped_guest_is_waited_for(pair):
    before = len(pair.events("rdma_fell_back"))

    def act():
        pair.stop_far_guest()
        wait_until(lambda: fell_back(pair, before), "the peer to be given up over RDMA")
        pair.go_on()
    in_mid_flow(pair, "stopped", act)


def loss_and_delay_slow_it_down_and_no_more(pair):
    wide = "tc qdisc add dev eth0 root netem delay 20ms loss 1%"
    in_mid_flow(pair, "lossy", lambda: (pair.far.run(wide), pair.near.run(wide)))
    pair.near.run("tc qdisc del dev eth0 root")
    pair.far.run("tc qdisc del dev eth0 root")


def two_rails_are_used_and_a_failed_one_is_dropped(pair):
    for agent in (pair.far, pair.near):
        agent.stop()
        agent.add_rail()
        agent.start()
    connected(pair)
    before = pair.far.packets_sent()
    pair.far.write(pair.near.volume / "rails" / "file", 2 * LARGE, 4)
    flow = pair.submit("rails", "--streams", "4")
    wait_until(lambda: all(n > before[device] + 100 for device, n in pair.far.packets_sent().items()), "both rails")
    pair.far.run("tc qdisc add dev eth0 root netem loss 100%")
    wait_until(lambda: pair.events("rdma_rail_dropped"), "the rail to be dropped")
    assert pair.delivered(flow, "rails")["transport"].startswith("rdma")
    pair.far.run("tc qdisc del dev eth0 root")
    pair.far.write(pair.near.volume / "again" / "file", 1 << 20, 5)

    def is_back():
        pair.near.run(f"rm -rf '{pair.near.volume / 'again'}'")
        pair.delivered(pair.submit("again"), "again")
        return any(event["address"].startswith("10.77.0.") for event in pair.events("rdma_is_back"))
    wait_until(is_back, "the rail to be used again")


def connected(pair):
    wait_until(lambda: len(pair.agents()) == 2 and all(a.get("connected") for a in pair.agents()), "the agents")


TESTS = [a_tree_travels_over_rdma, a_killed_peer_is_asked_again_when_it_is_back, a_port_that_goes_down_leaves_tcp,
         a_device_that_is_deleted_leaves_tcp, a_stopped_guest_is_waited_for, loss_and_delay_slow_it_down_and_no_more,
         two_rails_are_used_and_a_failed_one_is_dropped]


def main():
    WORK.mkdir(exist_ok=True)
    if os.environ["GUEST_NODE"] == "1":
        Far(Agent(PRESET, SHARED, 1)).serve()
        return
    pair = Pair(PRESET, SHARED)
    wanted = sys.argv[3:]
    assert set(wanted) <= {test.__name__ for test in TESTS}, wanted
    for test in TESTS:
        if test.__name__ in wanted:
            print(test.__name__, flush=True)
            began = time.monotonic()
            try:
                test(pair)
                no_other_fallbacks(pair)
            except BaseException:
                print(pair.tails(), flush=True)
                raise
            print(f"  {time.monotonic() - began:.0f} s", flush=True)
    pair.close()


main()
