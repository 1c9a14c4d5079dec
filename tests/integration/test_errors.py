# SPDX-License-Identifier: Apache-2.0
"""Every failure names the thing, the reason and the remedy, and has its exit code."""
import os
import socket
import subprocess

import pytest


def fails(cluster, status, words, *arguments):
    """The command ends with this status and an error that has all these words."""
    done = cluster.sluice(*arguments)
    text = done.stderr.decode(errors="replace")
    assert done.returncode == status, f"{arguments}: exit {done.returncode}: {text}"
    for word in words:
        assert word.lower() in text.lower(), f"{word!r} is not in: {text}"
    assert ";" in text, f"no remedy in: {text}"
    return text


def test_a_source_that_is_missing(cluster):
    a, b = cluster.root("a"), cluster.root("b")
    fails(cluster, 1, [f"{a}/nothing", "no such"], "cp", f"a:{a}/nothing", f"b:{b}/x")


def test_an_unknown_site(cluster):
    b = cluster.root("b")
    fails(cluster, 1, ["nowhere", "site"], "cp", "nowhere:/x", f"b:{b}/x")


def test_a_path_outside_every_volume(cluster):
    b = cluster.root("b")
    fails(cluster, 1, ["/etc", "volume", str(cluster.root("a"))], "cp", "a:/etc", f"b:{b}/x")


def test_dots_that_lead_out(cluster):
    a, b = cluster.root("a"), cluster.root("b")
    fails(cluster, 2, [".."], "cp", f"a:{a}/../../etc/passwd", f"b:{b}/x")


def test_a_symbolic_link_that_leads_out(cluster):
    a, b = cluster.root("a"), cluster.root("b")
    os.symlink("/etc", a / "out")
    fails(cluster, 5, ["leads out"], "cp", f"a:{a}/out/passwd", f"b:{b}/x")
    (a / "f").write_bytes(b"x")
    os.symlink("/tmp", b / "out")
    done = cluster.sluice("cp", f"a:{a}/f", f"b:{b}/out/f")
    assert done.returncode in (1, 5) and b"leads out" in done.stderr
    assert not os.path.exists("/tmp/f")


@pytest.mark.parametrize("location", ["noslash", "a:relative", ":/x", "a:", "s3:/x", "a/:/x"])
def test_a_location_that_is_none(cluster, location):
    done = cluster.sluice("cp", location, "b:/x")
    assert done.returncode == 2, done.stderr
    assert location.encode() in done.stderr and b"SITE:/" in done.stderr


def test_one_object_of_a_tree_that_fails(cluster):
    a, b = cluster.root("a"), cluster.root("b")
    (a / "tree").mkdir()
    for i in range(20):
        (a / "tree" / f"f{i}").write_bytes(b"content")
    (b / "tree" / "f7").mkdir(parents=True)  # in the way of a file
    done = cluster.sluice("cp", f"a:{a}/tree/", f"b:{b}/tree")
    assert done.returncode == 3, done.stderr
    assert sorted(os.listdir(b / "tree")) == sorted(f"f{i}" for i in range(20))
    flow = cluster.flows()[0]
    assert (flow["state"], flow["outcome"], flow["objects_failed"]) == ("TERMINATED", "partial", 1)
    failed = cluster.sluice("show", flow["id"], "--failed")
    assert b"f7" in failed.stdout and b"in the way" in failed.stdout and failed.returncode == 0


def test_a_destination_that_is_not_writable(start, work):
    cluster = start()
    a, b = cluster.root("a"), cluster.root("b")
    (a / "f").write_bytes(b"x")
    (b / "file").write_bytes(b"in the way")
    done = cluster.sluice("cp", f"a:{a}/f", f"b:{b}/file/below")
    assert done.returncode in (1, 5), done.stderr
    assert b"not a directory" in done.stderr.lower()


def test_a_master_that_is_not_there(binaries):
    done = subprocess.run([binaries / "sluice", "ls", "--master", "127.0.0.1:1"], capture_output=True)
    assert done.returncode == 4, done.stderr
    assert b"127.0.0.1:1" in done.stderr


def daemon(binaries, program, text, path):
    path.write_text(text)
    return subprocess.run([binaries / program, "--config", path], capture_output=True, timeout=300)


@pytest.mark.parametrize("text, words", [
    ("listen: [1", ["line"]),
    ("listen: 127.0.0.1:0\nstate_dri: /x\n", ["state_dri", "line 2"]),
    ("listen: 127.0.0.1:0\nstate_dir: {dir}\nhold: soon\n", ["hold", "line 3"]),
    ("listen: 0.0.0.0:0\nstate_dir: {dir}\n", ["tls"]),
])
def test_a_malformed_configuration(binaries, work, text, words):
    done = daemon(binaries, "sluice-master", text.replace("{dir}", str(work / "s")), work / "master.yaml")
    assert done.returncode == 2, done.stderr
    for word in words + ["master.yaml"]:
        assert word in done.stderr.decode(), done.stderr


def test_a_port_in_use(binaries, work):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = daemon(binaries, "sluice-master", f"listen: 127.0.0.1:{port}\nstate_dir: {work}/s\n", work / "m.yaml")
        assert done.returncode == 1 and str(port) in done.stderr.decode(), done.stderr


def test_a_second_master_on_the_same_database(cluster, binaries, work):
    state = cluster.directory / "up"
    config = next(state.glob("**/master.yaml"))
    text = config.read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("listen", "port_file", "log_file"))]
    done = daemon(binaries, "sluice-master", "\n".join(lines + ["listen: 127.0.0.1:0"]) + "\n", work / "m.yaml")
    assert done.returncode == 1, done.stderr
    assert b"another process uses it" in done.stderr


def test_a_volume_root_that_does_not_exist(binaries, work):
    done = daemon(binaries, "sluice-agent",
                  f"name: x\nsite: a\nmaster: 127.0.0.1:1\nstate_dir: {work}/s\nvolumes:\n"
                  f"  - {{name: data, root: {work}/none, mode: rw}}\n", work / "agent.yaml")
    assert done.returncode in (1, 2) and f"{work}/none" in done.stderr.decode(), done.stderr


def test_no_agent_for_the_site(start):
    cluster = start(sites={"a": 1, "b": 1}, settings={"master.park": "2s", "master.lost_after": "5s", "master.hold": "30s"})
    a, b = cluster.root("a"), cluster.root("b")
    (a / "f").write_bytes(b"x")
    # Its agent stops answering: the flow says that it waits for it, and fails in the end.
    name = cluster.agents("b")[0]
    import signal
    pid = cluster.kill(name, signal.SIGSTOP)
    try:
        done = cluster.sluice("cp", f"a:{a}/f", f"b:{b}/f")
        assert done.returncode == 1 and b"agent" in done.stderr.lower(), done.stderr
    finally:
        os.kill(pid, signal.SIGCONT)
