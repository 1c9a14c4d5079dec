# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server of the tests' own: tests/lib/postgres_server."""
import atexit
import itertools
import pathlib
import subprocess

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "lib" / "postgres_server"
SKIPPED = 77


class Missing(Exception):
    """The package is not installed: the message says which."""


class Server:
    def __init__(self, password=None):
        words = ["--password", password] if password else []
        self.process = subprocess.Popen([str(SCRIPT), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.numbers = itertools.count(1)
        line = self.process.stdout.readline().strip()
        if not line.startswith("/"):
            if self.process.wait() == SKIPPED:
                raise Missing(line)
            raise RuntimeError(f"the PostgreSQL server does not start: {line}")
        self.directory = pathlib.Path(line)  # and that of its socket
        atexit.register(self.end)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer and not command.startswith("sql ") or answer.startswith("failed"):
            raise RuntimeError(f"{command}: {answer}")
        return answer

    def database(self):
        """The URL of a new, empty database."""
        return self.ask(f"database flows{next(self.numbers)}")

    def sql(self, url, statement):
        """Its rows, on one line."""
        return self.ask(f"sql {url.split('/')[3].split('?')[0]} {statement}")

    def stop(self):
        """At once, as a crash would."""
        self.ask("stop")

    def start(self):
        self.ask("start")

    def end(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait()
        self.process.stdout.close()


def missing():
    """What is missing for one to run; empty if nothing."""
    found = any(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return "" if found else "the package postgresql is not installed"


_shared = []


def shared():
    """One server for the whole process, started when it is first wanted."""
    if not _shared:
        _shared.append(Server())
    return _shared[0]


def end_shared():
    while _shared:
        _shared.pop().end()
