# SPDX-License-Identifier: Apache-2.0
"""A gRPC client that shares no code with Sluice (@grpc/grpc-js) does what the API promises."""
import json
import pathlib
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
PROTOS = HERE.parents[1] / "proto"


@pytest.mark.release_only
def test_an_independent_client(cluster, work):
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("node and npm are missing: apt-get install nodejs npm")
    client = work / "client"
    shutil.copytree(HERE / "client", client)
    try:
        install = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=client,
                                 capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.skip("npm cannot install @grpc/grpc-js in 300 s")
    if install.returncode != 0:
        pytest.skip("npm cannot install @grpc/grpc-js: " + install.stderr.strip()[-200:])
    a, b = cluster.root("a"), cluster.root("b")
    (a / "f").write_bytes(b"x" * 100_000)
    done = subprocess.run(["node", "client.js", cluster.info["master"], str(PROTOS), "a", f"{a}/f", "b", f"{b}/f"],
                          cwd=client, capture_output=True, text=True, timeout=cluster.wait_s)
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    for version in ("v1", "v1alpha"):
        assert {"sluice.v1.FlowService", "sluice.v1.ClusterService", "grpc.health.v1.Health"} <= set(out[version]["services"])
        assert out[version]["files"] >= 1
    assert out["health"] == "SERVING"
    assert out["events"][0]["state"] == "STARTED" and out["events"][-1]["state"] == "COMPLETED"
    assert out["missing"]["code"] == 5 and out["missing"]["trailer"] == 1
    assert out["unimplemented"]["code"] == 12 and "run_as" in out["unimplemented"]["details"]
    assert (b / "f").read_bytes() == b"x" * 100_000
