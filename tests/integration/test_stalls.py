# SPDX-License-Identifier: Apache-2.0
"""Streams on which nothing moves any more: the next source is asked, or the flow says why it failed."""
import pytest

import trees
from daemons import Daemons


@pytest.fixture
def relayed(binaries, preset, work):
    """Two source agents and an executor, each behind relays."""
    cluster = Daemons(binaries, preset, work / "cluster", sites={"a": 2, "b": 1},
                      settings={"agent.stall": "1s", "master.part_bytes": "8MiB"})
    yield cluster
    problems = cluster.stop()
    assert problems == []


# A second without a byte is not much on a busy machine: the other source may seem to stall, too.
PATIENT = ("--retries", "100")


def failures(cluster):
    return [line for line in cluster.log_lines("b-1") if line["event"] == "source_agent_failed"]


def test_a_source_that_stalls_is_left_for_the_next(relayed):
    source, destination = relayed.root("a") / "file", relayed.root("b") / "file"
    trees.write(source, 60 << 20)
    relayed.data["a-1"].flowing.clear()
    relayed.cp(f"a:{source}", f"b:{destination}", *PATIENT)
    assert destination.read_bytes() == source.read_bytes()
    stalled = [line for line in failures(relayed) if line["source_agent"] == "a-1"]
    assert stalled and all(line["error"]["code"] in ("TIMEOUT", "PEER_LOST") for line in stalled)


def test_a_stream_that_stalls_in_the_middle_costs_what_was_in_flight(relayed):
    source, destination = relayed.root("a") / "file", relayed.root("b") / "file"
    trees.write(source, 60 << 20)
    relayed.data["a-1"].stalls_at = 8 << 20
    end = relayed.wait(relayed.submit(f"a:{source}", f"b:{destination}", *PATIENT))
    assert (end["state"], end["outcome"]) == ("COMPLETED", "delivered"), end
    assert destination.read_bytes() == source.read_bytes()
    left = [line["source_agent"] for line in failures(relayed)]
    assert "a-1" in left
    # Each of the eight slots may have been in the middle of a leaf, with some more in sockets.
    assert sum(relay.from_target for relay in relayed.data.values()) <= \
        (60 << 20) + (8 + left.count("a-2")) * (8 << 20)


def test_with_no_source_left_the_flow_says_so(relayed):
    source, destination = relayed.root("a") / "file", relayed.root("b") / "file"
    trees.write(source, 1 << 20)
    for relay in relayed.data.values():
        relay.flowing.clear()
    done = relayed.sluice("cp", "--retries", "1", f"a:{source}", f"b:{destination}")
    text = done.stderr.decode(errors="replace")
    assert done.returncode == 1, text
    assert "no source agent is left to ask" in text and ("in time" in text or "lost" in text), text
    assert not destination.exists() and trees.temporaries(relayed.root("b")) == []
