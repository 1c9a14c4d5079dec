# SPDX-License-Identifier: Apache-2.0
"""Proxies that count what passes, and can go dark: nothing passes any more, and nobody is told.

A `CountingProxy` stands before the data address of an agent and knows the frames
(dataplane/frame.h) just enough to count payload for each connection and task. A `Pipe` stands
before anything else."""
import socket
import struct
import threading
import time

HEADER = struct.Struct("<IHHQQQ")
HELLO, READ, DATA = 1, 5, 7
# Of a connection: what two sockets may hold (net.ipv4.tcp_wmem and tcp_rmem), seen when it comes and when it passes.
LATE_BYTES = 2 * (4 + 6) << 20
HELLO_CLUSTER = 45  # offset of the first text of a HELLO


def receive(end, view):
    """Fills the view. False: the connection ended before."""
    done = 0
    while done < len(view):
        n = end.recv_into(view[done:])
        if n == 0:
            return False
        done += n
    return True


class Connection:
    """One that passes through: who asked, and what came for which task."""

    def __init__(self, client):
        self.ends = [client]
        self.executor = None
        self.tasks = {}  # request -> task
        self.payload = {}  # task -> bytes that came from the agent
        self.since = {}  # task -> when its first came
        self.is_open = True

    def cut(self):
        for end in self.ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()


class Tally:
    """Payload of all proxies that share it."""

    def __init__(self):
        self.changed = threading.Condition()  # of all that is counted
        self.came = 0  # from agents
        self.admitted = 0  # passed, or let past the limit and still on its way
        self.passed = 0  # handed on
        self.limit = float("inf")  # what goes beyond is kept back until this is raised


class Pipe:
    """Listens on a free port at once, and connects to what target() says then."""

    def __init__(self, target, tally=None):
        self.target = target
        self.tally = tally or Tally()
        self.changed = self.tally.changed
        self.connections = []
        self.dark = lambda connection: False
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def darken(self, which=lambda connection: True):
        """Nothing passes on these connections, in either direction, until light()."""
        with self.changed:
            self.dark = which

    def light(self):
        with self.changed:
            self.dark = lambda connection: False
            self.changed.notify_all()

    def close(self):
        self.light()
        # shutdown() wakes the thread in accept(), close() alone does not
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.changed:
            connections = list(self.connections)
        for connection in connections:
            connection.cut()

    def _pass(self, connection, payload=0):
        with self.changed:
            self.changed.wait_for(lambda: not self.dark(connection) and
                                  (self.tally.admitted < self.tally.limit or not connection.is_open))
            self.tally.admitted += payload

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            connection = Connection(client)
            with self.changed:
                self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection, client), daemon=True).start()

    def _serve(self, connection, client):
        try:
            host, port = self.target().rsplit(":", 1)
            server = socket.create_connection((host, int(port)))
            connection.ends.append(server)
            self._carry(connection, client, server)
        except OSError:
            connection.cut()
        with self.changed:
            connection.is_open = False
            self.changed.notify_all()

    def _carry(self, connection, client, server):
        for end in connection.ends:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        other = threading.Thread(target=self._run, args=(self.forward, connection, client, server), daemon=True)
        other.start()
        self._run(self.backward, connection, server, client)
        other.join()

    @staticmethod
    def _run(copy, connection, source, sink):
        try:
            copy(connection, source, sink)
        except OSError:
            pass
        connection.cut()

    def forward(self, connection, source, sink):
        while True:
            piece = source.recv(1 << 16)
            self._pass(connection)
            if not piece:
                return
            sink.sendall(piece)

    backward = forward


class CountingProxy(Pipe):
    def forward(self, connection, source, sink):
        for kind, request, header, payload in self._frames(source):
            if kind == HELLO:
                (length,) = struct.unpack_from("<H", payload, HELLO_CLUSTER)
                at = HELLO_CLUSTER + 2 + length
                (length,) = struct.unpack_from("<H", payload, at)
                connection.executor = bytes(payload[at + 2:at + 2 + length]).decode()
            elif kind == READ:
                connection.tasks[request] = struct.unpack_from("<Q", payload)[0]
            self._hand_on(connection, sink, header, payload)

    def backward(self, connection, source, sink):
        for kind, request, header, payload in self._frames(source):
            if kind == DATA:
                task = connection.tasks[request]
                with self.changed:
                    connection.payload[task] = connection.payload.get(task, 0) + len(payload)
                    connection.since.setdefault(task, time.monotonic())
                    self.tally.came += len(payload)
            self._hand_on(connection, sink, header, payload, len(payload) if kind == DATA else 0)
            if kind == DATA:
                with self.changed:
                    self.tally.passed += len(payload)
                    self.changed.notify_all()

    def _hand_on(self, connection, sink, header, payload, counted=0):
        self._pass(connection, counted)
        try:
            sink.sendall(header)
            sink.sendall(payload)
        except OSError:
            with self.changed:
                self.tally.admitted -= counted
            raise

    @staticmethod
    def _frames(source):
        buffer = memoryview(bytearray(HEADER.size + (1 << 20)))
        while receive(source, buffer[:HEADER.size]):
            header = buffer[:HEADER.size]
            length, kind, _, request, _, _ = HEADER.unpack(header)
            payload = buffer[HEADER.size:HEADER.size + length]
            if not receive(source, payload):
                return
            yield kind, request, header, payload


class Proxies:
    """A counting proxy before each of the agents that serve data."""

    def __init__(self, names):
        self.tally = Tally()
        self.changed = self.tally.changed
        self.cluster = None
        self.by_name = {name: CountingProxy(lambda name=name: self.cluster.data_address(name), self.tally)
                        for name in names}

    def settings(self):
        return {f"{name}.data_addresses": f'["{proxy.address}"]' for name, proxy in self.by_name.items()}

    def close(self):
        for proxy in self.by_name.values():
            proxy.close()

    def connections(self, source=None, executor=None):
        """Those that are open now."""
        return [c for c in self.connections_ever(source, executor) if c.is_open]

    def connections_ever(self, source=None, executor=None):
        with self.changed:
            return [c for name, proxy in self.by_name.items() for c in proxy.connections
                    if source in (None, name) and executor in (None, c.executor)]

    def passed(self):
        """Payload that was handed on, in bytes."""
        return self.tally.passed

    def limit(self, limit=float("inf")):
        """No more payload than this passes in all, until it is raised."""
        with self.changed:
            self.tally.limit = limit
            self.changed.notify_all()

    def wait_passed(self, at_least, timeout):
        with self.changed:
            assert self.changed.wait_for(lambda: self.tally.passed >= at_least, timeout), \
                f"only {self.tally.passed} bytes passed, not {at_least}"

    def wait_closed(self, connections, timeout):
        with self.changed:
            assert self.changed.wait_for(lambda: not any(c.is_open for c in connections), timeout)

    def payload_of(self, connections, but=()):
        """What came from the agents on these connections, but for these tasks."""
        with self.changed:
            return sum(n for c in connections for task, n in c.payload.items() if task not in but)

    def tasks(self):
        with self.changed:
            return {task for proxy in self.by_name.values() for c in proxy.connections for task in c.payload}

    def count_for(self, seconds):
        """Payload that came from agents or was handed on within that time."""
        with self.changed:
            before = self.tally.passed + self.tally.came
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                self.changed.wait(deadline - time.monotonic())
            return self.tally.passed + self.tally.came - before

    def is_quiet(self, seconds):
        """Nothing more comes or passes, after what these proxies had in their hands."""
        at_most = LATE_BYTES * len(self.connections())
        late = 0
        while late <= at_most and (more := self.count_for(0.2)):
            late += more
        return late <= at_most and self.count_for(seconds) == 0

    def darken(self, source=None, executor=None):
        for name, proxy in self.by_name.items():
            proxy.darken(lambda c, name=name: source == name or (executor is not None and c.executor == executor))

    def light(self):
        for proxy in self.by_name.values():
            proxy.light()
