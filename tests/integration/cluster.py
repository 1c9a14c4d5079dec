# SPDX-License-Identifier: Apache-2.0
"""A cluster on this machine, started by `sluice up`, and the `sluice` command on it."""
import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sqlite3
import time

import postgres
from changes import Changes, wait_end

WAIT_S = {"release": 600, "dev": 900, "tsan": 1200}  # how long anything may take at most
# No agent is lost because the machine is busy; tests of what happens then say less.
PATIENT = {"master.lost_after": "100s", "master.hold": "200s"}

# Short times, for tests of what happens when agents are lost.
QUICK = {"master.hold": "4s", "master.lost_after": "2s", "master.reconcile": "2s", "master.part_bytes": "16MiB"}


class Cluster:
    def __init__(self, binaries, preset, directory, sites=None, volumes=None, settings=None,
                 environment=None, stores=None, database=None, masters=1):
        """sites: {name: number of agents}; volumes: [(site, name, path)], by default one named
        `data` for each site; settings: {"master.hold": "2s", ...}; stores: {name: URL};
        database: "sqlite", "postgresql" (a new database on this process's server, cluster.postgres)
        or a URL; by default what $SLUICE_TEST_DATABASE says, or SQLite. masters: more than one share
        a PostgreSQL database, see active_master()."""
        self.binaries = pathlib.Path(binaries)
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.wait_s = WAIT_S[preset]
        self.sites = sites or {"a": 2, "b": 2}
        if volumes is None:
            volumes = [(site, "data", self.directory / "volumes" / site) for site in self.sites]
        self.volumes = volumes
        for _, _, path in volumes:
            os.makedirs(path, exist_ok=True)
        self.reports = self.directory / "sanitizer"
        self.reports.mkdir(exist_ok=True)
        self.environment = dict(os.environ)
        self.environment.pop("SLUICE_MASTER", None)
        log = self.reports / "report"
        self.environment["ASAN_OPTIONS"] = f"log_path={log}:detect_leaks=1"
        self.environment["UBSAN_OPTIONS"] = f"log_path={log}:print_stacktrace=1"
        self.environment["TSAN_OPTIONS"] = f"log_path={log}:ignore_noninstrumented_modules=1:second_deadlock_stack=1"
        self.environment.update(environment or {})
        self.command = [str(self.binaries / "sluice"), "up", "--json", "--dir", str(self.directory / "up")]
        for name, agents in self.sites.items():
            self.command += ["--site", f"{name}={agents}"]
        for site, name, path in volumes:
            self.command += ["--volume", f"{site}:{name}={path}"]
        for name, url in (stores or {}).items():
            self.command += ["--store", f"{name}={url}"]
        database = database or os.environ.get("SLUICE_TEST_DATABASE", "sqlite")
        if masters > 1 and database == "sqlite":
            database = "postgresql"
        self.postgres = None
        if database == "postgresql":
            self.postgres = postgres.shared()
            database = self.postgres.database()
        self.database = database
        if database != "sqlite":
            self.command += ["--database", database]
        if masters > 1:
            self.command += ["--standbys", str(masters - 1)]
        for key, value in {**PATIENT, **(settings or {})}.items():
            self.command += ["--set", f"{key}={value}"]
        self.process = None
        self.start()

    @staticmethod
    def master_address(directory):
        """Of the cluster in this directory, also while it still starts."""
        return (pathlib.Path(directory) / "up" / "state" / "port").read_text().strip()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=self.environment)
        ready, _, _ = select.select([self.process.stdout], [], [], self.wait_s)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.process.kill()
            _, err = self.process.communicate()
            raise RuntimeError(f"sluice up did not get ready: {err.decode(errors='replace')}\n{self.log_tail()}")
        self.info = json.loads(line)
        self.environment["SLUICE_CONFIG"] = self.info["config"]

    # ---- paths ----
    def root(self, site, name="data"):
        return next(pathlib.Path(path) for s, n, path in self.volumes if (s, n) == (site, name))

    def log_file(self, name):
        return self.directory / "up" / "log" / f"{name}.log"

    def log_lines(self, name):
        """The lines of a daemon's log, parsed: every line must be JSON."""
        path = self.log_file(name)
        if not path.exists():
            return []
        whole, _, _ = path.read_bytes().rpartition(b"\n")  # the last line may be half-written
        return [json.loads(line) for line in whole.decode("utf-8").splitlines()]

    def log_tail(self):
        text = ""
        for path in sorted((self.directory / "up" / "log").glob("*.log")):
            text += f"--- {path.name}\n" + path.read_text(errors="replace")[-1500:]
        return text

    # ---- the command ----
    def sluice(self, *arguments, timeout=None, env=None, cwd=None):
        words = [a if isinstance(a, bytes) else os.fsencode(str(a)) for a in arguments]
        return subprocess.run([os.fsencode(str(self.binaries / "sluice")), *words], capture_output=True,
                              env=env or self.environment, timeout=timeout or self.wait_s, cwd=cwd,
                              stdin=subprocess.DEVNULL)

    def json(self, *arguments, status=0):
        done = self.sluice(*arguments, "--json")
        assert done.returncode == status, f"{arguments}: {done.returncode}: {done.stderr.decode(errors='replace')}"
        return json.loads(done.stdout)

    def cp(self, source, destination, *options, status=0):
        done = self.sluice("cp", *options, source, destination)
        assert done.returncode == status, (
            f"cp: exit {done.returncode}, not {status}: {done.stderr.decode(errors='replace')[-1500:]}"
            f"\n{self.log_tail()}")
        return done

    def submit(self, source, destination, *options):
        done = self.sluice("submit", *options, source, destination)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode().strip()

    def cancel(self, flow):
        """The flow may have been delivered before."""
        done = self.sluice("cancel", flow)
        assert done.returncode == 0 or b"COMPLETED" in done.stderr, done.stderr

    def show(self, flow):
        return self.json("show", flow)

    def flows(self):
        done = self.sluice("ls", "--all", "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def listed_agents(self):
        done = self.sluice("agents", "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def wait(self, flow, timeout=None):
        """Until the flow is final; its last state. The master may be away meanwhile."""
        deadline = time.monotonic() + (timeout or self.wait_s)

        def final():
            self.sluice("watch", flow, timeout=max(1, deadline - time.monotonic()))
            done = self.sluice("show", flow, "--json")
            now = json.loads(done.stdout) if done.returncode == 0 else {}
            return now if now.get("state") in ("COMPLETED", "TERMINATED") else None

        return self.until(final, f"the end of {flow}", timeout)

    def until(self, condition, what, timeout=None, below="log"):
        """Looks, whenever a daemon wrote to its log (it logs all that matters; below="state/master": to
        SQLite's database), or a second has gone by, until the condition gives something true, and returns that."""
        deadline = time.monotonic() + (timeout or self.wait_s)
        with Changes(self.directory / "up" / below) as changes:
            while True:
                result = condition()
                if result:
                    return result
                assert time.monotonic() < deadline, f"gave up waiting for {what}\n{self.log_tail()}"
                changes.wait(min(1, deadline - time.monotonic()))

    def agents_now(self):
        done = self.sluice("agents", "--json")
        return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []

    def all_connected(self):
        """Are all agents, as they run now?"""
        now = {agent["name"]: agent["pid"] for agent in self.agents_now() if agent["connected"]}
        return now == {name: self.pid(name) for name in self.agents()}

    # ---- processes ----
    def pid(self, name):
        """The pid of a daemon now ("master" or an agent's name), from its log."""
        for line in reversed(self.log_lines_tolerant(name)):
            if line.get("event") in ("master_started", "master_standby", "agent_started"):
                return line["pid"]
        raise AssertionError(f"{name} never started")

    def masters(self):
        return [master["name"] for master in self.info["masters"]]

    def terms(self):
        """{master: the highest term that it ever had}."""
        return {name: max([line["term"] for line in self.log_lines_tolerant(name)
                           if line.get("event") == "master_started"], default=0) for name in self.masters()}

    def active_master(self):
        """The master that took over last, and its term."""
        return max(self.terms().items(), key=lambda item: item[1])

    def standby_masters(self):
        """Those that wait for it to end."""
        def waits(name):
            events = [line.get("event") for line in self.log_lines_tolerant(name)
                      if line.get("event") in ("master_started", "master_standby")]
            return events[-1:] == ["master_standby"]
        return [name for name in self.masters() if waits(name)]

    def log_lines_tolerant(self, name):
        lines = []
        for line in self.log_file(name).read_bytes().splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                pass  # killed while it wrote
        return lines

    def kill(self, name, sig=signal.SIGKILL):
        pid = self.pid(name)
        os.kill(pid, sig)
        if sig == signal.SIGKILL:
            wait_end(pid, self.wait_s)
        return pid

    def back(self, name, pid):
        """Waits until a daemon that was this process was started again."""
        self.until(lambda: self.pid(name) != pid, f"{name} to come back")

    def data_address(self, name):
        """Where the agent serves data now, behind whatever it tells others to connect to."""
        def started():
            lines = [line for line in self.log_lines_tolerant(name) if line.get("event") == "agent_started"]
            return lines[-1]["data_listen"] if lines else None
        return self.until(started, f"{name} to start")

    def stored(self, query):
        """The one number in each row that the master's database gives."""
        if self.postgres:
            return [int(number) for number in self.postgres.sql(self.database, query).split()]
        path = self.directory / "up" / "state" / "master" / "sluice.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=self.wait_s)) as database:
            return [number for (number,) in database.execute(query)]

    def stored_tasks(self):
        """Those that the database does not know to have ended."""
        return set(self.stored("SELECT task_id FROM task_state"))

    def agents(self, site=None):
        return [agent["name"] for agent in self.info["agents"] if site in (None, agent["site"])]

    def stop(self):
        """Stops everything. Returns what is wrong: processes left, sanitizers' reports."""
        problems = []
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                _, err = self.process.communicate(timeout=self.wait_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                _, err = self.process.communicate()
                problems.append("sluice up did not stop on SIGTERM")
            if self.process.returncode != 0:
                problems.append(f"sluice up ended with {self.process.returncode}: {err.decode(errors='replace')}")
        left = subprocess.run(["pgrep", "-af", str(self.directory / "up")], capture_output=True, text=True).stdout
        if left:
            problems.append("processes are left: " + left)
            subprocess.run(["pkill", "-KILL", "-f", str(self.directory / "up")], check=False)
        for report in sorted(self.reports.iterdir()):
            problems.append(f"{report.name}: {report.read_text(errors='replace')[:3000]}")
        return problems
