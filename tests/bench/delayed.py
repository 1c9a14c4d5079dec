# SPDX-License-Identifier: Apache-2.0
"""Paths with a delay for the benches, where the kernel has no netem: see delay_relay.c."""
import pathlib
import subprocess


def build(program):
    source = pathlib.Path(__file__).resolve().parent / "delay_relay.c"
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", program, source], check=True)


def start(program, round_trip_ms, port, window_mib, listen=0):
    """A relay to the port of this machine, and the port where it listens. Each connection can have window_mib MiB under
    way in a round trip."""
    process = subprocess.Popen([str(w) for w in (program, round_trip_ms // 2, port, window_mib, listen)],
                               stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())
