# SPDX-License-Identifier: Apache-2.0
"""What objects are given at a store beside their bytes, and what is kept of it from store to store."""
import base64
import hashlib
import json
import os

from s3_fixtures import MIB, begin, buckets, environment, proxy, s3, server  # noqa: F401

DIGEST_TAG = "sluice-digest"


def test_tags_and_the_like_reach_every_object(begin, s3, buckets):
    cluster = begin(sites={"a": 1})
    source = cluster.root("a") / "tree"
    source.mkdir()
    (source / "small").write_bytes(b"small")
    (source / "large").write_bytes(os.urandom(33 * MIB))
    cluster.cp(f"a:{source}/", f"s3://{buckets[0]}/", "--tag", "project=a b/c", "--tag", "empty=", "--storage-class",
               "STANDARD")
    for key in ("small", "large"):
        tags = s3.tags(buckets[0], key)
        assert (DIGEST_TAG in tags) == (key == "large")  # the others have it in their metadata
        assert {k: v for k, v in tags.items() if k != DIGEST_TAG} == {"project": "a b/c", "empty": ""}, key
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
            there = s3.tags(buckets[1], f"{store}/{key}")
            # A copy that the store made by itself was hashed by nobody.
            assert (there.pop(DIGEST_TAG, None) is not None) == (store == "other" and key == "large")
            assert there == tags, (store, key)
            assert s3.head(buckets[1], f"{store}/{key}")["content-type"] == "text/x-tagged"
        assert s3.tags(buckets[1], f"{store}/plain") == {}


def set_tags(s3, bucket, key, tags):
    text = "".join(f"<Tag><Key>{k}</Key><Value>{v}</Value></Tag>" for k, v in tags.items())
    body = f"<Tagging><TagSet>{text}</TagSet></Tagging>".encode()
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    s3.call("PUT", bucket, key, query={"tagging": ""}, body=body, headers={"content-md5": md5})


def begun_again(cluster):
    return [line for line in cluster.log_lines("master") if line["event"] == "object_begins_again"]


def test_a_large_object_is_held_against_the_digest_it_was_put_with(begin, s3, buckets):
    """In parts, by several agents, and as a whole."""
    for part_bytes, retries in ((str(16 * MIB), 1), (str(256 * MIB), None)):
        cluster = begin(sites={"a": 2}, settings={"master.part_bytes": part_bytes})
        source, back = cluster.root("a") / "large", cluster.root("a") / "back"
        source.write_bytes(os.urandom(40 * MIB))
        cluster.cp(f"a:{source}", f"s3://{buckets[0]}/large")
        etag = s3.head(buckets[0], "large")["etag"].strip('"')
        kept, _, of_etag = s3.tags(buckets[0], "large")[DIGEST_TAG].partition("/")
        assert kept.startswith("xxh3-128:") and len(kept) == len("xxh3-128:") + 32 and of_etag == etag
        cluster.cp(f"s3://{buckets[0]}/large", f"a:{back}")
        assert back.read_bytes() == source.read_bytes()
        assert not begun_again(cluster)
        back.unlink()
        # As if the store gave back other bytes than it was given.
        wrong = "xxh3-128:" + "0" * 32
        set_tags(s3, buckets[0], "large", {DIGEST_TAG: f"{wrong}/{etag}", "a": "b"})
        done = cluster.sluice("cp", f"s3://{buckets[0]}/large", f"a:{back}")
        assert done.returncode == 1 and b"0" * 32 in done.stderr, done.stderr
        assert kept.partition(":")[2].encode() in done.stderr, done.stderr
        assert [p.name for p in cluster.root("a").iterdir()] == ["large"], "nothing of it is visible, and nothing left"
        assert retries is None or len(begun_again(cluster)) == retries
        # A tag that stayed when somebody replaced the object says nothing about this one.
        set_tags(s3, buckets[0], "large", {DIGEST_TAG: f"{wrong}/another-3"})
        cluster.cp(f"s3://{buckets[0]}/large", f"a:{back}")
        assert back.read_bytes() == source.read_bytes()
        cluster.stop()


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
