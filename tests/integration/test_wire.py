# SPDX-License-Identifier: Apache-2.0
"""What the network does to bytes on their way: bits that flip, connections that break."""
import pytest

import trees
from data_proxy import DataProxy


@pytest.fixture
def through(start, request):
    """A cluster whose executors reach the source's agent only through a proxy."""
    proxies = []

    def begin(settings=None, **options):
        proxy = DataProxy(**options)
        proxies.append(proxy)
        cluster = start(sites={"a": 1, "b": 1}, settings={"agent.data_addresses": f'["{proxy.address}"]',
                                                          "master.part_bytes": "32MiB", **(settings or {})})
        proxy.to(cluster.until(lambda: [line["data_listen"] for line in cluster.log_lines("a-1")
                                        if line["event"] == "agent_started"], "the source agent")[0])
        return cluster, proxy

    yield begin
    for proxy in proxies:
        proxy.close()


def make_tree(cluster, scale, large):
    source = cluster.root("a") / "tree"
    trees.hostile(source, files=1000 // scale, directories=50)
    for i in range(large):
        trees.write(source / f"large{i}", (200 << 20) + i, seed=i)  # several parts in any build
    return source, cluster.root("b") / "tree"


def events(cluster, agent, event):
    return [line for line in cluster.log_lines(agent) if line["event"] == event]


def test_each_flipped_bit_is_found_and_sent_again(through, scale):
    every = 32 << 20
    cluster, proxy = through(flip_every=every)
    source, destination = make_tree(cluster, scale, large=2)
    flow = cluster.submit(f"a:{source}/", f"b:{destination}", "--retries", "20")
    end = cluster.wait(flow)
    assert (end["state"], end["outcome"]) == ("COMPLETED", "delivered"), end
    assert trees.differences(source, destination) == ""
    assert trees.temporaries(destination) == []
    assert proxy.flips >= 8
    # Several flips may hit one leaf, and what follows a bad leaf in its step is not looked at.
    found = events(cluster, "b-1", "leaf_corrupt")
    assert 1 <= len(found) <= proxy.flips
    assert all(line["digest_source"] != line["digest_here"] for line in found)


@pytest.mark.release_only  # too many bytes for a slow build
def test_one_flipped_bit_is_one_hit_in_the_log(through, scale):
    # Further apart than a step is long: each flip is the first of its step.
    every = 128 << 20
    cluster, proxy = through(flip_every=every)
    source, destination = cluster.root("a") / "file", cluster.root("b") / "file"
    trees.write(source, 520 << 20)
    cluster.cp(f"a:{source}", f"b:{destination}", "--streams", "1")
    assert source.read_bytes() == destination.read_bytes()
    assert proxy.flips >= 4
    assert len(events(cluster, "b-1", "leaf_corrupt")) == proxy.flips


def test_connections_that_break_cost_no_more_than_what_was_in_flight(through, scale):
    cluster, proxy = through(cuts=8, cut_within=40 << 20)
    source, destination = make_tree(cluster, scale, large=3)
    flow = cluster.submit(f"a:{source}/", f"b:{destination}", "--retries", "50")
    end = cluster.wait(flow)
    assert (end["state"], end["outcome"]) == ("COMPLETED", "delivered"), end
    assert trees.differences(source, destination) == ""
    assert trees.temporaries(destination) == []
    assert proxy.n_cut == 8
    # Asked for and not in a whole leaf here: what the connection had under way, at most a leaf
    # that was received in part, and the socket buffers on both sides of the proxy.
    _, total = trees.inventory(source)
    assert proxy.payload <= total + proxy.n_cut * (64 << 20)
