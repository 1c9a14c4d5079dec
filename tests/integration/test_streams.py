# SPDX-License-Identifier: Apache-2.0
"""How many tasks of a flow move data at a time, and what is told of where the time went."""
import datetime

import trees


MOVING = ("part", "batch")


def spans(cluster, agent):
    """(begin, end) of each task that moved data, in seconds, in the order in which they ended."""
    found = []
    for line in cluster.log_lines(agent):
        if line["event"] == "task_done" and line["kind"] in MOVING:
            end = datetime.datetime.fromisoformat(line["ts"].replace("Z", "+00:00")).timestamp()
            found.append((end - line["seconds"], end))
            assert line["path"] == "receive-hash-write"
    return found


def test_a_flow_of_one_stream_moves_one_part_after_the_other(start, scale):
    cluster = start(sites={"a": 1, "b": 1}, settings={"master.part_bytes": "4MiB"})
    source = cluster.root("a") / "file"
    trees.write(source, (200 << 20) // scale)
    cluster.cp(f"a:{source}", f"b:{cluster.root('b') / 'file'}", "--streams", "1")
    tasks = spans(cluster, "b-1")
    assert len(tasks) >= 5
    # The end is logged before the next begins. A millisecond is for the rounding of both, and a hundredth for two
    # clocks, of which one may be corrected just now.
    assert all(begin >= before - 0.001 - 0.01 * (end - begin) for (_, before), (begin, end) in zip(tasks, tasks[1:]))


def test_why_tells_where_the_time_went(start, scale):
    cluster = start(sites={"a": 1, "b": 1})
    source = cluster.root("a") / "file"
    trees.write(source, (200 << 20) // scale)
    flow = cluster.submit(f"a:{source}", f"b:{cluster.root('b') / 'file'}")
    cluster.wait(flow)
    why = cluster.json("why", flow)
    moving = why["read_us"] + why["hash_us"] + why["receive_us"] + why["write_us"] + why["sync_us"]
    assert min(why["read_us"], why["hash_us"], why["write_us"]) > 0
    waiting = sum(line["seconds"] * 1e6 for agent in cluster.agents() for line in cluster.log_lines(agent)
                  if line["event"] == "task_done" and line["kind"] not in MOVING)
    assert why["wait_us"] <= waiting  # for the master to take what was listed
    assert why["bottleneck"]
    end = cluster.show(flow)
    assert end["cpu_us_source"] > 0 and end["cpu_us_sink"] > 0
    # Reading and hashing at the source is not told as more than it was waited for.
    assert moving <= sum((e - b) * 1e6 for b, e in spans(cluster, "b-1")) * 1.01
    assert source.read_bytes() == (cluster.root("b") / "file").read_bytes()


def test_too_many_streams_are_refused(start):
    cluster = start(sites={"a": 1, "b": 1})
    done = cluster.sluice("cp", "--streams", "257", f"a:{cluster.root('a')}/", f"b:{cluster.root('b')}/x")
    assert done.returncode == 2, done.stderr
