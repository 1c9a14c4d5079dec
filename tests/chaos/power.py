# SPDX-License-Identifier: Apache-2.0
"""Power loss: what a machine's disk would still hold, with the help of power_loss.c.

What was synced is there. What was not may be there or not, as chance decides: a directory's names as
they were at its last sync or as they are, a file's bytes as they were at its last sync or as they are;
and where a file was never synced, zeros of the right length under the right time and mode, as file
systems leave it that write names before bytes."""
import os
import shutil
import stat
import subprocess
import sys
import uuid

from daemons import Daemons

class Machine:
    """Daemons that lose their power together, and the directories on their disk."""

    def __init__(self, name, daemons, roots, place, library):
        self.name = name
        self.daemons = daemons
        self.roots = [os.fsencode(root) for root in roots]
        self.store = os.fsencode(place)
        self.library = library
        self.boot_file = self.store + b"/boot-id"
        for part in ("new", "data", "keep", "dirs"):
            os.makedirs(self.store + b"/" + part.encode())
        self.environment = {"LD_PRELOAD": str(library), "POWER_STORE": os.fsdecode(self.store),
                            "POWER_ROOTS": ":".join(map(os.fsdecode, self.roots)),
                            "POWER_BOOT_ID": os.fsdecode(self.boot_file)}
        self.boot()
        self.sync()
        for daemon in daemons:
            daemon.environment = {**daemon.environment, **self.environment}

    def boot(self):
        with open(self.boot_file, "w", encoding="ascii") as out:
            out.write(f"{uuid.uuid4()}\n")

    def sync(self):
        """All that is there now is on the disk."""
        for root in self.roots:
            subprocess.run([sys.executable, "-c", "import ctypes, os, sys\n"
                            "assert ctypes.CDLL(None).syncfs(os.open(sys.argv[1], os.O_RDONLY)) == 0", root],
                           env={**os.environ, **self.environment}, check=True)

    # ---- what the disk holds ----
    def _known(self, part):
        """inode: file in the store."""
        directory = self.store + b"/" + part.encode()
        return {int(name.split(b"-")[0]): directory + b"/" + name for name in self._newest(directory)}

    @staticmethod
    def _newest(directory):
        """An inode number may have come again: the younger one counts."""
        return sorted(os.listdir(directory), key=lambda name: float(name.split(b"-")[1]))

    def lose_power(self, rng):
        """The daemons are dead already. How many files and directories lost something."""
        self.rng = rng
        self.lost = 0
        self.data, self.keep, self.dirs = (self._known(part) for part in ("data", "keep", "dirs"))
        old = self.store + b"/old"
        shutil.rmtree(old, ignore_errors=True)
        os.mkdir(old)
        self.live = {}  # inode: path of a file as it is
        plans = []
        for i, root in enumerate(self.roots):
            plan = self._plan(os.lstat(root).st_ino, root)
            away = old + b"/%d" % i
            os.mkdir(away)
            for name in os.listdir(root):
                os.rename(root + b"/" + name, away + b"/" + name)
            plans.append((root, plan))
            self._index(away)
        for root, plan in plans:
            self._fill(root, plan)
        shutil.rmtree(old)
        for part in ("data", "keep", "dirs", "new"):
            for name in os.listdir(self.store + b"/" + part.encode()):
                os.unlink(self.store + b"/" + part.encode() + b"/" + name)
        self.boot()
        self.sync()
        return self.lost

    def _index(self, root):
        for directory, _, names in os.walk(root):
            for name in names:
                path = os.path.join(directory, name)
                self.live[os.lstat(path).st_ino] = path

    def _stable_names(self, inode):
        """((mode, mtime), {name: (inode, type, mtime, target)}) at the last sync."""
        path = self.dirs.get(inode)
        if path is None:
            return None, {}
        with open(path, "rb") as listing:
            mode, mtime = listing.readline().split()
            names = {}
            for line in listing:
                ident, kind, when, name, target = line.rstrip(b"\n").split(b" ")
                names[bytes.fromhex(name.decode())] = (int(ident.split(b"-")[0]), kind.decode(), int(when),
                                                       bytes.fromhex(target.decode()))
        return (int(mode, 8), int(mtime)), names

    @staticmethod
    def _live_names(path):
        if path is None:
            return None, {}
        status = os.lstat(path)
        names = {}
        for name in os.listdir(path):
            entry = os.path.join(path, name)
            found = os.lstat(entry)
            kind = {stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFREG: "f"}.get(stat.S_IFMT(found.st_mode), "o")
            target = os.readlink(entry) if kind == "l" else b""
            names[name] = (found.st_ino, kind, found.st_mtime_ns, target)
        return (stat.S_IMODE(status.st_mode), status.st_mtime_ns), names

    def _plan(self, inode, path):
        """What the directory will hold; path: where it is now, None if it was removed."""
        stable, was = self._stable_names(inode)
        live, now = self._live_names(path)
        is_old = path is None or self.rng.random() < 0.7
        if is_old and was != now:
            self.lost += 1
        meta = (stable or (0o700, 0)) if is_old else live
        names = {}
        for name, (child, kind, mtime, target) in (was if is_old else now).items():
            below = None
            if kind == "d":
                here = os.path.join(path, name) if path is not None and now.get(name, (None,))[0] == child else None
                below = self._plan(child, here)
            names[name] = (child, kind, mtime, target, below)
        return meta, names

    def _fill(self, path, plan):
        (mode, mtime), names = plan
        for name, (inode, kind, when, target, below) in names.items():
            entry = os.path.join(path, name)
            if kind == "d":
                os.mkdir(entry)
                self._fill(entry, below)
            elif kind == "l":
                os.symlink(target, entry)
                os.utime(entry, ns=(when, when), follow_symlinks=False)
            elif kind == "f":
                self._put_file(entry, inode, when)
        os.chmod(path, mode)
        os.utime(path, ns=(mtime, mtime))

    def _put_file(self, entry, inode, when):
        """The same inode, with the bytes that are sure, or more."""
        source = self.live.get(inode) or self.keep.get(inode)
        if source is None:  # its name was sure, and nothing else
            open(entry, "xb").close()
            os.utime(entry, ns=(when, when))
            self.lost += 1
            return
        os.link(source, entry, follow_symlinks=False)
        if self.rng.random() < 0.3:
            return
        now = os.lstat(entry)
        stable = self.data.get(inode)
        if stable is None:
            if now.st_size > 0:
                self.lost += 1
                os.truncate(entry, 0)
                os.truncate(entry, now.st_size)
                os.utime(entry, ns=(now.st_atime_ns, now.st_mtime_ns))
            return
        with open(stable, "rb") as was, open(entry, "rb") as live:
            same = was.read() == live.read()
        if not same:
            self.lost += 1
            shutil.copyfile(stable, entry)
        status = os.lstat(stable)
        os.chmod(entry, stat.S_IMODE(status.st_mode))
        os.utime(entry, ns=(status.st_mtime_ns, status.st_mtime_ns))


class PoweredDaemons(Daemons):
    """Each site is a machine, and the master is one."""
    library = None  # power_loss.so

    def before_start(self):
        state = self.directory / "up" / "state"
        place = self.directory / "power"
        self.machines = {"master": Machine("master", [self.daemons["master"]], [state / "master"],
                                           place / "master", self.library)}
        for site in self.sites:
            names = self.agents(site)
            roots = [self.root(site), *(state / name for name in names)]
            self.machines[site] = Machine(site, [self.daemons[name] for name in names], roots, place / site,
                                          self.library)

    def lose_power(self, names, rng):
        """SIGKILL of all that runs there, and what was not synced goes. Returns (what ran, losses)."""
        machines = [self.machines[name] for name in names]
        ran = [daemon for machine in machines for daemon in machine.daemons if daemon.alive]
        for daemon in ran:
            daemon.process.kill()  # all, before the first is waited for
        for daemon in ran:
            daemon.kill()
        return ran, sum(machine.lose_power(rng) for machine in machines)
