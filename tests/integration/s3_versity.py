# SPDX-License-Identifier: Apache-2.0
"""A second S3 server for the tests: Versity's gateway over a directory. It knows the newer checksums and conditions,
is strict about the order of parts, and speaks TLS beside plain HTTP."""
import os
import pathlib
import signal
import subprocess

import go_server
from s3_server import Ports


def find():
    return go_server.find("versitygw")


class VersityServer:
    access_key = "testaccesskey"
    secret_key = "testsecretkey"
    keeps_alive = False  # its own default: a connection for each request

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        (self.directory / "buckets").mkdir(parents=True)
        self.certificate = self.directory / "server.pem"
        self.processes = []
        self.ports = Ports(3)
        self.port, self.tls_port, self.closing_tls_port = self.ports.numbers
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.tls_endpoint = f"https://localhost:{self.tls_port}"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", self.directory / "server.key", "-out", self.certificate, "-days", "2", "-subj",
                        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
        try:
            self.spawn(self.port)
            tls = ["--cert", self.certificate, "--key", self.directory / "server.key"]
            self.spawn(self.tls_port, *tls)
            if self.keeps_alive:
                self.spawn(self.closing_tls_port, *tls, keeps_alive=False)
            go_server.until_answers(self.endpoint, self.processes)
        except BaseException:
            self.stop()
            raise

    def spawn(self, port, *options, keeps_alive=None):
        keeps_alive = self.keeps_alive if keeps_alive is None else keeps_alive
        with open(self.directory / "out", "ab") as out:
            self.processes.append(subprocess.Popen(
                [find()[0], "--port", f"127.0.0.1:{port}", "--access", self.access_key, "--secret", self.secret_key,
                 "--region", "us-east-1", "--quiet", *(["--keep-alive"] if keeps_alive else []), *options, "posix",
                 self.directory / "buckets"],
                stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "GOMAXPROCS": "2"}))

    def collect(self):
        """What was deleted is gone at once."""

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
        self.processes = []
        self.ports.close()
