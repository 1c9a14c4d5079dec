# SPDX-License-Identifier: Apache-2.0
"""Trees to copy, and the comparison of two trees."""
import os
import random
import stat
import subprocess


def write(path, size, seed=0):
    """A file of bytes that look random, the same for the same seed."""
    rng = random.Random(seed)
    with open(path, "wb") as f:
        while size > 0:
            n = min(size, 8 << 20)
            f.write(rng.randbytes(n))
            size -= n


def hostile(root, files=2000, directories=100, seed=1):
    """Names, kinds and times that break careless programs, among many small files."""
    rng = random.Random(seed)
    root = os.fsencode(str(root))
    os.makedirs(root, exist_ok=True)
    names = [b"space in name", b"quote'\"quote", b"new\nline", b"n" * 255, b"\xff\xfe not utf-8 \x80",
             b"-rf", b"*", b"$(reboot)", b"tab\tbell\x07", "ünïcödé".encode(), b"back\\slash", b".hidden",
             b"..two dots", b"trailing ", b".sluice-0123456789abcdefghjkmnpq"]
    dirs = [root]
    for i in range(directories - 1):
        parent = rng.choice(dirs[-20:])
        name = names[i] if i < len(names) else b"dir%d" % i
        path = os.path.join(parent, name)
        if len(path) < 3500:
            os.mkdir(path)
            dirs.append(path)
    os.mkdir(os.path.join(root, b"empty directory"))
    for i in range(files):
        size = rng.choice([0, 0, 1, 10, 100, 1000, 5000, 20000])
        path = os.path.join(rng.choice(dirs), b"file%d" % i)
        with open(path, "wb") as f:
            f.write(rng.randbytes(size))
        os.chmod(path, rng.choice([0o644, 0o600, 0o755, 0o444, 0o640]))
        os.utime(path, ns=(1, rng.randrange(10**18, 17 * 10**17)))
    for i, name in enumerate(names):
        directory = os.path.join(root, b"names")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, name), "wb") as f:
            f.write(b"content %d" % i)
    links = os.path.join(root, b"links")
    os.mkdir(links)
    for name, target in [(b"relative", b"../names/-rf"), (b"absolute", b"/etc/passwd"), (b"dangling", b"nowhere"),
                         (b"self", b"self"), (b"loop", b".."), (b"to a directory", b"../names"),
                         (b"odd \xff", b"\xfe\n target"), (b"long", b"x" * 1000)]:
        os.symlink(target, os.path.join(links, name))
    for path in dirs[1:]:
        os.utime(path, ns=(1, rng.randrange(10**18, 17 * 10**17)))
    os.chmod(links, 0o750)
    os.chmod(dirs[-1], 0o555)


def differences(source, destination):
    """What rsync would still do to make the destination equal: empty if nothing."""
    done = subprocess.run(["rsync", "-aH", "-@-1", "-c", "-n", "-i", "--delete",
                           os.fsencode(str(source)) + b"/", os.fsencode(str(destination)) + b"/"],
                          capture_output=True, check=False)
    return (done.stdout + done.stderr).decode(errors="backslashreplace")[:3000]


def temporaries(root):
    """Names below root that look like Sluice's temporaries (but the one that hostile() makes)."""
    found = []
    for directory, _, files in os.walk(os.fsencode(str(root))):
        found += [os.path.join(directory, name) for name in files
                  if name.startswith(b".sluice-") and b"0123456789abcdefghjkmnpq" not in name]
    return found


def inventory(root):
    """(files, bytes) below root."""
    files = size = 0
    for directory, _, names in os.walk(os.fsencode(str(root))):
        for name in names:
            status = os.lstat(os.path.join(directory, name))
            if stat.S_ISREG(status.st_mode):
                files += 1
                size += status.st_size
    return files, size
