# SPDX-License-Identifier: Apache-2.0
"""Callbacks arrive: at least once, in order for each flow, whoever fails meanwhile."""
import json
import random
import time

import pytest

import trees
from callback_receiver import Receiver, settings


def tree(cluster, name):
    root = cluster.root("a") / name
    root.mkdir(parents=True)
    for i in range(20):
        trees.write(root / f"f{i}", 1000 + i, seed=i)
    return f"a:{root}/", f"b:{cluster.root('b') / name}"


N_FLOWS = 5


def submit_with_callbacks(cluster, receiver):
    """Four flows that end by themselves and one that is told to; which events each has to cause."""
    expected = {}
    for i in range(N_FLOWS - 1):
        flow = cluster.submit(*tree(cluster, f"t{i}"), "--callback", receiver.url)
        expected[flow] = ["started", "completed"]
    waits = cluster.submit(*tree(cluster, "later"), "--callback", receiver.url, "--not-before", "+10h")
    for command in ("suspend", "resume", "suspend", "cancel"):
        cluster.json(command, waits)
    expected[waits] = ["started", "suspended", "started", "suspended", "terminated"]
    return expected


def test_every_change_arrives_though_receiver_and_master_fail(start, work):
    chance = random.Random(5)
    mode = {"ways": ["fail"]}
    receiver = Receiver(lambda: chance.choice(mode["ways"]))
    try:
        cluster = start(settings=settings(work, timeout="1s"))
        expected = submit_with_callbacks(cluster, receiver)
        silent = cluster.submit(*tree(cluster, "silent"))
        for flow in [*expected, silent]:
            cluster.wait(flow)
        cluster.until(lambda: receiver.tried >= 10, "attempts that fail")
        assert receiver.accepted == []

        def kill_master():
            cluster.back("master", cluster.kill("master"))

        kill_master()
        mode["ways"] = ["take", "take", "fail", "redirect", "drop", "hang"]
        for n in (2, 6):
            cluster.until(lambda n=n: len(receiver.accepted) >= n, f"{n} callbacks")
            kill_master()
        cluster.until(lambda: all(receiver.events(flow) == events for flow, events in expected.items()),
                      f"all callbacks: {expected}")
        assert {event["flow"] for event in receiver.accepted} == set(expected)
        last = next(event for event in receiver.accepted if event["event"] == "completed")
        assert last["state"] == "COMPLETED" and last["outcome"] == "delivered" and last["error"] is None
        assert last["bytes_done"] == last["bytes_total"] == sum(1000 + i for i in range(20))
        last = next(event for event in receiver.accepted if event["event"] == "terminated")
        assert last["outcome"] == "cancelled" and last["error"]["code"] == "CANCELLED"
        lines = cluster.log_lines_tolerant("master")
        assert {"callback_delivered", "callback_failed"} <= {line["event"] for line in lines}
    finally:
        receiver.close()


def outage(start, work, seconds, **more):
    """A receiver that answers 500 for so long, and until every flow was told of in vain, and then fails half the
    time and is slow half of the rest."""
    chance = random.Random(7)
    in_vain = []

    def choose():
        now = time.monotonic()
        if not in_vain or now - in_vain[0] < seconds or len(receiver.flows()) < N_FLOWS:
            in_vain.append(now)
            return "fail"
        return chance.choice(["take", "slow", "fail", "fail"])

    receiver = Receiver(choose)
    try:
        cluster = start(settings=settings(work, **more))
        expected = submit_with_callbacks(cluster, receiver)
        cluster.until(lambda: all(receiver.events(flow) == events for flow, events in expected.items()),
                      f"all callbacks: {expected}")
        for flow in expected:
            numbers = receiver.numbers(flow)
            assert numbers == sorted(numbers), numbers
        assert cluster.sluice("callbacks", "--json").stdout == b""  # nothing was given up
        return len(in_vain) / len(expected)
    finally:
        receiver.close()


def test_an_outage_of_the_receiver_passes(start, work):
    outage(start, work, 2)


@pytest.mark.large
def test_a_minute_of_errors_passes_with_the_delays_that_are_the_default(start, work):
    attempts = outage(start, work, 60, backoff="1s", backoff_max="60s", timeout="10s", attempts="20")
    assert attempts <= 12  # 1 + 2 + 4 + 8 + 16 + 32 s, and each may be half of that


def test_what_nobody_takes_is_given_up_and_the_next_goes_on(start, work):
    mode = {"way": "fail"}
    receiver = Receiver(lambda: mode["way"])
    try:
        cluster = start(settings=settings(work, attempts="3"))
        flow = cluster.submit(*tree(cluster, "t"), "--callback", receiver.url)
        assert cluster.wait(flow)["outcome"] == "delivered"

        def dead():
            done = cluster.sluice("callbacks", "--json")
            assert done.returncode == 0, done
            return [json.loads(line) for line in done.stdout.splitlines()]

        cluster.until(lambda: dead() and dead()[-1]["body"]["event"] == "completed", "the last to be given up")
        assert dead()[0]["body"]["event"] == "started"
        assert all(entry["flow"] == flow and entry["attempts"] == 3 and entry["error"] for entry in dead())
        lines = [line for line in cluster.log_lines("master") if line["event"] == "callback_dead"]
        assert {line["id"] for line in lines} == {entry["id"] for entry in dead()}
        ids = [entry["id"] for entry in dead()]
        mode["way"] = "take"
        done = cluster.sluice("callbacks", *[word for i in ids for word in ("--retry", i)])
        assert done.returncode == 0, done
        cluster.until(lambda: set(ids) == {event["id"] for event in receiver.accepted}, "what was given up")
        assert dead() == []
        assert cluster.sluice("callbacks", "--retry", "nonsense").returncode != 0
        flow = cluster.submit(*tree(cluster, "u"), "--callback", receiver.url)
        cluster.until(lambda: receiver.events(flow) == ["started", "completed"], "the next flow's callbacks")
    finally:
        receiver.close()


def test_hosts_that_are_not_listed_are_refused(start, work):
    cluster = start(settings=settings(work))
    source, destination = tree(cluster, "t")
    for url, word in [("http://localhost:1/x", "callbacks.hosts"), ("ftp://127.0.0.1/", "http"),
                      ("http://127.0.0.1@localhost/", "host")]:
        refused = cluster.sluice("submit", source, destination, "--callback", url)
        assert refused.returncode != 0 and word in refused.stderr.decode(), refused
    assert cluster.flows() == []


def test_a_master_without_callbacks_says_so(cluster):
    source, destination = tree(cluster, "t")
    refused = cluster.sluice("submit", source, destination, "--callback", "http://127.0.0.1:1/")
    assert refused.returncode != 0 and "callbacks" in refused.stderr.decode(), refused
