# SPDX-License-Identifier: Apache-2.0
"""One round: flows are submitted, things go wrong, and then everything must be as if they had not."""
import heapq
import itertools
import json
import os
import random
import shutil
import stat
import subprocess
import time

import trees
from troubles import WITHIN_S, Hand, schedule

SLOTS = 4  # of each agent
PART_BYTES = 4 << 20
# One agent has at most so much in flight: a part, or a batch of small files, in each slot.
IN_FLIGHT = SLOTS * PART_BYTES


class Violation(AssertionError):
    pass


def make_tree(rng, path):
    """A mixed tree; returns how many bytes it holds as it travels."""
    trees.hostile(path, files=rng.randrange(30, 400), directories=rng.randrange(5, 60), seed=rng.randrange(1 << 30))
    for i in range(rng.randrange(1, 4)):
        trees.write(path / f"large{i}", rng.randrange(1 << 20, 24 << 20), seed=rng.randrange(1 << 30))
    with open(path / "sparse", "wb") as sparse:
        for _ in range(rng.randrange(4)):
            sparse.seek(rng.randrange(64 << 20))
            sparse.write(rng.randbytes(rng.randrange(1, 100000)))
        sparse.truncate(64 << 20)
    return sum(os.lstat(file).st_blocks * 512 for file in every_file(path))


def exact_objects(source, destination):
    """How many objects of the source are at the destination, whole."""
    source, destination = os.fsencode(source), os.fsencode(destination)
    count = int(os.path.isdir(destination))
    for directory, directories, names in os.walk(source):
        for name in directories + names:
            path = os.path.join(directory, name)
            other = destination + path[len(source):]
            count += is_exact(path, other)
    return count


def is_exact(path, other):
    try:
        one, two = os.lstat(path), os.lstat(other)
    except FileNotFoundError:
        return False
    if stat.S_IFMT(one.st_mode) != stat.S_IFMT(two.st_mode):
        return False
    if stat.S_ISDIR(one.st_mode):
        return True  # its metadata comes last
    if stat.S_ISLNK(one.st_mode):
        return os.readlink(path) == os.readlink(other)
    if (one.st_size, one.st_mtime_ns, one.st_mode) != (two.st_size, two.st_mtime_ns, two.st_mode):
        return False
    with open(path, "rb") as a, open(other, "rb") as b:
        return a.read() == b.read()


def every_file(root):
    for directory, _, names in os.walk(os.fsencode(root)):
        yield from (os.path.join(directory, name) for name in names)


class Flow:
    def __init__(self, name, source, destination, submit_at_s):
        self.name = name
        self.source, self.destination = source, destination  # (site, path)
        self.submit_at_s = submit_at_s
        self.id = None
        self.process = None  # submitting, then watching
        self.events = None  # a file: what the watcher prints
        self.ended = False


class Round:
    def __init__(self, cluster, seed, receiver, without, filler):
        self.cluster, self.seed, self.receiver = cluster, seed, receiver
        self.rng = random.Random(seed)
        self.actions = []  # (when, number, function)
        self.numbers = itertools.count()
        self.hand = Hand(cluster, self.later, lambda: not all(f.ended for f in self.flows), filler)
        self.hand.check_power_loss = self.check_reported
        self.troubles = schedule(self.rng, cluster.agents(), without)
        self.durability = "object"
        self.flows = []
        self.total = 0
        self.resent = 0
        self.allowed = 0

    def later(self, seconds, action):
        heapq.heappush(self.actions, (time.monotonic() + seconds, next(self.numbers), action))

    # ---- the round ----
    def prepare(self):
        for i in range(self.rng.randrange(1, 4)):
            name = f"r{self.seed}-{i}"
            there, here = ("a", "b") if self.rng.random() < 0.8 else ("b", "a")
            source = self.cluster.root(there) / f"{name}-source"
            destination = self.cluster.root(here) / f"{name}-destination"
            self.total += make_tree(self.rng, source)
            at_s = 0.0 if i == 0 else self.rng.uniform(0, WITHIN_S / 2)
            self.flows.append(Flow(name, (there, source), (here, destination), at_s))
        for relay in self.cluster.data.values():
            relay.bytes_per_s = self.total / 2 / WITHIN_S  # so that there is something to disturb
        self.sync_machines()
        self.sent_before = self.sent()
        self.logged_before = self.master.log.stat().st_size

    def sync_machines(self):
        for machine in getattr(self.cluster, "machines", {}).values():
            machine.sync()

    def check_reported(self):
        """After a power loss: what was reported as delivered is there."""
        for flow in self.flows:
            lines = flow.events.read_text().splitlines() if flow.events else []
            done = max([json.loads(line).get("objects_done", 0) for line in lines], default=0)
            there = exact_objects(flow.source[1], flow.destination[1]) if done else 0
            self.expect(there >= done, f"{flow.name} {flow.id}: {done} objects were reported, {there} are there")

    def check_after_power_loss(self):
        """Everything is COMPLETED; the power goes everywhere; everything is still there."""
        ran, _ = self.cluster.lose_power(list(self.cluster.machines), self.rng)
        for flow in self.flows:
            wrong = trees.differences(flow.source[1], flow.destination[1])
            self.expect(wrong == "", f"{flow.name}: trees differ after a power loss: {wrong}")
        for daemon in ran:
            daemon.start()
        self.cluster.until_connected()
        for flow in self.flows:
            self.check_flow(flow)

    @property
    def master(self):
        return self.cluster.daemons["master"]

    def sent(self):
        return sum(relay.from_target for relay in self.cluster.data.values())

    def run(self):
        self.prepare()
        self.deadline = time.monotonic() + self.cluster.wait_s
        for flow in self.flows:
            self.later(flow.submit_at_s, lambda flow=flow: self.submit(flow))
        for trouble in self.troubles:
            self.later(trouble.at_s, lambda trouble=trouble: self.hand.do(trouble))
        while self.actions or not all(flow.ended for flow in self.flows):
            now = time.monotonic()
            while self.actions and self.actions[0][0] <= now:
                heapq.heappop(self.actions)[2]()
            for flow in self.flows:
                self.look(flow)
            self.supervise()
            if now > self.deadline:
                raise Violation(f"not final in {self.cluster.wait_s} s: " + self.describe())
            time.sleep(0.01)

    def supervise(self):
        """A master that finds no database at its start ends, and whoever looks after it tries again."""
        if self.cluster.database and self.master.process.poll() == 1:
            self.master.start()

    def describe(self):
        text = ""
        for flow in self.flows:
            if not flow.ended:
                text += f"{flow.name} {flow.id}"
                for command in ("show", "why") if flow.id else ():
                    done = self.cluster.sluice(command, flow.id, timeout=30)
                    text += f"\n{command}: {(done.stdout + done.stderr).decode(errors='replace')[-1500:]}"
        return text

    def command(self, *words, **streams):
        return subprocess.Popen([str(self.cluster.binaries / "sluice"), *map(str, words)], stdin=subprocess.DEVNULL,
                                env=self.cluster.environment, **streams)

    def submit(self, flow):
        (there, source), (here, destination) = flow.source, flow.destination
        flow.process = self.command(
            "submit", "--request-id", flow.name, "--label", f"round={self.seed}", "--retries", "100", "--durability", self.durability,
            "--callback", self.receiver.url, f"{there}:{source}/", f"{here}:{destination}",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def look(self, flow):
        if flow.process is None or flow.ended or flow.process.poll() is None:
            return
        status = flow.process.returncode
        if flow.id is not None and status == 4:  # nobody answered the watcher's first question
            flow.process = None
            self.later(0.1, lambda: self.watch(flow))
            return
        if flow.id is not None:
            flow.ended = True
            if status != 0:
                raise Violation(f"watch of {flow.name} {flow.id} ended with {status}: {flow.events.read_text()[-2000:]}")
            return
        out, err = (stream.decode(errors="replace").strip() for stream in flow.process.communicate())
        if status == 0:
            flow.id = out
            self.watch(flow)
        elif status in (1, 4):  # nobody there, or not yet: the same request again
            flow.process = None
            self.last_refusal = err
            self.later(0.1, lambda: self.submit(flow))
        else:
            raise Violation(f"submitting {flow.name} ended with {status}: {err}")

    def watch(self, flow):
        flow.events = self.cluster.directory / f"{flow.name}.events"
        with open(flow.events, "wb") as events:
            flow.process = self.command("watch", "--json", flow.id, stdout=events, stderr=subprocess.DEVNULL)

    # ---- what must be true then ----
    def check(self):
        self.cluster.until_connected()
        for flow in self.flows:
            self.check_flow(flow)
        mine = [f["id"] for f in self.cluster.flows() if f["labels"].get("round") == str(self.seed)]
        self.expect(sorted(mine) == sorted(flow.id for flow in self.flows), f"flows of this round: {mine}")
        for site in self.cluster.sites:
            self.eventually(lambda site=site: not trees.temporaries(self.cluster.root(site)),
                            lambda site=site: f"temporaries are left: {trees.temporaries(self.cluster.root(site))}")
        for flow in self.flows:
            self.eventually(lambda flow=flow: self.receiver.events(flow.id)[-1:] == ["completed"],
                            lambda flow=flow: f"callbacks of {flow.id}: {self.receiver.events(flow.id)}")
        self.check_callbacks()
        self.resent = max(0, self.sent() - self.sent_before - self.total)
        # On a busy machine agents may be lost for no other reason.
        hits = self.hand.hits + self.master.count("agent_lost", self.logged_before)
        # What was written and not synced goes with the power.
        self.allowed = hits * IN_FLIGHT + self.total // 20 + (1 << 20) + self.hand.n_power_losses * self.total
        self.expect(self.resent <= self.allowed, f"{self.resent} bytes were sent again, {self.allowed} are allowed")
        for kind in ("master", "agent"):
            self.expect(self.hand.done.get(f"kill {kind}", 0) + self.hand.done.get("kill all", 0) > 0,
                        f"no kill of {kind}")

    def expect(self, condition, text):
        if not condition:
            raise Violation(text)

    def eventually(self, condition, text):
        deadline = time.monotonic() + self.cluster.wait_s
        while not condition():
            if time.monotonic() > deadline:
                raise Violation(text())
            time.sleep(0.02)

    def check_flow(self, flow):
        end = self.cluster.show(flow.id)
        self.expect((end["state"], end["outcome"]) == ("COMPLETED", "delivered"), f"{flow.name}: {end}")
        self.expect(end["bytes_done"] == end["bytes_total"] and end["objects_done"] == end["objects_total"]
                    and end["objects_failed"] == 0, f"{flow.name}: {end}")
        self.expect(not end["cleanup_pending"], f"{flow.name}: {end}")
        wrong = trees.differences(flow.source[1], flow.destination[1])
        self.expect(wrong == "", f"{flow.name}: trees differ: {wrong}")
        events = [json.loads(line) for line in flow.events.read_text().splitlines()]
        numbers = [event["seq"] for event in events if not event["live"]]
        self.expect(numbers == list(range(1, len(numbers) + 1)), f"{flow.name}: a watcher saw {numbers}")
        states = [event["state"] for event in events if event["event"] == "state_changed"]
        self.expect(states and states[-1] == "COMPLETED" and states.count("COMPLETED") == 1,
                    f"{flow.name}: a watcher saw {states}")

    def check_callbacks(self):
        for flow in self.flows:
            told = self.receiver.events(flow.id)
            inner = told[1:-1]
            # A full disk may suspend a flow for a while.
            fits = told[0] == "started" and told[-1] == "completed" and \
                inner == ["suspended", "started"] * (len(inner) // 2)
            self.expect(fits, f"callbacks of {flow.name} {flow.id}: {told}")
        self.expect(self.receiver.problems == [], f"callbacks: {self.receiver.problems}")

    def end_commands(self):
        for flow in self.flows:
            if flow.process is not None and flow.process.poll() is None:
                flow.process.kill()
                flow.process.wait()

    def clear(self):
        for flow in self.flows:
            for _, path in (flow.source, flow.destination):
                shutil.rmtree(os.fsencode(path), ignore_errors=True)
