# SPDX-License-Identifier: Apache-2.0
"""Runs rounds, several at a time, and says in a table what was done and what broke."""
import argparse
import multiprocessing
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "integration"))

import postgres  # noqa: E402
from callback_receiver import Receiver, settings  # noqa: E402
from daemons import Daemons  # noqa: E402
from power import PoweredDaemons  # noqa: E402
from one_round import PART_BYTES, SLOTS, Round, Violation  # noqa: E402
from survivors import Survivors, check_logs  # noqa: E402
from troubles import EXTRA  # noqa: E402

DISK_BYTES = 400 << 20
QUICK = {"master.heartbeat": "200ms", "master.lost_after": "1500ms", "master.hold": "3s", "master.reconcile": "1s",
         "master.part_bytes": str(PART_BYTES), "agent.slots": str(SLOTS)}
# A master that was cut off holds its lock no longer than that.
DATABASE = {"sqlite": {}, "postgresql": {"master.database_session": "2s"}}
WAYS = [["take"], ["take", "take", "fail", "drop"], ["take", "fail", "hang", "redirect"]]


class Stage:
    """A cluster for some rounds, its callback receiver, and its small disk."""

    def __init__(self, options, seed):
        self.options = options
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="sluice-chaos-", dir=options.directory))
        self.disk = self.work / "b"
        self.disk.mkdir()
        self.has_disk = not options.power_loss and mount(self.disk)
        self.random = random.Random(seed)
        self.ways = ["take"]
        self.receiver = Receiver(lambda: self.random.choice(self.ways))
        volumes = [("a", "data", self.work / "a"), ("b", "data", self.disk)]
        try:
            kind = PoweredDaemons if options.power_loss else Daemons
            self.cluster = kind(options.binaries, options.preset, self.work / "cluster", volumes=volumes,
                                   settings={**settings(self.work), **QUICK, **DATABASE[options.database]},
                                database=options.database)
        except BaseException:
            self.remove()
            raise
        self.survivors = Survivors(self.cluster, options.preset)
        self.without = {kind for kind in EXTRA if "database" in kind and options.database == "sqlite"}
        if not options.power_loss:
            self.without.add("lose power")
        if not self.has_disk:
            self.without.add("fill disk")

    def round(self, seed):
        """A row of the table."""
        self.ways = random.Random(seed).choice(WAYS)
        begun = time.monotonic()
        one = Round(self.cluster, seed, self.receiver, self.without, self.disk / "filler")
        one.durability = self.options.durability
        row = {"seed": seed, "violations": []}
        try:
            one.run()
            moved_s = time.monotonic() - begun
            one.check()
            if self.options.power_loss:
                one.check_after_power_loss()
            row["violations"] += self.survivors.check() + check_logs(self.cluster)
            one.clear()
        except Exception as problem:  # whatever it is, it is a violation, and the next rounds go on
            row["violations"].append(str(problem) if isinstance(problem, Violation) else traceback.format_exc())
            moved_s = time.monotonic() - begun
        finally:
            one.end_commands()
        row.update(done=one.hand.done, moving=one.hand.kills_while_moving, lost=one.hand.lost, bytes=one.total, resent=one.resent,
                   allowed=one.allowed, flows=len(one.flows), moved_s=moved_s, s=time.monotonic() - begun)
        return row

    def end(self):
        """What stopping brings to light."""
        problems = self.cluster.stop()
        try:
            self.receiver.close()
        except AssertionError as problem:
            problems.append(f"callbacks: {problem}")
        return problems

    def keep(self, seed):
        """Copies what tells of a violation; where to."""
        place = pathlib.Path(self.options.keep) / f"seed-{seed}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name in ("up/log", "up/etc", "up/state/master", "sanitizer"):
            shutil.copytree(self.work / "cluster" / name, place / pathlib.Path(name).name, dirs_exist_ok=True)
        for path in (self.work / "cluster").glob("*.events"):
            shutil.copy(path, place)
        return place

    def remove(self):
        if self.has_disk:
            subprocess.run(["umount", "-l", self.disk], check=False)
        subprocess.run(["rm", "-rf", str(self.work)], check=False)


def mount(path):
    return os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", path], capture_output=True, check=False).returncode == 0


def work_off(options, seeds, rows):
    """A worker: its seeds, with a fresh cluster for every so many and after each violation."""
    stage, left = None, 0
    while seeds:
        seed = seeds.pop(0)
        try:
            if stage is None:
                stage, left = Stage(options, seed), options.per_cluster
            row = stage.round(seed)
        except Exception:
            row = {"seed": seed, "violations": [traceback.format_exc()]}
        if stage is not None:
            left -= 1
            if row["violations"]:
                stage.cluster.abandon()
                postgres.end_shared()  # it may be stopped
                row["kept"] = str(stage.keep(seed))
            elif left == 0 or not seeds:
                row["violations"] += stage.end()
                if row["violations"]:
                    row["kept"] = str(stage.keep(seed))
            if row["violations"] or left == 0 or not seeds:
                row["most"] = stage.survivors.most
                stage.remove()
                stage = None
        rows.put(row)
    postgres.end_shared()
    rows.put(None)


def replay(options, seed):
    return (f"tests/chaos/run --rounds 1 --first {seed} --database {options.database} --preset {options.preset}"
            + (" --power-loss" if options.power_loss else "")
            + (f" --durability {options.durability}" if options.durability != "object" else ""))


def say(options, row):
    done = ", ".join(f"{kind} {n}" if n > 1 else kind for kind, n in sorted(row.get("done", {}).items()))
    print(f"{'FAILED' if row['violations'] else 'ok    '} seed {row['seed']:<6} {row.get('s', 0):6.1f} s  {done}", flush=True)
    for violation in row["violations"]:
        print(f"  {violation}\n  kept: {row.get('kept')}\n  again: {replay(options, row['seed'])}", flush=True)


def table(options, rows, took_s):
    done = {}
    for row in rows:
        for kind, n in row.get("done", {}).items():
            done[kind] = done.get(kind, 0) + n
    total = {key: sum(row.get(key, 0) for row in rows) for key in ("flows", "bytes", "resent", "allowed", "lost")}
    moving = {key: sum(row.get("moving", {}).get(key, 0) for row in rows) for key in ("master", "agent")}
    most = {key: max(row.get("most", {}).get(key, 0) for row in rows) for key in ("descriptors", "threads", "MiB", "rounds")}
    times = sorted(row.get("s", 0) for row in rows)
    mib = 1 << 20
    lines = [("database", options.database), ("seeds", f"{options.first} to {options.first + len(rows) - 1}"),
             ("rounds", len(rows)), ("flows", total["flows"]), ("GiB", f"{total['bytes'] / (1 << 30):.1f}")]
    lines += [(kind, n) for kind, n in sorted(done.items())]
    lines += [("kills of a master while flows moved", moving["master"]),
              ("kills of an agent while flows moved", moving["agent"]),
              ("files and directories that lost what was not synced", total["lost"]),
              ("sent again, MiB", f"{total['resent'] / mib:.1f} (bound {total['allowed'] / mib:.0f})"),
              ("most rounds that a daemon lived", most.pop("rounds")),
              ("most held by one that lived on", ", ".join(f"{n} {key}" for key, n in most.items())),
              ("round, median", f"{times[len(times) // 2]:.1f} s"), ("round, longest", f"{times[-1]:.1f} s"),
              ("all", f"{took_s / 60:.1f} min with {options.jobs} at a time"),
              ("violations", sum(bool(row["violations"]) for row in rows))]
    print("\n| | |\n|---|---|")
    for name, value in lines:
        print(f"| {name} | {value} |")


def parse():
    parser = argparse.ArgumentParser(prog="tests/chaos/run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="the first round's seed; the next have the next ones")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--power-loss", action="store_true", help="machines lose their power, too, and what was not "
                        "synced; release builds only")
    parser.add_argument("--durability", choices=["none", "object", "task"], default="object",
                        help="of the flows; with none, --power-loss must find violations")
    parser.add_argument("--preset", default="release", help="which build/PRESET to try")
    parser.add_argument("--binaries", type=pathlib.Path, help="programs from elsewhere: build/ may change meanwhile")
    parser.add_argument("--jobs", type=int, default=2, help="rounds at a time, each in a cluster of its own")
    parser.add_argument("--per-cluster", type=int, default=10, help="rounds before a fresh cluster")
    parser.add_argument("--directory", help="where clusters live (default: memory, if there is room)")
    parser.add_argument("--keep", default=str(ROOT / "build" / "chaos"), help="where logs of violations go")
    options = parser.parse_args()
    options.binaries = (options.binaries or ROOT / "build" / options.preset / "bin").resolve()
    PoweredDaemons.library = options.binaries.parent / "tests" / "power_loss.so"
    if options.power_loss and options.database != "sqlite":
        parser.error("--power-loss: the test's PostgreSQL does not sync; take --database sqlite")
    if options.power_loss and options.preset != "release":
        parser.error("--power-loss: a sanitizer's runtime has to be loaded first; take --preset release")
    if options.directory is None:
        memory = pathlib.Path("/dev/shm")
        roomy = memory.is_dir() and shutil.disk_usage(memory).free > (4 << 30) * options.jobs
        options.directory = str(memory) if roomy else tempfile.gettempdir()
    return options


def main():
    options = parse()
    if options.database == "postgresql" and postgres.missing():
        print(postgres.missing())
        return postgres.SKIPPED
    begun = time.monotonic()
    seeds = list(range(options.first, options.first + options.rounds))
    queue = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=work_off, args=(options, seeds[i::options.jobs], queue))
               for i in range(min(options.jobs, len(seeds)))]
    for worker in workers:
        worker.start()
    rows, running = [], len(workers)
    while running:
        row = queue.get()
        if row is None:
            running -= 1
        else:
            rows.append(row)
            say(options, row)
    for worker in workers:
        worker.join()
    table(options, rows, time.monotonic() - begun)
    return any(row["violations"] for row in rows) or len(rows) != len(seeds)


if __name__ == "__main__":
    sys.exit(main())
