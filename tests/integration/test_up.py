# SPDX-License-Identifier: Apache-2.0
"""sluice up: a whole cluster on this machine, and nothing left behind."""
import os
import signal
import subprocess


def test_up_prints_what_is_needed(cluster):
    info = cluster.info
    assert info["master"].startswith("127.0.0.1:")
    assert os.path.exists(info["config"])
    assert sorted(agent["site"] for agent in info["agents"]) == ["a", "a", "b", "b"]
    for agent in info["agents"]:
        assert os.path.exists(f"/proc/{agent['pid']}")
        assert "sluice-agent" in str(agent["command"])
    listed = cluster.listed_agents()
    assert {agent["name"] for agent in listed} == set(cluster.agents())
    cluster.until(cluster.all_connected, "all to be connected")


def test_a_daemon_that_died_is_started_again(cluster):
    for name in ["master", cluster.agents()[0]]:
        pid = cluster.kill(name)
        cluster.back(name, pid)
    cluster.until(cluster.all_connected, "all to be connected")
    a, b = cluster.root("a"), cluster.root("b")
    (a / "f").write_bytes(b"x")
    cluster.cp(f"a:{a}/f", f"b:{b}/f")


def test_a_second_up_on_the_same_directory_is_refused(cluster):
    done = subprocess.run(cluster.command, capture_output=True, env=cluster.environment, timeout=cluster.wait_s)
    assert done.returncode == 1, done.stderr
    assert b"runs there already" in done.stderr


def test_it_goes_on_in_the_same_directory(start):
    cluster = start()
    a, b = cluster.root("a"), cluster.root("b")
    (a / "f").write_bytes(b"x")
    cluster.cp(f"a:{a}/f", f"b:{b}/f")
    assert cluster.stop() == []
    cluster.start()
    assert len(cluster.flows()) == 1


def test_interrupt_stops_everything(start):
    cluster = start(sites={"a": 1})
    cluster.process.send_signal(signal.SIGINT)
    cluster.process.communicate(timeout=cluster.wait_s)
    assert cluster.process.returncode == 0
    for agent in cluster.info["agents"]:
        assert not os.path.exists(f"/proc/{agent['pid']}")


def test_every_command_has_help(binaries):
    top = subprocess.run([binaries / "sluice", "--help"], capture_output=True, text=True)
    assert top.returncode == 0
    for command in ["up", "cp", "submit", "ls", "show", "watch", "log", "why", "suspend", "resume", "cancel", "retry",
                    "agents", "limits", "drain"]:
        assert command in top.stdout
        done = subprocess.run([binaries / "sluice", command, "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and f"sluice {command}" in done.stdout and "--json" in done.stdout, command
    wrong = subprocess.run([binaries / "sluice", "frobnicate"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "frobnicate" in wrong.stderr
