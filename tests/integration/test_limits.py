# SPDX-License-Identifier: Apache-2.0
"""What clients and agents can make grow ends at its limit with a clear refusal, and is counted."""
import json
import subprocess


def limits(cluster):
    done = cluster.sluice("limits", "--json")
    assert done.returncode == 0, done.stderr
    return {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}


def test_refusals_name_the_limit_and_are_counted(start):
    cluster = start(settings={"master.limits": "{flows_queued: 2, flows_active: 1, watchers: 1, agents: 4}"})
    (cluster.root("a") / "file").write_bytes(b"x")
    words = [f"a:{cluster.root('a')}/file", f"b:{cluster.root('b')}/file", "--not-before", "+10h"]
    flows = [cluster.submit(*words) for _ in range(2)]
    now = limits(cluster)
    assert (now["flows_queued"]["now"], now["flows_queued"]["limit"], now["flows_queued"]["refused"]) == (2, 2, 0)
    assert (now["agents"]["now"], now["agents"]["limit"]) == (4, 4)
    refused = cluster.sluice("submit", *words)
    assert refused.returncode == 1 and b"limits.flows_queued" in refused.stderr, refused
    assert limits(cluster)["flows_queued"]["refused"] == 1
    cluster.json("cancel", flows.pop())
    flows.append(cluster.submit(*words))  # there is room again

    # A fifth agent.
    etc = cluster.directory / "up" / "etc"
    text = (etc / "a-1.yaml").read_text().replace("a-1", "a-9")
    (etc / "a-9.yaml").write_text(text)
    log = cluster.directory / "up" / "log" / "a-9.log"
    with subprocess.Popen([str(cluster.binaries / "sluice-agent"), "--config", str(etc / "a-9.yaml")],
                          env=cluster.environment) as agent:
        try:
            cluster.until(lambda: log.exists() and b"limits.agents" in log.read_bytes(), "the agent to be refused")
        finally:
            agent.terminate()
    now = limits(cluster)
    assert now["agents"]["now"] == 4 and now["agents"]["refused"] >= 1
    assert {"watchers", "tasks_in_memory", "flows_active", "calls"} <= set(now)
    assert (now["events_per_flow"]["limit"], now["events_per_flow"]["refused"]) == (1000, 0)
    assert 0 < now["message_bytes"]["now"] <= now["message_bytes"]["limit"] == 4 << 20
