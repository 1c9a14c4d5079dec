# SPDX-License-Identifier: Apache-2.0
"""Encryption with keys of a KMS, and storage classes, on a server that has both: exact, as asked for, and told where
the server does otherwise."""
import json
import os
import signal

import pytest

from s3_fixtures import (MIB, assert_store_has, begin, buckets, compare_files, make_tree, proxy, s3, serve)  # noqa: F401

CHUNK = 16 * MIB
SLOTS = 2
TEXT = b"this is to be read by nobody. "
KMS = ["--sse", "aws:kms:first"]
COLD = ["--storage-class", "COLD"]
WAYS = {"kms": KMS, "cold": COLD, "both": KMS + COLD}


@pytest.fixture(scope="module")
def server():
    yield from serve(kms_keys=("first", "second"), storage_classes=("COLD",))


def make_text_tree(root):
    """As make_tree(), with objects that show their bytes."""
    make_tree(root, 40 * MIB)
    (root / "text").write_bytes(TEXT * 1000)
    with open(root / "large", "r+b") as file:
        file.seek(20 * MIB)
        file.write(TEXT * 1000)


def assert_kept_as(head, options):
    encrypted = KMS[1] in options
    assert head.get("x-amz-server-side-encryption") == ("aws:kms" if encrypted else None), head
    assert head.get("x-amz-server-side-encryption-aws-kms-key-id") == ("first" if encrypted else None), head
    assert head.get("x-amz-storage-class", "STANDARD") == ("COLD" if COLD[1] in options else "STANDARD"), head


def assert_is_same(cluster, source, destination, way, n):
    """The flow once more: it finds everything, and sends nothing."""
    store = {"kms": {"encryption": "aws:kms", "kms_key": "first"}, "cold": {"storage_class": "COLD"}}
    spec = cluster.directory / "again.json"
    spec.write_text(json.dumps({"source": source, "destination": destination, "sync": True,
                                "store": {k: v for w in store if way in (w, "both") for k, v in store[w].items()}}))
    done = cluster.wait(cluster.sluice("submit", "-f", spec).stdout.decode().strip())
    assert done["outcome"] == "delivered" and done["objects_skipped"] == n, done


def test_what_is_encrypted_or_put_elsewhere_is_exact_and_is_so_at_rest(begin, proxy, server, s3, buckets):
    cluster = begin(stores={"s3": proxy.endpoint}, sites={"a": 2})
    source = cluster.root("a") / "tree"
    make_text_tree(source)
    n = sum(path.is_file() for path in source.rglob("*"))
    for way, options in WAYS.items():
        there = f"s3://{buckets[0]}/{way}/"
        cluster.cp(f"a:{source}/", there, *options)
        assert_store_has(s3, buckets[0], f"{way}/", source)
        for name in ("large", "whole", "empty", "text", "sub/file 9"):
            assert_kept_as(s3.head(buckets[0], f"{way}/{name}"), options)
        sent = proxy.bytes_up
        assert_is_same(cluster, f"a:{source}/", there, way, n)
        assert proxy.bytes_up - sent < MIB // 10
        target = cluster.root("a") / way
        cluster.cp(there, f"a:{target}/")
        assert not compare_files(source, target)
        # What is not encrypted can be read in the pool of its class, what is cannot.
        plain = {pool for pool in server.data_pools() if TEXT in server.at_rest(pool)}
        assert plain == (set() if way == "kms" else {server.pool_of("COLD")}), way
    assert s3.uploads(buckets[0]) == 0


def test_copies_within_the_store_are_encrypted_as_asked(begin, server, s3, buckets):
    cluster = begin(sites={"a": 1})
    source = cluster.root("a") / "tree"
    make_text_tree(source)
    cluster.cp(f"a:{source}/", f"s3://{buckets[0]}/plain/")
    cluster.cp(f"a:{source}/", f"s3://{buckets[0]}/kms/", "--sse", "aws:kms:second")
    for one in ("plain", "kms"):
        for way, options in {"bare": [], **WAYS}.items():
            cluster.cp(f"s3://{buckets[0]}/{one}/", f"s3://{buckets[1]}/{one}/{way}/", *options)
            assert_store_has(s3, buckets[1], f"{one}/{way}/", source)
            for name in ("large", "whole", "empty"):
                assert_kept_as(s3.head(buckets[1], f"{one}/{way}/{name}"), options)


@pytest.mark.release_only
def test_a_large_copy_within_the_store_is_encrypted_by_it(begin, proxy, server, s3, buckets):
    """In parts: no byte passes through the agents."""
    cluster = begin(stores={"s3": server.endpoint, "counted": proxy.endpoint}, sites={"a": 1})
    source = cluster.root("a") / "huge"
    source.write_bytes(os.urandom(257 * MIB))
    cluster.cp(f"a:{source}", f"s3://{buckets[0]}/huge", "--sse", "aws:kms:second")
    cluster.cp(f"s3+counted://{buckets[0]}/huge", f"s3+counted://{buckets[1]}/huge", *KMS, *COLD)
    assert proxy.bytes_up + proxy.bytes_down < MIB
    assert_kept_as(s3.head(buckets[1], "huge"), KMS + COLD)
    back = cluster.root("a") / "back"
    cluster.cp(f"s3://{buckets[1]}/huge", f"a:{back}")
    assert not os.system(f"cmp '{source}' '{back}'")


def test_an_encrypted_upload_goes_on_after_a_kill(begin, proxy, s3, buckets):
    cluster = begin(stores={"s3": proxy.endpoint}, sites={"a": 1},
                    settings={"master.part_bytes": 4 * CHUNK, "agent.slots": SLOTS})
    source, n = cluster.root("a") / "big", 8
    source.write_bytes(os.urandom(n * CHUNK - 5))
    proxy.limit_parts(4)
    flow = cluster.submit(f"a:{source}", f"s3://{buckets[0]}/big", *KMS, *COLD)
    proxy.wait_parts(4, cluster.wait_s)
    cluster.back("a-1", cluster.kill("a-1", signal.SIGKILL))
    proxy.limit_parts()
    assert cluster.wait(flow)["outcome"] == "delivered", cluster.show(flow)
    assert s3.uploads(buckets[0]) == 0
    assert len(proxy.put) == n and sum(proxy.put.values()) - n <= 2 * SLOTS, proxy.put
    assert s3.get(buckets[0], "big") == source.read_bytes()
    assert_kept_as(s3.head(buckets[0], "big"), KMS + COLD)


def test_an_encrypted_upload_whose_end_was_not_told_is_recognised(begin, proxy, s3, buckets):
    cluster = begin(stores={"s3": proxy.endpoint}, sites={"a": 1})
    source = cluster.root("a") / "big"
    source.write_bytes(os.urandom(3 * CHUNK + 5))
    proxy.lose_ends = 1
    done = cluster.wait(cluster.submit(f"a:{source}", f"s3://{buckets[0]}/big", *KMS))
    assert done["outcome"] == "delivered" and proxy.lose_ends == 0, done
    assert set(proxy.put.values()) == {1} and len(proxy.put) == 4
    assert s3.get(buckets[0], "big") == source.read_bytes()
    assert_kept_as(s3.head(buckets[0], "big"), KMS)


def test_what_the_store_cannot_do_is_told_with_object_reason_and_remedy(begin, s3, buckets):
    cluster = begin(sites={"a": 1})
    source = cluster.root("a") / "one"
    for name, size in (("small", 5), ("large", 33 * MIB)):
        source.write_bytes(os.urandom(size))
        for options, reason, remedy in (
                (["--sse", "aws:kms:nokey"], "kms-keyid: nokey", "name a key that the store knows"),
                (["--sse", "aws:kms"], "requires HTTP header", "see whether the store has encryption aws:kms"),
                (["--storage-class", "NOSUCH"], "InvalidArgument", "see whether the store has storage class NOSUCH"),
                (["--sse", "AES256"], "passed over the encryption AES256", "ask for another")):
            done = cluster.sluice("cp", f"a:{source}", f"s3://{buckets[0]}/{name}", *options)
            text = done.stderr.decode()
            assert done.returncode == 1, (options, done.returncode, text)
            assert f"{buckets[0]}/{name}" in text and reason in text and remedy in text, text
    # Nothing is there but what the store did not encrypt though it should: a small object was sent by then.
    assert set(s3.keys(buckets[0])) == {b"small"} and s3.uploads(buckets[0]) == 0
