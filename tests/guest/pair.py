# SPDX-License-Identifier: Apache-2.0
"""A cluster across two guests: the agent that is read from in the first ("far"), the master and
the agent that writes in the second ("near"), which also runs the tests and commands the first."""
import json
import os
import pathlib
import signal
import socket
import socketserver
import subprocess
import sys
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integration"))
sys.dont_write_bytecode = True
import trees  # noqa: E402
from changes import Changes  # noqa: E402

PORT = 9000  # of the far guest's commands, on the second link
WORK = pathlib.Path("/dev/shm/pair")
WAIT_S = 600  # how long anything may take at most, at emulated speed on a busy machine


def wait_until(condition, what, seconds=WAIT_S):
    """Looks, whenever a daemon of this guest wrote to its log, or a second has gone by (the other guest tells
    of nothing)."""
    deadline = time.monotonic() + seconds
    with Changes(WORK) as changes:
        while True:
            result = condition()
            if result:
                return result
            assert time.monotonic() < deadline, f"gave up waiting for {what}"
            changes.wait(1)


class Agent:
    """The agent of one guest; runs in that guest."""

    def __init__(self, preset, shared, node):
        self.name = f"agent{node}"
        self.binary = ROOT / "build" / preset / "bin" / "sluice-agent"
        self.volume = WORK / "volume"
        self.log = WORK / f"{self.name}.log"
        self.process = None
        self.volume.mkdir(parents=True, exist_ok=True)
        (WORK / "reports").mkdir(exist_ok=True)
        self.rails = []  # further addresses with a device
        self.tls = {"certificate": f"{shared}/{self.name}.pem", "key": f"{shared}/{self.name}.key",
                    "ca": f"{shared}/ca.pem"}
        self.node = node

    def start(self):
        (WORK / "agent.yaml").write_text(json.dumps({
            "name": self.name, "site": f"site{self.node}", "master": "10.77.1.2:7400",
            "state_dir": str(WORK / "agent"), "log_file": str(self.log),
            "data_listen": os.environ["GUEST_ADDRESS2"] + ":0", "tls": self.tls,
            "volumes": [{"name": "data", "root": str(self.volume)}],
            # A busy guest is slow to connect: nothing falls back to TCP for that.
            "rdma": {"listen": os.environ["GUEST_ADDRESS"] + ":0", "rails": self.rails, "security": "auth",
                     "retry": "2s", "connect": "300s"}}))
        self.process = start(self.binary, WORK / "agent.yaml")

    def add_rail(self):
        self.run("rdma link add rxe1 type rxe netdev eth1")
        self.rails = [os.environ["GUEST_ADDRESS2"] + ":0"]

    def packets_sent(self):
        """Of each device."""
        return {device: int(pathlib.Path(f"/sys/class/infiniband/{device}/ports/1/hw_counters/sent_pkts").read_text())
                for device in os.listdir("/sys/class/infiniband")}

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(WAIT_S) == 0, self.log.read_text()[-2000:]

    def write(self, path, size, seed):
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        trees.write(path, size, seed=seed)

    def hostile(self, path, files):
        trees.hostile(pathlib.Path(path), files=files, directories=10)

    def inventory(self, path):
        """What tells two trees apart, as text."""
        done = subprocess.run(
            "find . -printf '%P %y %m %U %G %T@ %l\\n' | sort; find . -type f -exec sha256sum {} + | sort",
            shell=True, cwd=path, capture_output=True, check=True)
        return done.stdout.decode(errors="surrogateescape")

    def run(self, command):
        done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def tail(self):
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


def start(binary, config):
    environment = {**os.environ,
                   "ASAN_OPTIONS": f"log_path={WORK}/reports/report:detect_leaks=1",
                   "UBSAN_OPTIONS": f"log_path={WORK}/reports/report:print_stacktrace=1"}
    return subprocess.Popen([str(binary), "--config", str(config)], env=environment)


def sanitizer_reports():
    return "\n".join(path.read_text(errors="replace")[:3000] for path in sorted((WORK / "reports").iterdir()))


# ---- the far guest does what it is told ----
class Command(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            name, arguments = json.loads(line)
            try:
                method = getattr(self.server.agent, name, None) or globals()[name]
                answer = {"result": method(*arguments)}
            except BaseException as e:  # pylint: disable=broad-except
                answer = {"error": f"{name}: {e!r}"}
            self.wfile.write(json.dumps(answer).encode() + b"\n")
        self.server.is_done = True


class Far(socketserver.TCPServer):
    allow_reuse_address = True
    is_done = False

    def __init__(self, agent):
        super().__init__((os.environ["GUEST_ADDRESS2"], PORT), Command)
        self.agent = agent

    def serve(self):
        while not self.is_done:
            self.handle_request()
        if self.agent.process and self.agent.process.poll() is None:
            self.agent.kill()


class Remote:
    """In the near guest: methods of the far guest's agent."""

    def __init__(self):
        deadline = time.monotonic() + 3 * WAIT_S  # it has other work to do before
        while True:
            try:
                self.socket = socket.create_connection((os.environ["GUEST_PEER2"], PORT), timeout=5)
                break
            except OSError:
                assert time.monotonic() < deadline, "the other guest does not answer"
                time.sleep(0.5)
        self.socket.settimeout(None)
        self.file = self.socket.makefile("rwb")

    def __getattr__(self, name):
        def call(*arguments):
            self.file.write(json.dumps([name, [str(a) if isinstance(a, pathlib.Path) else a for a in arguments]]).encode() + b"\n")
            self.file.flush()
            answer = json.loads(self.file.readline())
            assert "error" not in answer, answer["error"]
            return answer["result"]
        return call

    def close(self):
        self.file.close()
        self.socket.close()


# ---- the near guest ----
class Pair:
    def __init__(self, preset, shared):
        self.preset = preset
        self.bin = ROOT / "build" / preset / "bin"
        self.near = Agent(preset, shared, 2)
        self.far = Remote()
        self.fallbacks_caused = 0  # by tests
        tls = {"ca": f"{shared}/ca.pem"}
        for name in ("master", "client"):
            (WORK / f"{name}.tls").write_text("")
            tls[name] = {"certificate": f"{shared}/{name}.pem", "key": f"{shared}/{name}.key", "ca": f"{shared}/ca.pem"}
        (WORK / "master.yaml").write_text(json.dumps({
            "listen": "10.77.1.2:7400", "state_dir": str(WORK / "master"), "log_file": str(WORK / "master.log"),
            "lost_after": "100s", "hold": "200s", "part_bytes": "8MiB", "tls": tls["master"]}))
        (WORK / "client.yaml").write_text(json.dumps({"master": "10.77.1.2:7400", "tls": tls["client"]}))
        os.environ["SLUICE_CONFIG"] = str(WORK / "client.yaml")
        self.master = start(self.bin / "sluice-master", WORK / "master.yaml")
        self.near.start()
        self.far.start()
        wait_until(lambda: len(self.agents()) == 2, "both agents")

    def sluice(self, *words):
        return subprocess.run([str(self.bin / "sluice"), *map(str, words)], capture_output=True, text=True,
                              timeout=WAIT_S, stdin=subprocess.DEVNULL)

    def agents(self):
        done = self.sluice("agents", "--json")
        return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []

    def submit(self, name, *options):
        request = str(uuid.uuid4())
        deadline = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + WAIT_S))

        def accepted():  # 4: a busy machine is slow to shake hands; the same request is asked again
            done = self.sluice("submit", "--request-id", request, "--deadline", deadline, *options,
                               f"site1:{self.near.volume / name}/", f"site2:{self.near.volume / name}")
            assert done.returncode in (0, 4), done.stderr
            return done.returncode == 0 and done.stdout.strip()
        return wait_until(accepted, "the flow to be accepted")

    def show(self, flow):
        done = self.sluice("show", flow, "--json")
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def delivered(self, flow, name):
        """Waits for its end: delivered within its deadline, and exact."""
        now = wait_until(lambda: (lambda s: s.get("state") in ("COMPLETED", "TERMINATED") and s)(self.show(flow)),
                         f"the end of flow {flow}", 2 * WAIT_S)
        assert (now["state"], now["outcome"]) == ("COMPLETED", "delivered"), f"{now}\n{self.tails()}"
        self.same(name)
        return now

    def same(self, name):
        there, here = self.far.inventory(self.near.volume / name), self.near.inventory(self.near.volume / name)
        assert there == here, "\n".join(set(there.splitlines()) ^ set(here.splitlines()))

    def is_moving(self, name):
        directory = self.near.volume / name
        return directory.is_dir() and any(
            os.path.getsize(directory / entry) > 1 << 20 for entry in os.listdir(directory))

    def wait_moving(self, name, flow):
        """Until bytes of the flow arrive here, or it has ended."""
        directory = self.near.volume / name
        with Changes(self.near.volume) as changes:
            while not directory.is_dir() and self.show(flow).get("state") == "STARTED":
                changes.wait(1)
        with Changes(directory) as changes:
            while not self.is_moving(name) and (changes.wait(1) or self.show(flow).get("state") == "STARTED"):
                pass

    def events(self, name):
        found = []
        for line in self.near.log.read_bytes().splitlines():
            try:
                line = json.loads(line)
            except ValueError:
                continue
            if line.get("event") == name:
                found.append(line)
        return found

    def tails(self):
        text = f"--- near\n{self.near.tail()}\n--- far\n{self.far.tail()}"
        return f"{text}\n--- master\n{(WORK / 'master.log').read_text(errors='replace')[-3000:]}"

    @staticmethod
    def stop_far_guest():
        print("the first guest is to stop", flush=True)  # tests/guest/rdma reads it

    @staticmethod
    def go_on():
        print("the first guest is to go on", flush=True)

    def close(self):
        """Stops everything; nothing may be wrong with it."""
        self.far.stop()
        self.near.stop()
        self.master.send_signal(signal.SIGTERM)
        assert self.master.wait(WAIT_S) == 0
        problems = sanitizer_reports() + self.far.sanitizer_reports()
        self.far.close()
        assert not problems, problems
