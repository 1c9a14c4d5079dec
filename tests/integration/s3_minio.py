# SPDX-License-Identifier: Apache-2.0
"""A third S3 server: MinIO over one directory. It knows the newer checksums, over http and https."""
import os
import pathlib
import signal
import subprocess
import time
import urllib.error
import urllib.request

import s3_versity
from s3_server import Ports

HERE = pathlib.Path(__file__).resolve().parent


def find():
    """(path, why it is missing)"""
    done = subprocess.run([HERE.parent / "lib" / "minio", "--find"], capture_output=True, text=True, check=False)
    text = done.stdout.strip()
    return (text, None) if done.returncode == 0 else (None, text)


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
            self.until_answers()
        except BaseException:
            self.stop()
            raise

    def until_answers(self):
        deadline = time.monotonic() + s3_versity.PATIENCE_S
        while True:
            try:
                urllib.request.urlopen(f"{self.endpoint}/minio/health/ready", timeout=5).close()
                return
            except (urllib.error.HTTPError, OSError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
            time.sleep(0.1)

    def stop(self):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.ports.close()
