# SPDX-License-Identifier: Apache-2.0
"""Waiting for what happens in a directory (inotify), instead of looking again and again."""
import ctypes
import os
import select
import struct

IN_MODIFY, IN_MOVED_TO, IN_CREATE = 0x2, 0x80, 0x100
IN_Q_OVERFLOW = 0x4000
IN_NONBLOCK, IN_CLOEXEC = 0o4000, 0o2000000
EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows

libc = ctypes.CDLL(None, use_errno=True)


class Changes:
    """Files of a directory that are written to, made, or renamed to."""

    def __init__(self, directory):
        self.fd = libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        if self.fd < 0 or libc.inotify_add_watch(self.fd, os.fsencode(directory),
                                                 IN_MODIFY | IN_MOVED_TO | IN_CREATE) < 0:
            raise OSError(ctypes.get_errno(), "inotify", str(directory))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def names(self):
        """Of what was written to, made, or renamed to since the last call (or since this was made)."""
        found = set()
        while True:
            try:
                events = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return found
            while events:
                _, mask, _, length = EVENT.unpack_from(events)
                assert not mask & IN_Q_OVERFLOW, "more happened than anybody saw"
                found.add(os.fsdecode(events[EVENT.size:EVENT.size + length].rstrip(b"\0")))
                events = events[EVENT.size + length:]

    def wait(self, timeout):
        """Until something changed since the last call (or since this was made), which is True, or the time is
        over."""
        changed = bool(select.select([self.fd], [], [], max(0, timeout))[0])
        if changed:
            try:
                while os.read(self.fd, 1 << 16):
                    pass
            except BlockingIOError:
                pass
        return changed


def wait_end(pid, timeout):
    """Until the process is gone, or a zombie."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], timeout)[0], f"process {pid} does not end"
    finally:
        os.close(fd)
