# SPDX-License-Identifier: Apache-2.0
"""Object stores behind a bad line: what arrives is exact, and what is refused is explained."""
import os

from s3_fixtures import (MIB, assert_store_has, begin, buckets, compare_files, make_tree, proxy, s3, server)  # noqa: F401


def events(cluster, name):
    return [line for agent in cluster.agents() for line in cluster.log_lines(agent) if line["event"] == name]


def test_a_bad_line_to_the_store(begin, proxy, server, s3, buckets):
    """A fifth of the requests is refused, bodies are cut, bits flipped, answers late, and successes none."""
    cluster = begin(stores={"s3": proxy.endpoint}, sites={"a": 1, "b": 1})
    source, target = cluster.root("a") / "tree", cluster.root("b") / "back"
    make_tree(source, 40 * MIB)
    proxy.busy, proxy.cut, proxy.late, proxy.lie = 200, 50, 100, 300
    flow = cluster.submit(f"a:{source}/", f"s3://{buckets[0]}/")
    done = cluster.wait(flow)
    assert done["outcome"] == "delivered", done
    assert done["store_retries"] > 5, done
    assert_store_has(s3, buckets[0], "", source)
    assert s3.uploads(buckets[0]) == 0
    proxy.busy, proxy.cut, proxy.lie = 100, 50, 0
    cluster.cp(f"s3://{buckets[0]}/", f"b:{target}/")
    assert not compare_files(source, target)
    assert proxy.spoilt > 20
    lowered = events(cluster, "s3_rate_lowered")
    assert lowered and all(line["requests_per_s"] > 0 for line in lowered)
    # Once the store serves all again, the rate rises, until there is no limit any more.
    proxy.busy = proxy.cut = proxy.late = 0

    def recovered():
        cluster.cp(f"a:{source}/sub/", f"s3://{buckets[1]}/again/")
        cluster.cp(f"s3://{buckets[1]}/again/", f"b:{cluster.root('b')}/again/")
        agents = {line["name"] for line in events(cluster, "s3_rate_lowered")}
        return agents <= {line["name"] for line in events(cluster, "s3_rate_recovered")}
    cluster.until(recovered, "the rates to recover")


def test_flipped_bits_are_found(begin, proxy, server, s3, buckets):
    cluster = begin(stores={"s3": proxy.endpoint})
    for i in range(40):
        s3.put(buckets[0], f"k{i}", os.urandom(5000))
    target = cluster.root("b") / "tree"
    proxy.flip = 150
    cluster.cp(f"s3://{buckets[0]}/", f"b:{target}/")
    assert proxy.spoilt > 0
    for i in range(40):
        assert (target / f"k{i}").read_bytes() == s3.get(buckets[0], f"k{i}")


def test_the_digest_that_is_kept_with_objects_finds_flipped_bits_too(begin, proxy, server, s3, buckets):
    cluster = begin(stores={"s3": server.endpoint, "bad": proxy.endpoint}, sites={"a": 1})
    source, target = cluster.root("a") / "tree", cluster.root("a") / "back"
    source.mkdir()
    for i in range(40):
        (source / f"k{i}").write_bytes(os.urandom(5000))
    (source / "stale").write_bytes(b"now this")
    cluster.cp(f"a:{source}/", f"s3://{buckets[0]}/")
    # Somebody replaced an object and kept the metadata: what its ETag says is believed.
    kept = s3.head(buckets[0], "k0")["x-amz-meta-sluice-digest"]
    s3.put(buckets[0], "stale", b"now this", x_amz_meta_sluice_digest=kept)
    proxy.flip = 150
    cluster.cp(f"s3+bad://{buckets[0]}/", f"a:{target}/")
    assert proxy.spoilt > 0
    assert not compare_files(source, target)
    assert events(cluster, "object_retried")


def test_a_bucket_in_another_region_is_followed_there_once(begin, proxy, server, s3, buckets):
    cluster = begin(stores={"s3": proxy.endpoint}, sites={"a": 1})
    source, target = cluster.root("a") / "tree", cluster.root("a") / "back"
    make_tree(source, 40 * MIB)
    proxy.region = "eu-west-7"
    cluster.cp(f"a:{source}/", f"s3://{buckets[0]}/")
    assert_store_has(s3, buckets[0], "", source)
    learnt = events(cluster, "s3_region_learnt")
    assert {(line["bucket"], line["region"]) for line in learnt} == {(buckets[0], "eu-west-7")}, learnt
    # What was under way before it was known, and then never again.
    redirected = proxy.redirected
    assert 0 < redirected <= proxy.requests / 2
    cluster.cp(f"s3://{buckets[0]}/", f"a:{target}/")
    assert not compare_files(source, target) and proxy.redirected == redirected
    # A store that sends on for ever is believed once for each request.
    proxy.flees, proxy.region = True, "nowhere"
    done = cluster.sluice("cp", f"s3://{buckets[1]}/none", f"a:{target}/none")
    assert done.returncode == 1 and b"HTTP 301" in done.stderr and b"set endpoint and region" in done.stderr, done.stderr


def test_refusals_name_bucket_key_and_request(begin, server, buckets):
    cluster = begin()
    source = cluster.root("a") / "one"
    source.write_bytes(b"x")
    done = cluster.sluice("cp", f"a:{source}", "s3://no-such-bucket-here/key")
    assert done.returncode == 1
    text = done.stderr.decode()
    assert "NoSuchBucket" in text and "no-such-bucket-here/key" in text and "request " in text
    done = cluster.sluice("cp", f"a:{source}", f"s3+nowhere://{buckets[0]}/key")
    assert done.returncode != 0 and "nowhere" in done.stderr.decode()
    done = cluster.sluice("cp", f"s3://{buckets[0]}/not/there", f"b:{cluster.root('b')}/x")
    assert done.returncode == 1 and "not/there" in done.stderr.decode()
