# SPDX-License-Identifier: Apache-2.0
"""What objects are given at a store beside their bytes, and what is kept of it from store to store."""
import json
import os

from s3_fixtures import MIB, begin, buckets, environment, proxy, s3, server  # noqa: F401


def test_tags_and_the_like_reach_every_object(begin, s3, buckets):
    cluster = begin(sites={"a": 1})
    source = cluster.root("a") / "tree"
    source.mkdir()
    (source / "small").write_bytes(b"small")
    (source / "large").write_bytes(os.urandom(33 * MIB))
    cluster.cp(f"a:{source}/", f"s3://{buckets[0]}/", "--tag", "project=a b/c", "--tag", "empty=", "--storage-class",
               "STANDARD")
    for key in ("small", "large"):
        assert s3.tags(buckets[0], key) == {"project": "a b/c", "empty": ""}, key
    digest = s3.head(buckets[0], "small")["x-amz-meta-sluice-digest"]
    assert digest.startswith("xxh3-128:") and len(digest) == len("xxh3-128:") + 32
    # Copied by the store, with others instead.
    cluster.cp(f"s3://{buckets[0]}/", f"s3://{buckets[1]}/", "--tag", "other=1")
    for key in ("small", "large"):
        assert s3.tags(buckets[1], key) == {"other": "1"}, key
    assert s3.head(buckets[1], "small")["x-amz-meta-sluice-digest"] == digest


def test_tags_are_kept_from_store_to_store(begin, proxy, server, s3, buckets):
    cluster = begin(stores={"s3": server.endpoint, "other": proxy.endpoint}, sites={"a": 1})
    tags = {"colour": "blue", "a key": "1+2=3"}
    for key, body in (("small", b"small"), ("large", os.urandom(33 * MIB)), ("plain", b"plain")):
        tagging = "colour=blue&a%20key=1%2B2%3D3" if key != "plain" else ""
        s3.put(buckets[0], key, body, content_type="text/x-tagged", **({"x_amz_tagging": tagging} if tagging else {}))
    for store in ("s3", "other"):  # copied by the store itself; streamed
        cluster.cp(f"s3://{buckets[0]}/", f"s3+{store}://{buckets[1]}/{store}/")
        for key in ("small", "large"):
            assert s3.tags(buckets[1], f"{store}/{key}") == tags, (store, key)
            assert s3.head(buckets[1], f"{store}/{key}")["content-type"] == "text/x-tagged"
        assert s3.tags(buckets[1], f"{store}/plain") == {}


def test_what_no_store_takes_is_refused_at_once(begin, buckets):
    cluster = begin(sites={"a": 1})
    (cluster.root("a") / "one").write_bytes(b"1")
    one = f"a:{cluster.root('a')}/one"
    for options in (["--sse", "rot13"], ["--tag", "novalue"], [w for i in range(11) for w in ("--tag", f"k{i}=v")],
                    ["--storage-class", "no such\nclass"]):
        done = cluster.sluice("submit", *options, one, f"s3://{buckets[0]}/one")
        assert done.returncode == 2, (options, done.stderr)
    done = cluster.sluice("submit", "--tag", "a=b", one, f"a:{cluster.root('a')}/two")
    assert done.returncode == 2 and b"object store" in done.stderr, done.stderr
    spec = cluster.directory / "flow.json"
    spec.write_text(json.dumps({"source": one, "destination": f"s3://{buckets[0]}/one",
                                "store": {"tags": {"from": "file"}}}))
    flow = cluster.sluice("submit", "-f", spec).stdout.decode().strip()
    assert cluster.wait(flow)["outcome"] == "delivered"
