# SPDX-License-Identifier: Apache-2.0
"""A cluster whose daemons are started one by one, each behind relays, so that each can be killed,
stopped and started again when the schedule says so."""
import ctypes
import json
import os
import re
import signal
import subprocess
import time

from cluster import Cluster
from relay import Relay

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    os.setpgid(0, 0)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Daemon:
    def __init__(self, name, command, log, environment):
        self.name = name
        self.command = command
        self.log = log  # a path
        self.environment = environment
        self.process = None
        self.stopped = False
        self.lives = 0
        self.kills = 0  # each may cut a line of the log in two
        self.checked = 0  # so much of the log was looked at
        self.log_start = 0  # of this life

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def start(self):
        """Does nothing if it runs."""
        if self.alive:
            return
        self.log_start = self.log.stat().st_size if self.log.exists() else 0
        self.stopped = False
        self.lives += 1
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            env=self.environment, preexec_fn=die_with_parent)

    def kill(self):
        """SIGKILL; whether there was something to kill."""
        if not self.alive:
            return False
        self.process.kill()
        self.process.wait()
        self.kills += 1
        return True

    def this_life(self, event):
        """The newest line of this event since the last start."""
        found = None
        if self.log.exists():
            with open(self.log, "rb") as log:
                log.seek(self.log_start)
                for line in log:
                    if b'"event":"%s"' % event.encode() in line and line.endswith(b"\n"):
                        try:
                            found = json.loads(line)
                        except ValueError:
                            pass  # written half before a kill, and gone on with
        return found

    def count(self, event, since):
        """Lines of this event after the first `since` bytes of the log."""
        with open(self.log, "rb") as log:
            log.seek(since)
            return log.read().count(b'"event":"%s"' % event.encode())

    def usage(self):
        """(descriptors, threads, resident MiB) now."""
        pid = self.process.pid
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            text = status.read()
        return (len(os.listdir(f"/proc/{pid}/fd")), int(re.search(r"Threads:\s+(\d+)", text)[1]),
                int(re.search(r"VmRSS:\s+(\d+)", text)[1]) >> 10)


class Daemons(Cluster):
    """`sluice up` makes directories and configurations; from then on the daemons are ours."""

    def start(self):
        super().start()
        problems = super().stop()
        if problems:
            raise RuntimeError("\n".join(problems))
        directory = self.directory / "up"
        self.daemons = {}
        self.control, self.data = {}, {}  # relays by the agent's name
        self.port_file = directory / "state" / "port"
        self.port_file.unlink(missing_ok=True)
        self._set("master", listen="127.0.0.1:0")
        self._add("master", self.info["master_command"])
        for agent in self.info["agents"]:
            name = agent["name"]
            self._add(name, agent["command"])
            self.control[name] = Relay(self._master)
            self.data[name] = Relay(lambda name=name: self._data_of(name))
            self._set(name, master=self.control[name].address)
            with open(directory / "etc" / f"{name}.yaml", "a", encoding="utf-8") as config:
                config.write(f'data_addresses: ["{self.data[name].address}"]\n')
        self.database = None
        if self.postgres:
            self._relay_database()
        self.clients = Relay(self._master)
        self.environment["SLUICE_MASTER"] = self.clients.address
        self.before_start()
        for daemon in self.daemons.values():
            daemon.start()
        self.until_connected()

    def before_start(self):
        pass

    def _relay_database(self):
        path = self.directory / "up" / "etc" / "master.yaml"
        name = re.search(r'^database: "?postgresql://[^/]*/(\w+)\?', path.read_text(encoding="utf-8"), re.MULTILINE)[1]
        self.database = Relay(lambda: str(self.postgres.directory / ".s.PGSQL.5432"))
        self._set("master", database=f"postgresql://sluice@{self.database.address}/{name}?sslmode=disable")

    def _add(self, name, command):
        self.daemons[name] = Daemon(name, command, self.log_file(name), self.environment)

    def _set(self, name, **values):
        path = self.directory / "up" / "etc" / f"{name}.yaml"
        text = path.read_text(encoding="utf-8")
        for key, value in values.items():
            text, n = re.subn(rf"^{key}: .*$", f'{key}: "{value}"', text, flags=re.MULTILINE)
            assert n == 1, (name, key, text)
        path.write_text(text, encoding="utf-8")

    def _master(self):
        try:
            host, port = self.port_file.read_text(encoding="ascii").strip().rsplit(":", 1)
        except (OSError, ValueError):
            return None
        return host, int(port)

    def _data_of(self, name):
        line = self.daemons[name].this_life("agent_started")
        if line is None:
            return None
        host, port = line["data_listen"].rsplit(":", 1)
        return host, int(port)

    @property
    def relays(self):
        return [self.clients, *self.control.values(), *self.data.values()] + ([self.database] if self.database else [])

    def until_connected(self):
        def all_here():
            dead = [d.name for d in self.daemons.values() if not d.alive]
            assert not dead, f"{dead} ended by themselves\n{self.log_tail()}"
            here = {agent["name"] for agent in self.agents_now() if agent["connected"]}
            return here == set(self.agents())
        self.until(all_here, "all agents to be connected")

    def agents_now(self):
        try:
            done = self.sluice("agents", "--json", timeout=20)
        except subprocess.TimeoutExpired:
            return []
        return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []

    def stop(self):
        for relay in self.relays:
            relay.calm()
        problems = []
        for daemon in self.daemons.values():
            if daemon.alive:
                if daemon.stopped:
                    os.kill(daemon.process.pid, signal.SIGCONT)
                daemon.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self.wait_s
        for daemon in self.daemons.values():
            if daemon.process is None:
                continue
            try:
                status = daemon.process.wait(timeout=max(1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                daemon.kill()
                status = "no end on SIGTERM"
            if status not in (0, -signal.SIGKILL):
                problems.append(f"{daemon.name} ended with {status}")
        for relay in self.relays:
            relay.close()
        for report in sorted(self.reports.iterdir()):
            problems.append(f"{report.name}: {report.read_text(errors='replace')[:3000]}")
        return problems

    def abandon(self):
        """Ends everything at once."""
        for daemon in self.daemons.values():
            daemon.kill()
        for relay in self.relays:
            relay.close()
