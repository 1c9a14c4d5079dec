# SPDX-License-Identifier: Apache-2.0
"""Paths with a delay for the benches, where the kernel has no netem: see delay_relay.c."""
import pathlib
import subprocess
import urllib.parse


def build(program):
    source = pathlib.Path(__file__).resolve().parent / "delay_relay.c"
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", program, source], check=True)


def start(program, round_trip_ms, port, window_mib, listen=0):
    """A relay to the port of this machine, and the port where it listens. Each connection can have window_mib MiB under
    way in a round trip."""
    process = subprocess.Popen([str(w) for w in (program, round_trip_ms // 2, port, window_mib, listen)],
                               stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


class Path:
    """To servers of this machine; without a delay it is the direct one."""

    def __init__(self, program, round_trip_ms, window_mib):
        self.program, self.round_trip_ms, self.window_mib = program, round_trip_ms, window_mib
        self.relays = {}  # by the URL that they lead to: (process, port)
        if round_trip_ms:
            build(program)

    def to(self, url):
        """The URL under which the server is that far away."""
        if not self.round_trip_ms:
            return url
        address = urllib.parse.urlparse(url)
        if url not in self.relays:
            self.relays[url] = start(self.program, self.round_trip_ms, address.port, self.window_mib)
        return f"{address.scheme}://{address.hostname}:{self.relays[url][1]}"

    def stop(self):
        for process, _ in self.relays.values():
            process.kill()
            process.wait()
