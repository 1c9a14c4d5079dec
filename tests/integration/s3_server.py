# SPDX-License-Identifier: Apache-2.0
"""A real S3 server for a test run: Ceph's RADOS Gateway with one monitor and one OSD in memory."""
import base64
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "rados", "radosgw", "radosgw-admin")
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
PATIENCE_S = 120


def missing():
    """What the server needs and this machine lacks."""
    return [name for name in PROGRAMS if not shutil.which(name, path=PATH)]


class Ports:
    """Ports of this machine for servers that cannot choose one themselves. They are bound here, without listening,
    until close(): nobody is given them, and only who names one, and sets SO_REUSEADDR as all servers do, can listen
    there."""

    def __init__(self, n):
        self.sockets = [socket.socket() for _ in range(n)]
        for s in self.sockets:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", 0))
        self.numbers = [s.getsockname()[1] for s in self.sockets]

    def close(self):
        for s in self.sockets:
            s.close()


CONFIG = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
ms crc data = false
ms mon client mode = crc
run dir = {dir}/run
admin socket = {dir}/run/$cluster-$name.asok
crash dir = {dir}/run
log file = {dir}/$type.log
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
[mon]
mon data = {dir}/mon
mon initial members = a
mon data avail warn = 1
mon data avail crit = 1
mon cluster log file = {dir}/cluster.log
paxos propose interval = 0.05
mon election timeout = 1
[osd]
osd data = {dir}/osd
osd objectstore = memstore
memstore device bytes = 34359738368
memstore page set = false
osd class update on start = false
osd max scrubs = 0
osd op num shards = 2
osd op num threads per shard = 2
[client.rgw]
log file = {dir}/rgw.log
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw data = {dir}
rgw thread pool size = 64
rgw dns name = localhost
rgw enable usage log = false
rgw enable ops log = false
rgw gc obj min wait = 5
rgw gc processor period = 10
rgw lc debug interval = -1
rgw run sync thread = false
rgw override bucket index max shards = 1
rgw dynamic resharding = false
rgw relaxed region enforcement = true
"""


class S3Server:
    access_key = "testaccesskey"
    secret_key = "testsecretkey"

    def __init__(self, directory, kms_keys=(), storage_classes=()):
        """kms_keys: the names of keys that it shall encrypt with. storage_classes: beside STANDARD."""
        self.directory = pathlib.Path(directory)
        self.kms_keys, self.storage_classes = kms_keys, storage_classes
        self.ports = Ports(2)
        self.port, self.mon_port = self.ports.numbers
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.processes = []
        self.environment = {**os.environ, "PATH": PATH, "CEPH_CONF": str(self.directory / "ceph.conf"), "CEPH_ARGS": ""}
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def run(self, *command, timeout=PATIENCE_S):
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=timeout,
                              check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]}: {done.stderr[-1000:]}{done.stdout[-500:]}")
        return done.stdout

    def spawn(self, *command):
        out = open(self.directory / f"{command[0]}.out", "ab")
        self.processes.append(subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                               env=self.environment, start_new_session=True))
        out.close()

    def until(self, condition, what):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            for process in self.processes:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args[0]} ended while waiting for {what}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"gave up waiting for {what}")
            time.sleep(0.1)

    def answers(self):
        try:
            with urllib.request.urlopen(self.endpoint, timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def osd_is_up(self):
        return " 1 up" in self.run("ceph", "--connect-timeout", "30", "osd", "stat")

    def start(self):
        conf, d = self.environment["CEPH_CONF"], self.directory
        for name in ("mon", "osd", "run"):
            (d / name).mkdir(parents=True)
        fsid = "-".join(secrets.token_hex(n) for n in (4, 2, 2, 2, 6))
        osd = "-".join(secrets.token_hex(n) for n in (4, 2, 2, 2, 6))
        config = CONFIG.format(fsid=fsid, dir=d, mon_port=self.mon_port, port=self.port)
        pathlib.Path(conf).write_text(config + self.kms_config())
        self.run("monmaptool", "--create", "--clobber", "--fsid", fsid, "--enable-all-features",
                 "--set-min-mon-release", "16", "--addv", "a", f"[v2:127.0.0.1:{self.mon_port}]", str(d / "monmap"))
        self.run("ceph-mon", "-c", conf, "--mkfs", "-i", "a", "--monmap", str(d / "monmap"))
        self.spawn("ceph-mon", "-c", conf, "-f", "-i", "a")
        self.run("ceph-osd", "-c", conf, "--mkfs", "-i", "0", "--osd-uuid", osd)
        self.run("ceph", "--connect-timeout", "30", "osd", "new", osd)
        self.spawn("ceph-osd", "-c", conf, "-f", "-i", "0")
        self.until(self.osd_is_up, "the OSD")
        self.run("radosgw-admin", "-c", conf, "-n", "client.rgw", "user", "create", "--uid=test",
                 "--display-name=test", f"--access-key={self.access_key}", f"--secret-key={self.secret_key}")
        for name in self.storage_classes:
            self.add_storage_class(name)
        self.spawn("radosgw", "-c", conf, "-f", "-n", "client.rgw")
        self.until(self.answers, "the gateway")

    def kms_config(self):
        if not self.kms_keys:
            return ""
        keys = " ".join(f"{name}={base64.b64encode(secrets.token_bytes(32)).decode()}" for name in self.kms_keys)
        return ("rgw crypt s3 kms backend = testing\nrgw crypt require ssl = false\n"
                f"rgw crypt s3 kms encryption keys = {keys}\n")

    def add_storage_class(self, name):
        self.run("ceph", "osd", "pool", "create", self.pool_of(name), "8")
        where = ["--placement-id=default-placement", f"--storage-class={name}"]
        self.admin("zonegroup", "placement", "add", "--rgw-zonegroup=default", *where)
        self.admin("zone", "placement", "add", "--rgw-zone=default", *where, f"--data-pool={self.pool_of(name)}")

    def pool_of(self, storage_class):
        return "default.rgw.buckets.data" if storage_class == "STANDARD" else f"class.{storage_class.lower()}"

    def data_pools(self):
        """Where the bytes of objects are."""
        return [self.pool_of(name) for name in ("STANDARD", *self.storage_classes)]

    def at_rest(self, pool):
        """All that is in the pool, as it is there."""
        file = self.directory / "pool"
        self.run("rados", "-p", pool, "export", str(file))
        return file.read_bytes()

    def admin(self, *arguments):
        return self.run("radosgw-admin", "-c", self.environment["CEPH_CONF"], "-n", "client.rgw", *arguments)

    def collect(self):
        """What was deleted is gone, and its memory free."""
        self.admin("gc", "process", "--include-all")

    def add_key(self, user="test"):
        """Another pair of keys for the same user."""
        key = secrets.token_hex(10), secrets.token_hex(20)
        self.admin("key", "create", f"--uid={user}", "--key-type=s3", f"--access-key={key[0]}",
                   f"--secret-key={key[1]}")
        return key

    def add_user(self, name):
        key = secrets.token_hex(10), secrets.token_hex(20)
        self.admin("user", "create", f"--uid={name}", f"--display-name={name}", f"--access-key={key[0]}",
                   f"--secret-key={key[1]}")
        return key

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
        self.processes = []
        self.ports.close()
