# SPDX-License-Identifier: Apache-2.0
"""A third S3 server: MinIO over one directory. It knows the newer checksums, over http and https."""
import os
import pathlib
import signal
import subprocess

import go_server
from s3_server import Ports


def find():
    return go_server.find("minio")


class MinioServer:
    access_key = "testaccesskey"
    secret_key = "testsecretkey"

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        (self.directory / "data").mkdir(parents=True)
        self.ports = Ports(2)
        self.endpoint = f"http://127.0.0.1:{self.ports.numbers[0]}"
        with open(self.directory / "out", "ab") as out:
            self.process = subprocess.Popen(
                [find()[0], "server", "--quiet", "--address", f"127.0.0.1:{self.ports.numbers[0]}", "--console-address",
                 f"127.0.0.1:{self.ports.numbers[1]}", self.directory / "data"],
                stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key,
                     "MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "MINIO_CI_CD": "1", "GOMAXPROCS": "2"})
        try:
            go_server.until_answers(f"{self.endpoint}/minio/health/ready", [self.process])
        except BaseException:
            self.stop()
            raise

    def stop(self):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.ports.close()
