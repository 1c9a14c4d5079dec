# SPDX-License-Identifier: Apache-2.0
"""Whose stored keys are: with certificates, only the client that stored them may change or name them."""
import json
import os
import pathlib
import subprocess

from daemons import Daemon

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_keys_belong_to_the_client_that_stored_them(binaries, work):
    certificates = work / "certificates"
    subprocess.run([ROOT / "deploy" / "certificates", certificates, "master,127.0.0.1", "alice", "bob"], check=True,
                   capture_output=True)

    def tls(name):
        return (f"tls: {{certificate: {certificates}/{name}.pem, key: {certificates}/{name}.key, "
                f"ca: {certificates}/ca.pem}}\n")

    (work / "master.yaml").write_text(f"listen: 127.0.0.1:0\nstate_dir: {work}/state\n{tls('master')}")
    master = Daemon("master", [binaries / "sluice-master", "--config", work / "master.yaml"], work / "master.log",
                    dict(os.environ))

    def started():
        master.start()
        while not master.this_life("master_started"):
            assert master.alive, (work / "master.log").read_text()
        address = master.this_life("master_started")["address"]
        for name in ("alice", "bob"):
            (work / f"{name}.yaml").write_text(f"master: {address}\n{tls(name)}")

    def sluice(client, *words):
        keys = {"AWS_ACCESS_KEY_ID": f"of-{client}", "AWS_SECRET_ACCESS_KEY": "secret"}
        return subprocess.run([binaries / "sluice", *words], capture_output=True, timeout=60, check=False,
                              env={**os.environ, **keys, "SLUICE_CONFIG": str(work / f"{client}.yaml")})

    try:
        started()
        assert sluice("alice", "credentials", "update", "shared").returncode == 0
        for _ in range(2):  # also after a restart of the master
            for words in (["credentials", "update", "shared"], ["credentials", "remove", "shared"],
                          ["submit", "--credentials", "shared", "s3://b/k", "s3://b/l"],
                          ["submit", "--credentials", "s3=shared", "s3://b/k", "s3://b/l"]):
                done = sluice("bob", *words)
                assert done.returncode == 5 and b"belong to alice" in done.stderr, (words, done.stderr)
            listed = json.loads(sluice("bob", "credentials", "--json").stdout)
            assert (listed["name"], listed["owner"]) == ("shared", "alice")
            master.kill()
            started()
        assert sluice("alice", "credentials", "update", "shared").returncode == 0
        assert sluice("alice", "credentials", "remove", "shared").returncode == 0
        assert sluice("bob", "credentials", "update", "shared").returncode == 0
    finally:
        master.kill()
