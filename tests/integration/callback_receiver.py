# SPDX-License-Identifier: Apache-2.0
"""A receiver of callbacks that fails as it is told to, and checks what it is sent."""
import hashlib
import hmac
import http.server
import json
import threading

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
                    if way in ("take", "slow"):
                        receiver.accepted.append(json.loads(body))
                getattr(self, way)()

            def take(self):
                self.answer(200, b"thanks")

            def slow(self):
                receiver.leave.wait(0.5)
                self.take()

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

    def flows(self):
        """Those that it was told of, whatever it did then; the lock is held."""
        return {i.rsplit("-", 1)[0] for i in self.bodies}

    def events(self, flow):
        """Names of the flow's state changes in the order of their arrival, without repetitions."""
        with self.lock:
            seen = {event["id"]: event for event in self.accepted if event["flow"] == flow}
        return [event["event"] for event in seen.values() if event["event"] != "progress"]

    def numbers(self, flow):
        """Of all the flow's events in the order of their arrival, without repetitions."""
        with self.lock:
            ids = dict.fromkeys(event["id"] for event in self.accepted if event["flow"] == flow)
        return [int(i.rsplit("-", 1)[1]) for i in ids]

    def close(self):
        self.leave.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        assert self.problems == []


def settings(work, **more):
    secret = work / "secret"
    secret.write_bytes(SECRET + b"\n")
    values = {"hosts": "[127.0.0.1]", "secret_file": str(secret), "backoff": "20ms", "backoff_max": "400ms",
              "timeout": "60s", "attempts": "1000", **more}
    return {"master.callbacks": "{" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}",
            "master.reconcile": "1s"}
