# SPDX-License-Identifier: Apache-2.0
"""Object stores on a server of another make: the directions once more, and what only this one knows."""
import base64
import os
import pathlib
import shutil
import tempfile

import pytest

import s3_versity
from s3_fixtures import MIB, assert_store_has, begin, buckets, environment, make_tree, proxy, s3  # noqa: F401
# The same tests, on this module's server.
from test_s3 import (test_a_copy_within_a_store_moves_no_payload, test_a_tree_goes_to_a_store_and_comes_back,  # noqa: F401
                     test_large_objects_from_store_to_store, test_many_and_large_in_all_directions,
                     test_one_object_each_way)
from test_s3_careful import test_a_store_keeps_what_it_has  # noqa: F401
from test_s3_properties import (test_tags_and_the_like_reach_every_object,  # noqa: F401
                                test_tags_are_kept_from_store_to_store,
                                test_a_large_object_is_held_against_the_digest_it_was_put_with)


@pytest.fixture(scope="module")
def server():
    missing = s3_versity.find()[1]
    if missing:
        pytest.skip(missing)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="sluice-versity-"))
    made = s3_versity.VersityServer(directory / "versity")
    yield made
    made.stop()
    shutil.rmtree(directory, ignore_errors=True)


def crc32c(data):
    table = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (0x82f63b78 if i & 1 else 0)
        table.append(i)
    value = 0xffffffff
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 255]
    return base64.b64encode((value ^ 0xffffffff).to_bytes(4, "big")).decode()


def checksum(s3, bucket, key):
    head = s3.call("HEAD", bucket, key, headers={"x-amz-checksum-mode": "ENABLED"})[1]
    assert head.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT"
    return head["x-amz-checksum-crc32c"]


def chosen(cluster):
    return {(line["checksum"], line["payload_signed"]) for agent in cluster.agents()
            for line in cluster.log_lines(agent) if line["event"] == "s3_checksum_chosen"}


def assert_checksums(s3, bucket, source):
    """Small objects and the whole of large ones have the CRC of their bytes at the store."""
    for name in ("whole", "empty", "sub/file 9", "large"):
        assert checksum(s3, bucket, name) == crc32c((source / name).read_bytes()), name


def test_objects_have_their_checksum_at_the_store(begin, server, s3, buckets):
    cluster = begin(sites={"a": 1})
    source = cluster.root("a") / "tree"
    make_tree(source, 33 * MIB)
    cluster.cp(f"a:{source}/", f"s3://{buckets[0]}/")
    assert_store_has(s3, buckets[0], "", source)
    assert_checksums(s3, buckets[0], source)
    assert chosen(cluster) == {("CRC32C", True)}
    # Read as a whole, an object whose bytes are not those of its checksum is refused.
    with open(server.directory / "buckets" / buckets[0] / "whole", "r+b") as file:
        file.write(b"spoilt")
    done = cluster.sluice("cp", f"s3://{buckets[0]}/whole", f"a:{cluster.root('a')}/back")
    assert done.returncode == 1 and b"CRC32C" in done.stderr, done.stderr


def test_over_tls_the_payload_is_not_signed(start, server, s3, buckets):
    settings = {**environment(server), "AWS_CA_BUNDLE": str(server.certificate)}
    cluster = start(sites={"a": 1}, stores={"s3": server.tls_endpoint}, environment=settings)
    source = cluster.root("a") / "tree"
    make_tree(source, 33 * MIB)
    cluster.cp(f"a:{source}/", f"s3://{buckets[0]}/")
    assert_store_has(s3, buckets[0], "", source)
    assert_checksums(s3, buckets[0], source)
    assert chosen(cluster) == {("CRC32C", False)}
    cluster.cp(f"s3://{buckets[0]}/", f"a:{cluster.root('a')}/back/")
    assert not os.system(f"diff -r '{source}' '{cluster.root('a')}/back'")


def test_a_storage_class_that_is_passed_over_is_told(begin, s3, buckets):
    cluster = begin(sites={"a": 1})
    source = cluster.root("a") / "tree"
    make_tree(source, 33 * MIB)
    for name, error in ("large", "CompleteMultipartUpload"), ("whole", "PutObject"):
        done = cluster.sluice("cp", "--storage-class", "GLACIER", f"a:{source}/{name}", f"s3://{buckets[0]}/{name}")
        assert done.returncode == 1, done
        for word in (error, f"{buckets[0]}/{name}", "GLACIER", "ask for one that it has"):
            assert word.encode() in done.stderr, (word, done.stderr)
    cluster.cp("--storage-class", "STANDARD", f"a:{source}/", f"s3://{buckets[0]}/tree/")
