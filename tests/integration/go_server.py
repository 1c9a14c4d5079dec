# SPDX-License-Identifier: Apache-2.0
"""What the S3 servers that are made from Go modules have in common."""
import pathlib
import subprocess
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE_S = 60


def find(name):
    """(path, why it is missing)"""
    done = subprocess.run([HERE.parent / "lib" / "go_server", name, "--find"], capture_output=True, text=True, check=False)
    text = done.stdout.strip()
    return (text, None) if done.returncode == 0 else (None, text)


def until_answers(url, processes):
    """By asking again and again: they tell nobody when they begin to listen."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError as e:
            if isinstance(e, urllib.error.HTTPError) and e.code < 500:
                return  # a refusal is an answer
            if time.monotonic() > deadline or any(p.poll() is not None for p in processes):
                raise
        time.sleep(0.1)
