# SPDX-License-Identifier: Apache-2.0
"""Object stores as source and sink, on a real S3 server: what is copied is exact, in all directions."""
import json
import os
import shutil

from s3_fixtures import (MIB, assert_store_has, begin, buckets, compare_files, make_tree, rclone,  # noqa: F401
                         proxy, s3, server)

ODD_KEYS = [b"plain", b"with space", "\u00fcn\u00efc\u00f6de/\u2603".encode(), b"plus+and%percent&", b"deep/er/key",
            b"k" * 200 + b"/" + b"l" * 255, b"empty"]
KEYS_WITHOUT_PATH = [b"a//b", b"/leading", b"dir/../up", b"./here", b"content/", b"s" * 300]


def test_a_tree_goes_to_a_store_and_comes_back(begin, server, s3, buckets):
    cluster = begin()
    source, target = cluster.root("a") / "tree", cluster.root("b") / "back"
    make_tree(source, 70 * MIB + 5)
    cluster.cp(f"a:{source}/", f"s3://{buckets[0]}/some/where/")
    assert_store_has(s3, buckets[0], "some/where/", source)
    kept = s3.head(buckets[0], "some/where/whole")
    assert kept["x-amz-meta-mtime"] == "1234567890.123456789"
    assert int(kept["x-amz-meta-mode"], 8) == 0o100640
    assert s3.uploads(buckets[0]) == 0
    cluster.cp(f"s3://{buckets[0]}/some/where/", f"b:{target}/")
    for path in source.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(source)
            assert copy.read_bytes() == path.read_bytes(), path
            assert copy.stat().st_mtime_ns == path.stat().st_mtime_ns, path
            assert copy.stat().st_mode == path.stat().st_mode, path
    # What is the same already is not moved again, in either direction.
    spec = cluster.directory / "sync.json"
    for one, other in ((f"a:{source}/", f"s3://{buckets[0]}/some/where/"),
                       (f"s3://{buckets[0]}/some/where/", f"b:{target}/")):
        spec.write_text(json.dumps({"source": one, "destination": other, "sync": True}))
        done = cluster.wait(cluster.sluice("submit", "-f", spec).stdout.decode().strip())
        assert done["outcome"] == "delivered" and done["objects_skipped"] == 44, done
    if shutil.which("rclone"):
        done = rclone(server, "check", "--download", str(source), f"c:{buckets[0]}/some/where")
        assert done.returncode == 0, done.stderr
        listed = rclone(server, "lsl", f"c:{buckets[0]}/some/where/whole")
        assert "2009-02-13 23:31:30.123456789" in listed.stdout or ":30.123456789" in listed.stdout, listed.stdout


def test_one_object_each_way(begin, s3, buckets):
    cluster = begin()
    source = cluster.root("a") / "one"
    source.write_bytes(b"just one")
    cluster.cp(f"a:{source}", f"s3://{buckets[0]}/as/another")
    assert s3.get(buckets[0], "as/another") == b"just one"
    cluster.cp(f"a:{source}", f"s3://{buckets[0]}/into/")
    assert s3.get(buckets[0], "into/one") == b"just one"
    cluster.cp(f"s3://{buckets[0]}/as/another", f"b:{cluster.root('b')}/named")
    assert (cluster.root("b") / "named").read_bytes() == b"just one"
    cluster.cp(f"s3://{buckets[0]}/as/another", f"b:{cluster.root('b')}/")
    assert (cluster.root("b") / "another").read_bytes() == b"just one"


def test_odd_keys_from_store_to_store_and_into_a_directory(begin, proxy, server, s3, buckets):
    cluster = begin(stores={"s3": server.endpoint, "other": proxy.endpoint})
    keys = ODD_KEYS + KEYS_WITHOUT_PATH + [b"m" * 1024, b"marker/"]
    for key in keys:
        body = b"" if key in (b"empty", b"marker/") else b"of " + key
        s3.put(buckets[0], key, body, content_type="text/x-odd", x_amz_meta_colour="blue")
    for store in ("s3", "other"):  # copied by the store itself; streamed
        cluster.cp(f"s3://{buckets[0]}/", f"s3+{store}://{buckets[1]}/")
        assert s3.keys(buckets[1]) == s3.keys(buckets[0])
        for key in keys:
            assert s3.get(buckets[1], key) == s3.get(buckets[0], key), key
            head = s3.head(buckets[1], key)
            assert head["x-amz-meta-colour"] == "blue" and head["content-type"] == "text/x-odd", key
            s3.call("DELETE", buckets[1], key, status=204)
    target = cluster.root("b") / "tree"
    cluster.cp(f"s3://{buckets[0]}/", f"b:{target}/", status=3)
    failed = cluster.show(cluster.flows()[0]["id"])["objects_failed"]
    assert failed == len(KEYS_WITHOUT_PATH) + 1  # and the one of 1,024 bytes
    for key in ODD_KEYS:
        path = os.path.join(os.fsencode(target), key)
        with open(path, "rb") as file:
            assert file.read() == (b"" if key == b"empty" else b"of " + key)
    assert (target / "marker").is_dir()


def test_large_objects_from_store_to_store(begin, proxy, server, s3, buckets):
    cluster = begin(stores={"s3": server.endpoint, "other": proxy.endpoint})
    body = os.urandom(50 * MIB + 3)
    s3.put(buckets[0], "big", body, content_type="text/x-big")
    cluster.cp(f"s3://{buckets[0]}/big", f"s3+other://{buckets[1]}/big")
    assert s3.get(buckets[1], "big") == body
    assert s3.head(buckets[1], "big")["content-type"] == "text/x-big"
    assert len(proxy.put) == 4  # of 16 MiB


def test_many_requests_wait_for_a_store_at_a_time(begin, proxy, server, s3, buckets):
    """However few processors there are, and busy ones: a store that is far away answers late. Agents find out once in a
    heartbeat whether more streams bring more, and here there is none."""
    cluster = begin(stores={"s3": proxy.endpoint}, sites={"a": 1}, settings={
        "master.heartbeat": "60s", "master.lost_after": "150s", "master.hold": "200s"})
    source, target = cluster.root("a") / "large", cluster.root("a") / "back"
    source.write_bytes(os.urandom(160 * MIB))
    proxy.limit_parts(0)
    flow = cluster.submit(f"a:{source}", f"s3://{buckets[0]}/large")
    proxy.wait_parts(4, timeout=50)  # and none is answered
    proxy.limit_parts()
    assert cluster.wait(flow)["outcome"] == "delivered"
    cluster.cp(f"s3://{buckets[0]}/large", f"a:{target}")
    assert not compare_files(source, target)
    kinds = [line["kind"] for line in cluster.log_lines("a-1") if line["event"] == "task_done"]
    assert "batch" not in kinds and kinds.count("part") > 12, kinds  # coming back, too, it travelled in parts


def test_a_copy_within_a_store_moves_no_payload(begin, proxy, server, s3, buckets, full, scale):
    cluster = begin(stores={"s3": proxy.endpoint}, sites={"a": 2})
    source = cluster.root("a") / "big"
    size = 5 << 30 if full else 600 * MIB // scale
    with open(source, "wb") as file:
        block = os.urandom(16 * MIB)
        for at in range(0, size, len(block)):
            file.write((at.to_bytes(8, "little") + block[8:])[:size - at])
    direct = begin(sites={"a": 1}, volumes=[("a", "data", cluster.root("a"))])
    direct.cp(f"a:{source}", f"s3://{buckets[0]}/big")
    s3.put(buckets[0], "small", b"small", content_type="text/x-small")
    cluster.cp(f"s3://{buckets[0]}/", f"s3://{buckets[1]}/copy/")
    assert proxy.bytes_up + proxy.bytes_down < MIB
    assert s3.uploads(buckets[1]) == 0
    assert s3.head(buckets[1], "copy/small")["content-type"] == "text/x-small"
    assert int(s3.head(buckets[1], "copy/big")["x-amz-meta-mode"], 8) == 0o100644
    back = cluster.root("a") / "back"
    direct.cp(f"s3://{buckets[1]}/copy/big", f"a:{back}")
    assert not os.system(f"cmp '{source}' '{back}'")


def peak_rss_mib(cluster):
    """Of the master and of the agent that had most."""
    def of(name):
        for line in open(f"/proc/{cluster.pid(name)}/status"):
            if line.startswith("VmHWM"):
                return int(line.split()[1]) // 1024
        return 0
    return of("master"), max(of(name) for name in cluster.agents())


def assert_place_has(server, s3, place, source):
    """The same keys with the same sizes; and, if rclone is there, the same bytes."""
    bucket, prefix = place.split("/", 1)
    assert s3.keys(bucket, prefix + "/") == {
        f"{prefix}/{p.relative_to(source)}".encode(): p.stat().st_size for p in source.rglob("*") if p.is_file()}
    if shutil.which("rclone"):
        done = rclone(server, "check", "--download", str(source), f"c:{place}")
        assert done.returncode == 0, done.stderr


def test_many_and_large_in_all_directions(begin, proxy, server, s3, buckets, full, scale, record_property):
    """With --full: 2,000 objects of 64 KiB, empty ones, and one of 5 GiB. The large one is removed wherever it is not
    needed any more: Ceph's gateway keeps its objects in memory here, and two of them take 19 GiB of it (then
    SLUICE_TEST_DIR should be on a disk)."""
    # the same store under another name: what is copied so is streamed
    cluster = begin(stores={"s3": server.endpoint, "other": proxy.endpoint}, sites={"a": 2, "b": 1})
    source, target = cluster.root("a") / "tree", cluster.root("b") / "back"
    (source / "many").mkdir(parents=True)
    n, size = (2000, 5 << 30) if full else (400 // scale, 160 * MIB // scale)
    block = os.urandom(MIB)
    for i in range(n):
        (source / "many" / f"{i:05}").write_bytes(i.to_bytes(8, "little") + block[:(64 << 10) - 8])
        (source / "many" / f"empty {i % 10}").write_bytes(b"")
    with open(source / "large", "wb") as file:
        for at in range(0, size, len(block)):
            file.write(at.to_bytes(8, "little") + block[8:])
    places = [f"{buckets[0]}/in", f"{buckets[1]}/within", f"{buckets[1]}/over"]
    ways = [(f"a:{source}/", f"s3://{places[0]}/"),                # directory to store
            (f"s3://{places[0]}/", f"s3://{places[1]}/"),          # within the store
            (f"s3://{places[1]}/", f"s3+other://{places[2]}/")]    # from store to store
    for i, (one, other) in enumerate(ways):
        cluster.cp(one, other)
        assert_place_has(server, s3, places[i], source)
        if i > 0:
            bucket, prefix = places[i - 1].split("/")
            s3.call("DELETE", bucket, prefix + "/large", status=204)
            server.collect()
    cluster.cp(f"s3+other://{places[2]}/", f"b:{target}/")         # and back
    assert len(list(target.rglob("*"))) == len(list(source.rglob("*")))
    assert not compare_files(source, target)
    master, agent = peak_rss_mib(cluster)
    print(f"peak RSS: master {master} MiB, agents {agent} MiB")
    record_property("peak_rss_mib", f"master {master}, agent {agent}")
