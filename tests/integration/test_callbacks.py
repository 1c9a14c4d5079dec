# SPDX-License-Identifier: Apache-2.0
"""Callbacks arrive: at least once, in order for each flow, whoever fails meanwhile."""
import hashlib
import hmac
import http.server
import json
import random
import threading

import trees

SECRET = b"0123456789abcdef0123456789abcdef"


class Receiver:
    """An HTTP server that does what it likes with what it is sent."""

    def __init__(self, choose):
        self.choose = choose  # gives what to do with a request, a key of Answer.ways
        self.lock = threading.Lock()
        self.tried = 0
        self.accepted = []  # bodies, parsed, in the order of their acceptance
        self.problems = []
        self.bodies = {}
        self.leave = threading.Event()
        receiver = self

        class Answer(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                receiver.problem(f"a redirect was followed to {self.path}")
                self.send_error(404)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.check(self.path, self.headers, body)
                with receiver.lock:
                    receiver.tried += 1
                    way = receiver.choose()
                    if way == "take":
                        receiver.accepted.append(json.loads(body))
                getattr(self, way)()

            def take(self):
                self.answer(200, b"thanks")

            def fail(self):
                self.answer(500, b"not now")

            def redirect(self):
                self.answer(302, b"", Location="/elsewhere")

            def hang(self):
                receiver.leave.wait(5)
                self.close_connection = True

            def drop(self):
                self.close_connection = True

            def answer(self, status, text, **headers):
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(text)))
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(text)
                except OSError:
                    self.close_connection = True  # the master was killed, or did not wait

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # connections that end in the middle, when the master is killed

        self.server = Server(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def problem(self, text):
        with self.lock:
            self.problems.append(text)

    def check(self, path, headers, body):
        when, mac = (part.split("=")[1] for part in headers["Sluice-Signature"].split(","))
        right = hmac.new(SECRET, when.encode() + b"." + body, hashlib.sha256).hexdigest()
        event = json.loads(body)
        with self.lock:
            same = self.bodies.setdefault(event["id"], body) == body
        if path != "/hook" or mac != right or headers["Sluice-Event-Id"] != event["id"] or not same:
            self.problem(f"{path} {headers} {body}")

    def events(self, flow):
        """Names of the flow's state changes in the order of their arrival, without repetitions."""
        with self.lock:
            seen = {event["id"]: event for event in self.accepted if event["flow"] == flow}
        return [event["event"] for event in seen.values() if event["event"] != "progress"]

    def close(self):
        self.leave.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        assert self.problems == []


def settings(work, **more):
    secret = work / "secret"
    secret.write_bytes(SECRET + b"\n")
    values = {"hosts": "[127.0.0.1]", "secret_file": str(secret), "backoff": "20ms", "backoff_max": "100ms",
              "timeout": "1s", "attempts": "1000", **more}
    return {"master.callbacks": "{" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}",
            "master.reconcile": "1s"}


def tree(cluster, name):
    root = cluster.root("a") / name
    root.mkdir(parents=True)
    for i in range(20):
        trees.write(root / f"f{i}", 1000 + i, seed=i)
    return f"a:{root}/", f"b:{cluster.root('b') / name}"


def test_every_change_arrives_though_receiver_and_master_fail(start, work):
    chance = random.Random(5)
    mode = {"ways": ["fail"]}
    receiver = Receiver(lambda: chance.choice(mode["ways"]))
    try:
        cluster = start(settings=settings(work))
        expected = {}
        for i in range(4):
            flow = cluster.submit(*tree(cluster, f"t{i}"), "--callback", receiver.url)
            expected[flow] = ["started", "completed"]
        waits = cluster.submit(*tree(cluster, "later"), "--callback", receiver.url, "--not-before", "+10h")
        for command in ("suspend", "resume", "suspend", "cancel"):
            cluster.json(command, waits)
        expected[waits] = ["started", "suspended", "started", "suspended", "terminated"]
        silent = cluster.submit(*tree(cluster, "silent"))
        for flow in [*expected, silent]:
            cluster.wait(flow)
        cluster.until(lambda: receiver.tried >= 10, "attempts that fail")
        assert receiver.accepted == []

        def kill_master():
            pid = cluster.kill("master")
            cluster.until(lambda: cluster.pid("master") != pid, "the master to come back")

        kill_master()
        mode["ways"] = ["take", "take", "fail", "redirect", "drop", "hang"]
        for n in (2, 6):
            cluster.until(lambda n=n: len(receiver.accepted) >= n, f"{n} callbacks")
            kill_master()
        cluster.until(lambda: all(receiver.events(flow) == events for flow, events in expected.items()),
                      f"all callbacks: {expected}")
        assert {event["flow"] for event in receiver.accepted} == set(expected)
        last = next(event for event in receiver.accepted if event["event"] == "completed")
        assert last["state"] == "COMPLETED" and last["outcome"] == "delivered" and last["error"] is None
        assert last["bytes_done"] == last["bytes_total"] == sum(1000 + i for i in range(20))
        last = next(event for event in receiver.accepted if event["event"] == "terminated")
        assert last["outcome"] == "cancelled" and last["error"]["code"] == "CANCELLED"
        lines = cluster.log_lines_tolerant("master")
        assert {"callback_delivered", "callback_failed"} <= {line["event"] for line in lines}
    finally:
        receiver.close()


def test_what_nobody_takes_is_given_up_and_the_next_goes_on(start, work):
    mode = {"way": "fail"}
    receiver = Receiver(lambda: mode["way"])
    try:
        cluster = start(settings=settings(work, attempts="3"))
        flow = cluster.submit(*tree(cluster, "t"), "--callback", receiver.url)
        assert cluster.wait(flow)["outcome"] == "delivered"

        def dead():
            done = cluster.sluice("callbacks", "--json")
            assert done.returncode == 0, done
            return [json.loads(line) for line in done.stdout.splitlines()]

        cluster.until(lambda: dead() and dead()[-1]["body"]["event"] == "completed", "the last to be given up")
        assert dead()[0]["body"]["event"] == "started"
        assert all(entry["flow"] == flow and entry["attempts"] == 3 and entry["error"] for entry in dead())
        lines = [line for line in cluster.log_lines("master") if line["event"] == "callback_dead"]
        assert {line["id"] for line in lines} == {entry["id"] for entry in dead()}
        ids = [entry["id"] for entry in dead()]
        mode["way"] = "take"
        done = cluster.sluice("callbacks", *[word for i in ids for word in ("--retry", i)])
        assert done.returncode == 0, done
        cluster.until(lambda: set(ids) == {event["id"] for event in receiver.accepted}, "what was given up")
        assert dead() == []
        assert cluster.sluice("callbacks", "--retry", "nonsense").returncode != 0
        flow = cluster.submit(*tree(cluster, "u"), "--callback", receiver.url)
        cluster.until(lambda: receiver.events(flow) == ["started", "completed"], "the next flow's callbacks")
    finally:
        receiver.close()


def test_hosts_that_are_not_listed_are_refused(start, work):
    cluster = start(settings=settings(work))
    source, destination = tree(cluster, "t")
    for url, word in [("http://localhost:1/x", "callbacks.hosts"), ("ftp://127.0.0.1/", "http"),
                      ("http://127.0.0.1@localhost/", "host")]:
        refused = cluster.sluice("submit", source, destination, "--callback", url)
        assert refused.returncode != 0 and word in refused.stderr.decode(), refused
    assert cluster.flows() == []


def test_a_master_without_callbacks_says_so(cluster):
    source, destination = tree(cluster, "t")
    refused = cluster.sluice("submit", source, destination, "--callback", "http://127.0.0.1:1/")
    assert refused.returncode != 0 and "callbacks" in refused.stderr.decode(), refused
