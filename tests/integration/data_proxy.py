# SPDX-License-Identifier: Apache-2.0
"""A proxy on the data address of an agent, which flips bits of the payload or cuts connections.

It knows the frames (dataplane/frame.h) just enough to find the payload of DATA."""
import itertools
import random
import socket
import struct
import threading

HEADER = struct.Struct("<IHHQQQ")
DATA = 7


class DataProxy:
    """Listens on a free port at once; connect it to the agent with `to` before bytes come.

    flip_every: one bit is flipped in each so many bytes of payload (0: none).
    cuts: so many connections are cut: whichever carries a byte whose place in all the payload was drawn by lot,
    each less than cut_within after the one before."""

    def __init__(self, flip_every=0, cuts=0, cut_within=64 << 20, seed=1):
        self.flip_every = flip_every
        self.random = random.Random(seed)
        self.cuts = list(itertools.accumulate(self.random.randrange(1, cut_within) for _ in range(cuts)))
        self.lock = threading.Lock()
        self.payload = 0  # bytes that came from the agent
        self.next_flip = self.random.randrange(flip_every) if flip_every else None
        self.flips = 0
        self.n_cut = 0
        self.target = None
        self.has_target = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def to(self, address):
        host, port = address.rsplit(":", 1)
        self.target = (host, int(port))
        self.has_target.set()

    def close(self):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        self.has_target.wait()
        try:
            agent = socket.create_connection(self.target)
        except OSError:
            client.close()
            return
        threading.Thread(target=self._forward, args=(client, agent), daemon=True).start()
        try:
            self._answers(agent, client)
        except OSError:
            pass
        self._cut(client, agent)

    @staticmethod
    def _cut(*ends):
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def _forward(self, client, agent):
        try:
            while True:
                piece = client.recv(1 << 16)
                if not piece:
                    break
                agent.sendall(piece)
        except OSError:
            pass
        self._cut(client, agent)

    def _came(self, payload):
        """Flips what is to be flipped. After how many of these bytes the connection is to be cut; None: not."""
        with self.lock:
            start = self.payload
            self.payload += len(payload)
            while self.next_flip is not None and self.next_flip < self.payload:
                payload[self.next_flip - start] ^= 1 << self.random.randrange(8)
                self.flips += 1
                self.next_flip = self.flips * self.flip_every + self.random.randrange(self.flip_every)
            if self.cuts and self.cuts[0] < self.payload:
                self.n_cut += 1
                return max(0, self.cuts.pop(0) - start)
            return None

    def _answers(self, agent, client):
        stream = agent.makefile("rb", buffering=1 << 20)
        while True:
            header = stream.read(HEADER.size)
            if len(header) < HEADER.size:
                return
            length, kind, *_ = HEADER.unpack(header)
            payload = bytearray(stream.read(length))
            if len(payload) < length:
                return
            if kind == DATA and (n := self._came(payload)) is not None:
                client.sendall(header + payload[:n])
                return
            client.sendall(header)
            client.sendall(payload)
