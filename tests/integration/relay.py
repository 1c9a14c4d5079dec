# SPDX-License-Identifier: Apache-2.0
"""A relay in front of a daemon's port: it cuts, holds up, slows down and refuses connections."""
import socket
import struct
import threading
import time

PIECE = 1 << 18


class Link:
    """One connection: the two ends, and what is done to both."""

    def __init__(self, near, far):
        self.ends = (near, far)

    def cut(self, abruptly=False):
        for end in self.ends:
            try:
                if abruptly:  # a reset instead of an orderly end
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        for end in self.ends:
            end.close()


def connect(target):
    if not isinstance(target, str):
        return socket.create_connection(target, timeout=10)
    far = socket.socket(socket.AF_UNIX)
    try:
        far.settimeout(10)
        far.connect(target)
    except OSError:
        far.close()
        raise
    return far


class Relay:
    """Listens on a free port at once. `target` gives (host, port) when a connection comes, or the path
    of a Unix socket, or None while there is nobody: a daemon that starts again may have another port."""

    def __init__(self, target):
        self.target = target
        self.lock = threading.Lock()
        self.links = set()
        self.flowing = threading.Event()  # cleared: connections stay, but nothing passes
        self.flowing.set()
        self.refuses = False
        self.delay_s = 0.0  # for each piece, each way
        self.bytes_per_s = None
        self.free_at = 0.0  # when the pace allows the next piece
        self.from_target = 0  # bytes
        self.stalls_at = None  # so many of them: then nothing passes
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, abruptly=False):
        """Ends all connections; how many there were."""
        with self.lock:
            links = list(self.links)
        for link in links:
            link.cut(abruptly)
        return len(links)

    def calm(self):
        """Everything passes again."""
        self.refuses = False
        self.delay_s = 0.0
        self.flowing.set()

    def close(self):
        self.calm()
        self.listener.close()
        self.cut()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near):
        target = None if self.refuses else self.target()
        try:
            far = connect(target) if target else None
        except OSError:
            far = None
        if far is None:
            near.close()
            return
        far.settimeout(None)
        for end in (near, far):
            if end.family != socket.AF_UNIX:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(near, far)
        with self.lock:
            self.links.add(link)
        back = threading.Thread(target=self._pass, args=(link, far, near, True), daemon=True)
        back.start()
        self._pass(link, near, far, False)
        back.join()
        with self.lock:
            self.links.discard(link)
        link.close()

    def _pass(self, link, source, sink, counts):
        try:
            while True:
                piece = source.recv(PIECE)
                if not piece:
                    break
                if counts:
                    self._pace(len(piece))
                self.flowing.wait()
                if self.delay_s:
                    time.sleep(self.delay_s)
                sink.sendall(piece)
        except OSError:
            pass
        link.cut()

    def _pace(self, n):
        with self.lock:
            self.from_target += n
            if self.stalls_at is not None and self.from_target >= self.stalls_at:
                self.stalls_at = None
                self.flowing.clear()
            if not self.bytes_per_s:
                return
            now = time.monotonic()
            self.free_at = max(self.free_at, now) + n / self.bytes_per_s
            wait_s = self.free_at - now
        time.sleep(wait_s)
