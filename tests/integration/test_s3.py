# SPDX-License-Identifier: Apache-2.0
"""Object stores as source and sink, on a real S3 server."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

import s3_server
from s3_tools import Proxy, S3Client

MIB = 1 << 20
ODD_KEYS = [b"plain", b"with space", "\u00fcn\u00efc\u00f6de/\u2603".encode(), b"plus+and%percent&", b"deep/er/key",
            b"k" * 200 + b"/" + b"l" * 255, b"empty"]
KEYS_WITHOUT_PATH = [b"a//b", b"/leading", b"dir/../up", b"./here", b"content/", b"s" * 300]


@pytest.fixture(scope="module")
def server():
    missing = s3_server.missing()
    if missing:
        pytest.skip("no S3 server: " + ", ".join(missing) + " missing (packages radosgw, ceph-mon, ceph-osd)")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="sluice-s3-"))
    made = s3_server.S3Server(directory / "ceph")
    yield made
    made.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def s3(server):
    return S3Client(server.endpoint, server.access_key, server.secret_key)


@pytest.fixture
def buckets(s3, request):
    """Two empty buckets for this test alone."""
    names = [f"{request.node.name.replace('_', '-')[:48].lower()}-{i}" for i in range(2)]
    for name in names:
        s3.make_bucket(name)
    return names


def environment(server):
    return {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_REGION": "us-east-1"}


@pytest.fixture
def begin(start, server):
    def begin_with(stores=None, **options):
        return start(sites=options.pop("sites", {"a": 2, "b": 1}), stores=stores or {"s3": server.endpoint},
                     environment=environment(server), **options)
    return begin_with


def make_tree(root, large_bytes):
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "large").write_bytes(os.urandom(large_bytes))
    (root / "whole").write_bytes(os.urandom(3 * MIB + 1))
    (root / "empty").write_bytes(b"")
    for i in range(40):
        (root / "sub" / f"file {i}").write_bytes(os.urandom(1000 * i))
    (root / "sub" / "deep" / "\u00fcn\u00ef\u2603+%").write_bytes(b"x")
    os.chmod(root / "whole", 0o640)
    os.utime(root / "whole", ns=(1234567890123456789, 1234567890123456789))


def assert_store_has(s3, bucket, prefix, root):
    files = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
    assert {(prefix + name).encode() for name in files} == set(s3.keys(bucket, prefix))
    for name, path in files.items():
        assert s3.get(bucket, prefix + name) == path.read_bytes(), name


def rclone(server, *arguments):
    env = {**os.environ, "RCLONE_CONFIG_C_TYPE": "s3", "RCLONE_CONFIG_C_PROVIDER": "Ceph",
           "RCLONE_CONFIG_C_ENDPOINT": server.endpoint, "RCLONE_CONFIG_C_ACCESS_KEY_ID": server.access_key,
           "RCLONE_CONFIG_C_SECRET_ACCESS_KEY": server.secret_key, "RCLONE_CONFIG": "/dev/null"}
    env.pop("AWS_CA_BUNDLE", None)  # rclone 1.60 cannot do with it
    return subprocess.run(["rclone", *arguments], env=env, capture_output=True, text=True, timeout=120, check=False)


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


def test_odd_keys_from_store_to_store_and_into_a_directory(begin, server, s3, buckets):
    proxy = Proxy(server.port)
    try:
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
    finally:
        proxy.stop()


def test_a_copy_within_a_store_moves_no_payload(begin, server, s3, buckets, scale):
    proxy = Proxy(server.port)
    try:
        cluster = begin(stores={"s3": proxy.endpoint})
        body = os.urandom(300 * MIB // scale)
        s3.put(buckets[0], "big", body)
        s3.put(buckets[0], "small", b"small")
        cluster.cp(f"s3://{buckets[0]}/", f"s3://{buckets[1]}/copy/")
        assert s3.get(buckets[1], "copy/big") == body
        assert proxy.bytes_up + proxy.bytes_down < MIB
        assert s3.uploads(buckets[1]) == 0
    finally:
        proxy.stop()


def test_large_objects_from_store_to_store(begin, server, s3, buckets):
    proxy = Proxy(server.port)
    try:
        cluster = begin(stores={"s3": server.endpoint, "other": proxy.endpoint})
        body = os.urandom(50 * MIB + 3)
        s3.put(buckets[0], "big", body, content_type="text/x-big")
        cluster.cp(f"s3://{buckets[0]}/big", f"s3+other://{buckets[1]}/big")
        assert s3.get(buckets[1], "big") == body
        assert s3.head(buckets[1], "big")["content-type"] == "text/x-big"
        assert len(proxy.put) == 4  # of 16 MiB
    finally:
        proxy.stop()


def test_a_killed_agent_sends_only_what_is_missing(begin, server, s3, buckets):
    proxy = Proxy(server.port)
    try:
        cluster = begin(stores={"s3": proxy.endpoint}, sites={"a": 1},
                        settings={"master.part_bytes": 64 * MIB, "agent.slots": 2})
        source = cluster.root("a") / "big"
        body = os.urandom(512 * MIB)
        source.write_bytes(body)
        flow = cluster.submit(f"a:{source}", f"s3://{buckets[0]}/big")
        for n_parts in (4, 12, 24):
            cluster.until(lambda n=n_parts: len(proxy.put) >= n, f"{n_parts} parts")
            pid = cluster.pid("a-1")
            cluster.kill("a-1", signal.SIGKILL)
            cluster.until(lambda old=pid: cluster.pid("a-1") != old, "the agent to be started again")
        assert cluster.wait(flow)["state"] == "COMPLETED", cluster.show(flow)
        assert s3.get(buckets[0], "big") == body
        assert s3.uploads(buckets[0]) == 0
        assert len(proxy.put) == 32
        # A part that was under way at a kill is sent again, and nothing else is: two slots, each
        # with one part on its way and, if that was just told, the next.
        assert sum(proxy.put.values()) - 32 <= 3 * 2 * 2, proxy.put
    finally:
        proxy.stop()


def test_a_cancelled_flow_leaves_no_upload(begin, server, s3, buckets):
    proxy = Proxy(server.port)
    try:
        cluster = begin(stores={"s3": proxy.endpoint}, settings={"master.part_bytes": 64 * MIB})
        source = cluster.root("a") / "big"
        source.write_bytes(os.urandom(512 * MIB))
        flow = cluster.submit(f"a:{source}", f"s3://{buckets[0]}/big")
        cluster.until(lambda: len(proxy.put) >= 2, "two parts")
        assert cluster.sluice("cancel", flow).returncode in (0, 6)
        cluster.wait(flow)
        cluster.until(lambda: s3.uploads(buckets[0]) == 0, "the upload to be aborted")
    finally:
        proxy.stop()


def test_a_bad_line_to_the_store(begin, server, s3, buckets):
    proxy = Proxy(server.port)
    try:
        cluster = begin(stores={"s3": proxy.endpoint})
        source, target = cluster.root("a") / "tree", cluster.root("b") / "back"
        make_tree(source, 40 * MIB)
        proxy.busy, proxy.cut = 200, 50
        cluster.cp(f"a:{source}/", f"s3://{buckets[0]}/")
        assert_store_has(s3, buckets[0], "", source)
        proxy.busy, proxy.cut = 100, 50
        cluster.cp(f"s3://{buckets[0]}/", f"b:{target}/")
        assert not compare_files(source, target)
        assert proxy.spoilt > 20
        lowered = [line for name in cluster.agents() for line in cluster.log_lines(name)
                   if line["event"] == "s3_rate_lowered"]
        assert lowered
    finally:
        proxy.stop()


def test_flipped_bits_are_found(begin, server, s3, buckets):
    proxy = Proxy(server.port)
    try:
        cluster = begin(stores={"s3": proxy.endpoint})
        for i in range(40):
            s3.put(buckets[0], f"k{i}", os.urandom(5000))
        target = cluster.root("b") / "tree"
        proxy.flip = 150
        cluster.cp(f"s3://{buckets[0]}/", f"b:{target}/")
        assert proxy.spoilt > 0
        for i in range(40):
            assert (target / f"k{i}").read_bytes() == s3.get(buckets[0], f"k{i}")
    finally:
        proxy.stop()


def compare_files(a, b):
    """Names of files whose bytes differ."""
    return [p for p in a.rglob("*") if p.is_file() and (b / p.relative_to(a)).read_bytes() != p.read_bytes()]


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

def restart(cluster, name):
    """Kills the daemon, and waits until all are connected again."""
    old = cluster.kill(name, signal.SIGKILL)
    cluster.until(lambda: cluster.pid(name) != old, f"{name} to be started again")
    cluster.until(lambda: cluster.agents_now() and all(
        a["connected"] and a["pid"] == cluster.pid(a["name"]) for a in cluster.agents_now()), "all to be connected")


def test_keys_that_expire_suspend_the_flow_until_there_are_others(begin, server, s3, buckets):
    proxy = Proxy(server.port)
    try:
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
        for path in (cluster.directory / "up").rglob("*"):
            if path.is_file():
                assert second[1].encode() not in path.read_bytes(), path
    finally:
        proxy.stop()


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
