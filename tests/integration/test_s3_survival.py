# SPDX-License-Identifier: Apache-2.0
"""Object stores: what becomes of flows whose agents are killed, that are cancelled, whose keys expire."""
import json
import os
import signal

from s3_fixtures import (MIB, assert_store_has, begin, buckets, make_tree, restart, proxy, s3, server)  # noqa: F401
from s3_tools import S3Client

CHUNK = 16 * MIB
SLOTS = 2


def write_large(path, size):
    block = os.urandom(CHUNK)
    with open(path, "wb") as file:
        for at in range(0, size, CHUNK):
            file.write((at.to_bytes(8, "little") + block[8:])[:size - at])


def give_up(cluster, proxy, s3, source, bucket, store):
    """Cancels a flow in the middle of an upload, of which nothing remains."""
    before = len(proxy.put)
    proxy.limit_parts(before + 3)
    flow = cluster.submit(source, f"{store}://{bucket}/given-up")
    proxy.wait_parts(before + 3, cluster.wait_s)
    done = cluster.sluice("cancel", flow)
    proxy.limit_parts()
    assert done.returncode == 0, done.stderr
    assert cluster.wait(flow)["outcome"] == "cancelled"
    cluster.until(lambda: s3.uploads(bucket) == 0, "the upload to be aborted")


def test_an_agent_killed_at_10_50_and_90_percent_sends_only_what_is_missing(begin, proxy, server, s3, buckets, full):
    cluster = begin(stores={"s3": proxy.endpoint}, sites={"a": 1},
                    settings={"master.part_bytes": 4 * CHUNK, "agent.slots": SLOTS})
    source, n = cluster.root("a") / "big", 128 if full else 30
    write_large(source, n * CHUNK)
    flow = None
    for percent in (10, 50, 90):
        proxy.limit_parts(n * percent // 100)  # it must not end before, however late this test is
        flow = flow or cluster.submit(f"a:{source}", f"s3://{buckets[0]}/big")
        proxy.wait_parts(n * percent // 100, cluster.wait_s)
        cluster.back("a-1", cluster.kill("a-1", signal.SIGKILL))
    proxy.limit_parts()
    assert cluster.wait(flow)["state"] == "COMPLETED", cluster.show(flow)
    assert s3.uploads(buckets[0]) == 0
    assert len(proxy.put) == n
    # What was under way at a kill is sent again, and nothing else: in each slot one part on its
    # way, and the one after it if that was just told.
    assert sum(proxy.put.values()) - n <= 3 * 2 * SLOTS, proxy.put
    # The receipts of all parts were kept, and handed to the end of the upload.
    back = cluster.root("a") / "back"
    cluster.cp(f"s3://{buckets[0]}/big", f"a:{back}")
    assert not os.system(f"cmp '{source}' '{back}'")


def test_an_agent_killed_in_a_copy_within_the_store_leaves_no_upload(begin, proxy, server, s3, buckets):
    cluster = begin(stores={"s3": server.endpoint, "slow": proxy.endpoint}, sites={"a": 1},
                    settings={"master.part_bytes": 2 * CHUNK, "agent.slots": SLOTS})
    source, n = cluster.root("a") / "big", 20
    write_large(source, n * CHUNK)  # more than is copied in one request
    cluster.cp(f"a:{source}", f"s3://{buckets[0]}/big")
    proxy.limit_parts(3)
    flow = cluster.submit(f"s3+slow://{buckets[0]}/big", f"s3+slow://{buckets[1]}/copy")
    proxy.wait_parts(3, cluster.wait_s)
    restart(cluster, "a-1")
    proxy.limit_parts()
    assert cluster.wait(flow)["state"] == "COMPLETED", cluster.show(flow)
    assert s3.uploads(buckets[1]) == 0
    assert proxy.bytes_up + proxy.bytes_down < MIB
    cluster.cp(f"s3://{buckets[1]}/copy", f"a:{cluster.root('a')}/back")
    assert not os.system(f"cmp '{source}' '{cluster.root('a')}/back'")
    # A copy that is given up leaves none either.
    give_up(cluster, proxy, s3, f"s3+slow://{buckets[0]}/big", buckets[1], "s3+slow")


def test_a_cancelled_flow_leaves_no_upload(begin, proxy, s3, buckets):
    cluster = begin(stores={"s3": proxy.endpoint}, settings={"master.part_bytes": 64 * MIB})
    source = cluster.root("a") / "big"
    write_large(source, 32 * CHUNK)
    give_up(cluster, proxy, s3, f"a:{source}", buckets[0], "s3")


def test_keys_that_expire_suspend_the_flow_until_there_are_others(begin, proxy, server, s3, buckets):
    cluster = begin(stores={"s3": proxy.endpoint}, sites={"a": 1}, settings={"agent.slots": 2})
    source = cluster.root("a") / "tree"
    make_tree(source, 96 * MIB)
    proxy.expire_after = 3  # parts; then no request with these keys is served
    flow = cluster.submit(f"a:{source}/", f"s3://{buckets[0]}/")
    cluster.until(lambda: cluster.show(flow)["state"] == "SUSPENDED", "the flow to be suspended")
    now = cluster.show(flow)
    assert now["suspended_by"] == ["credentials"], now
    assert "ExpiredToken" in now["error"]["message"] and now["error"]["code"] == "UNAUTHENTICATED", now
    proxy.accepted_key = second = server.add_key()
    keys = {**cluster.environment, "AWS_ACCESS_KEY_ID": second[0], "AWS_SECRET_ACCESS_KEY": second[1]}
    restart(cluster, "master")  # it is suspended still
    done = cluster.sluice("credentials", "update", "s3", "--json", env=keys)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["flows_resumed"] == 1
    assert cluster.wait(flow)["outcome"] == "delivered", cluster.show(flow)
    assert_store_has(s3, buckets[0], "", source)
    assert s3.uploads(buckets[0]) == 0
    # They are kept for agents that come later, and shown to nobody.
    restart(cluster, "a-1")
    cluster.cp(f"s3://{buckets[0]}/whole", f"a:{cluster.root('a')}/back")
    assert (cluster.root("a") / "back").read_bytes() == (source / "whole").read_bytes()
    listed = [json.loads(line) for line in cluster.sluice("credentials", "--json").stdout.splitlines()]
    assert [c["name"] for c in listed] == ["s3"]
    assert cluster.stop() == []
    for path in (cluster.directory / "up").rglob("*"):
        if path.is_file():
            assert second[1].encode() not in path.read_bytes(), path


def test_a_flow_names_the_keys_that_it_uses(begin, server, s3, buckets):
    cluster = begin(sites={"a": 1})
    own = server.add_user("other")
    theirs = S3Client(server.endpoint, *own)
    bucket = buckets[0] + "-of-other"
    theirs.make_bucket(bucket)
    theirs.put(bucket, "mine", b"only for me")
    target = cluster.root("a") / "mine"
    done = cluster.sluice("cp", f"s3://{bucket}/mine", f"a:{target}")
    assert done.returncode == 5 and b"AccessDenied" in done.stderr, done.stderr
    done = cluster.sluice("cp", "--credentials", "other", f"s3://{bucket}/mine", f"a:{target}")
    assert done.returncode != 0 and b"credentials update other" in done.stderr, done.stderr
    keys = {**cluster.environment, "AWS_ACCESS_KEY_ID": own[0], "AWS_SECRET_ACCESS_KEY": own[1]}
    assert cluster.sluice("credentials", "update", "other", env=keys).returncode == 0
    cluster.cp(f"s3://{bucket}/mine", f"a:{target}", "--credentials", "other")
    assert target.read_bytes() == b"only for me"
    cluster.cp(f"a:{target}", f"s3://{bucket}/again", "--credentials", "s3=other")
    assert theirs.get(bucket, "again") == b"only for me"
    assert cluster.sluice("credentials", "remove", "other").returncode == 0
    assert cluster.sluice("cp", "--credentials", "other", f"s3://{bucket}/mine", f"a:{target}").returncode != 0
