# SPDX-License-Identifier: Apache-2.0
"""A file system of its own, in memory, as small as a test wants it."""
import os
import subprocess


class SmallDisk:
    def __init__(self, path, mib):
        self.path = path
        path.mkdir()
        self._mount(f"size={mib}m")

    def _mount(self, options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", self.path], check=True)

    def free_bytes(self):
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def grow(self, mib):
        self._mount(f"remount,size={mib}m")

    def names(self):
        return sorted(os.listdir(self.path))

    def written(self):
        """Bytes that its files take, holes left out."""
        return sum(os.lstat(self.path / name).st_blocks * 512 for name in self.names())

    def close(self):
        subprocess.run(["umount", "-l", self.path], check=True)
