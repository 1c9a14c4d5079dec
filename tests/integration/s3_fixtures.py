# SPDX-License-Identifier: Apache-2.0
"""What the tests of object stores share: the server, an independent client, clusters that use it."""
import filecmp
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


def serve(**options):
    """What a fixture that is a server yields from."""
    missing = s3_server.missing()
    if missing:
        pytest.skip("no S3 server: " + ", ".join(missing) + " missing (packages radosgw, ceph-mon, ceph-osd)")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="sluice-s3-"))
    made = s3_server.S3Server(directory / "ceph", **options)
    yield made
    made.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def server():
    yield from serve()


@pytest.fixture
def s3(server):
    return S3Client(server.endpoint, server.access_key, server.secret_key)


@pytest.fixture
def proxy(server):
    """Between agents and the server: it counts, and spoils what it is told to."""
    made = Proxy(server.port)
    yield made
    made.stop()


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


def compare_files(a, b):
    """Names of files whose bytes differ."""
    return [p for p in a.rglob("*") if p.is_file() and not filecmp.cmp(p, b / p.relative_to(a), shallow=False)]


def restart(cluster, name):
    """Kills the daemon, and waits until all are connected again."""
    old = cluster.kill(name, signal.SIGKILL)
    cluster.back(name, old)
    cluster.until(cluster.all_connected, "all to be connected")
