# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in a round, and when: all of it follows from the round's seed."""
import dataclasses
import os
import random
import signal

# Besides one kill of the master and one of an agent, which every round has: kind and weight.
EXTRA = {
    "kill master": 2, "kill agent": 3, "kill all": 1, "end master": 1, "end agent": 1,
    "stop master": 2, "stop agent": 3,
    "kill database": 2,
    "cut data": 3, "cut control": 3, "cut clients": 1, "cut database": 3,
    "hold data": 2, "hold control": 2, "hold database": 2,
    "slow data": 1, "slow control": 1,
    "refuse data": 1, "refuse control": 1,
    "fill disk": 4,
    "lose power": 8,
}
WITHIN_S = 2.2  # all begins within so long of the first submission


@dataclasses.dataclass
class Trouble:
    at_s: float
    kind: str
    agents: list  # names of those it hits
    for_s: float  # how long: the daemon is away, nothing passes, the disk is full


def schedule(rng, agents, without):
    """The troubles of a round, in order; `without`: kinds that cannot be had here."""
    kinds = [kind for kind in EXTRA if kind not in without]
    chosen = ["kill master", "kill agent"]
    if "lose power" not in without:
        chosen.append("lose power")
    chosen += rng.choices(kinds, [EXTRA[kind] for kind in kinds], k=rng.randrange(1, 6))
    troubles = []
    for kind in chosen:
        hit = agents if kind == "kill all" or rng.random() < 0.15 else [rng.choice(agents)]
        longest = {"kill": 1.0, "end": 0.5, "stop": 5.0, "hold": 4.0, "slow": 3.0, "refuse": 2.0,
                   "fill": 2.0, "cut": 0.0, "lose": 1.0}[kind.split()[0]]
        # Mostly short, so that several things meet; sometimes longer than an agent may be silent.
        for_s = longest * rng.random() ** 2
        troubles.append(Trouble(rng.uniform(0.0, WITHIN_S), kind, hit, for_s))
    return sorted(troubles, key=lambda trouble: trouble.at_s)


class Hand:
    """Does what the schedule says. `later(seconds, action)` is called for what ends a trouble."""

    def __init__(self, cluster, later, is_moving, filler):
        self.cluster = cluster
        self.later = later
        self.is_moving = is_moving  # is there a flow that has not ended?
        self.filler = filler  # a path on the destination's small disk, or None
        self.check_power_loss = None  # called between the loss and the next start
        self.n_power_losses = 0
        self.database_is_away = False
        self.lost = 0  # files and directories that a power loss changed
        self.done = {}  # kind: how often it was done
        self.hits = 0  # agents that lost something, for the bound of what is sent again
        self.kills_while_moving = {"master": 0, "agent": 0}

    def do(self, trouble):
        verb, what = trouble.kind.split()
        count = getattr(self, verb)(what, trouble)
        if count:
            self.done[trouble.kind] = self.done.get(trouble.kind, 0) + count

    def _daemons(self, what, trouble):
        names = {"master": ["master"], "agent": trouble.agents, "all": list(self.cluster.daemons)}[what]
        return [self.cluster.daemons[name] for name in names]

    def _relays(self, what, trouble):
        if what == "clients":
            return [self.cluster.clients]
        if what == "database":
            return [self.cluster.database]
        return [getattr(self.cluster, what)[name] for name in trouble.agents]

    def _hit(self, n):
        self.hits += n

    def kill(self, what, trouble):
        if what == "database":
            return self._kill_database(trouble)
        count = 0
        for daemon in self._daemons(what, trouble):
            if daemon.kill():
                count += 1
                self._hit(1)
                if self.is_moving():
                    self.kills_while_moving["master" if daemon.name == "master" else "agent"] += 1
                self.later(trouble.for_s, daemon.start)
        if count == 0:  # it is away already: as soon as it is back
            self.later(0.05, lambda: self.do(trouble))
        return count

    def _kill_database(self, trouble):
        if self.database_is_away:
            return 0

        def start():
            self.cluster.postgres.start()
            self.database_is_away = False
        self.database_is_away = True
        self.cluster.postgres.stop()
        self.later(trouble.for_s, start)
        return 1

    def lose(self, what, trouble):
        """Power: of the machine of an agent; or of all, the master's too."""
        assert what == "power"
        one = trouble.agents[0].rsplit("-", 1)[0]
        names = list(self.cluster.machines) if len(trouble.agents) > 1 else [one]
        ran, lost = self.cluster.lose_power(names, random.Random(trouble.at_s))
        self._hit(len(ran))
        self.n_power_losses += 1
        self.lost += lost
        self.check_power_loss()
        for daemon in ran:
            self.later(trouble.for_s, daemon.start)
        return 1

    def end(self, what, trouble):
        """SIGTERM; started again once it has ended."""
        count = 0
        for daemon in self._daemons(what, trouble):
            if daemon.alive and not daemon.stopped:
                count += 1
                self._hit(1)
                daemon.process.terminate()
                self._start_again(daemon, daemon.process, trouble.for_s)
        return count

    def _start_again(self, daemon, process, for_s):
        if process.poll() is None:
            self.later(0.1, lambda: self._start_again(daemon, process, for_s))
        elif daemon.process is process and process.returncode in (0, -signal.SIGTERM):
            self.later(for_s, daemon.start)  # SIGTERM itself ends one that has hardly begun to start
        elif self.cluster.database and process.returncode == 1:
            pass  # it found no database: the round's supervision starts it
        elif process.returncode not in (0, -signal.SIGTERM, -signal.SIGKILL):
            raise AssertionError(f"{daemon.name} ended with {process.returncode} after SIGTERM")

    def stop(self, what, trouble):
        count = 0
        for daemon in self._daemons(what, trouble):
            if daemon.alive and not daemon.stopped:
                count += 1
                self._hit(1)
                daemon.stopped = True
                process = daemon.process
                os.kill(process.pid, signal.SIGSTOP)

                def go_on(daemon=daemon, process=process):
                    if daemon.process is process:
                        daemon.stopped = False
                        if process.poll() is None:
                            os.kill(process.pid, signal.SIGCONT)
                self.later(trouble.for_s, go_on)
        return count

    def cut(self, what, trouble):
        count = sum(relay.cut(abruptly=trouble.at_s % 0.02 < 0.01) for relay in self._relays(what, trouble))
        self._hit(len(self._relays(what, trouble)) if count else 0)
        return int(count > 0)

    def hold(self, what, trouble):
        for relay in self._relays(what, trouble):
            relay.flowing.clear()
            self.later(trouble.for_s, relay.flowing.set)
            self._hit(1)
        return 1

    def slow(self, what, trouble):
        for relay in self._relays(what, trouble):
            relay.delay_s = 0.05

            def quick(relay=relay):
                relay.delay_s = 0.0
            self.later(trouble.for_s, quick)
        return 1

    def refuse(self, what, trouble):
        for relay in self._relays(what, trouble):
            relay.refuses = True
            relay.cut()
            self._hit(1)

            def accept(relay=relay):
                relay.refuses = False
            self.later(trouble.for_s, accept)
        return 1

    def fill(self, what, trouble):
        """Takes all that is free on the destination's disk."""
        assert what == "disk"
        with open(self.filler, "ab") as filler:
            block = 1 << 24
            while block >= 4096:
                try:
                    os.posix_fallocate(filler.fileno(), filler.seek(0, os.SEEK_END), block)
                except OSError:
                    block //= 2
        self._hit(len(self.cluster.agents()))
        self.later(trouble.for_s, lambda: self.filler.unlink(missing_ok=True))
        return 1
