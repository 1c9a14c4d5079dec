# SPDX-License-Identifier: Apache-2.0
"""Daemons that lived through rounds: what they hold must not grow. And what all of them logged."""
import json
import time

# At rest, more than after the first round of a daemon's life: idle connections come and go, freed
# memory is kept by the allocator.
MORE = {"descriptors": 24, "threads": 24, "MiB": 96}
AT_REST_S = 300  # connections that idle are closed after a minute
SANITIZED_MIB = 2000  # a sanitizer keeps what was freed


class Survivors:
    def __init__(self, cluster, preset):
        self.cluster = cluster
        self.more = dict(MORE)
        if preset != "release":
            self.more["MiB"] = SANITIZED_MIB
        self.first = {}  # (name, life): usage after its first round
        self.most = dict.fromkeys([*MORE, "rounds"], 0)
        self.lived = {}  # life: rounds

    def check(self):
        """What has leaked, as text; empty if nothing."""
        return [text for daemon in self.cluster.daemons.values() for text in self._check(daemon)]

    def _check(self, daemon):
        life = (daemon.name, daemon.lives)
        self.lived[life] = self.lived.get(life, 0) + 1
        self.most["rounds"] = max(self.most["rounds"], self.lived[life])
        if life not in self.first:
            self.first[life] = self._at_rest(daemon)
            return []
        deadline = time.monotonic() + AT_REST_S
        while True:
            now, first = daemon.usage(), self.first[life]
            grown = {key: (was, is_now) for key, was, is_now in zip(MORE, first, now)
                     if is_now > was + self.more[key]}
            for key, value in zip(MORE, now):
                self.most[key] = max(self.most[key], value)
            if not grown or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        return [f"{daemon.name}: {key} grew from {was} to {is_now}" for key, (was, is_now) in grown.items()]

    @staticmethod
    def _at_rest(daemon):
        """When nothing has changed for some looks."""
        seen = [daemon.usage()]
        while len(seen) < 50 and (len(seen) < 4 or len(set(seen[-4:])) > 1):
            time.sleep(0.05)
            seen.append(daemon.usage())
        return tuple(map(max, zip(*seen[-4:])))


def check_logs(cluster):
    """Lines that are no JSON, but for one that each kill may have cut in two."""
    problems = []
    for daemon in cluster.daemons.values():
        with open(daemon.log, "rb") as log:
            log.seek(daemon.checked)
            text = log.read()
        whole, newline, _ = text.rpartition(b"\n")
        daemon.checked += len(whole) + len(newline)
        bad = []
        for line in whole.splitlines():
            try:
                json.loads(line)
            except ValueError:
                if not line.startswith(b"sluice-master: cannot connect"):  # why it did not start
                    bad.append(line)
        if len(bad) > daemon.kills:
            problems.append(f"{daemon.name} logged what is no JSON: {bad[-1][:500]!r}")
        daemon.kills -= min(len(bad), daemon.kills)
    return problems
