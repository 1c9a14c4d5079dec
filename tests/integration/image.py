# SPDX-License-Identifier: Apache-2.0
"""File systems of a test's own, in images, and what of their files the page cache holds."""
import ctypes
import mmap
import os
import shutil
import subprocess

import pytest

IMAGE_BYTES = 1 << 30
MAKERS = {"xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"], "btrfs": ["mkfs.btrfs", "-q"], "ext4": ["mkfs.ext4", "-q"]}
PACKAGES = {"xfs": "xfsprogs", "btrfs": "btrfs-progs", "ext4": "e2fsprogs"}

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def mount(work, kinds):
    """A directory on the first of these kinds that can be made here. Skips the test if there is none."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount an image")
    kind = next((kind for kind in kinds if shutil.which(MAKERS[kind][0])), None)
    if kind is None:
        pytest.skip(f"{', '.join(MAKERS[k][0] for k in kinds)} missing "
                    f"(package {', '.join(PACKAGES[k] for k in kinds)})")
    image, mounted = work / "image", work / "mounted"
    mounted.mkdir()
    with open(image, "wb") as f:
        f.truncate(IMAGE_BYTES)
    subprocess.run([*MAKERS[kind], image], check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "loop", "-t", kind, image, mounted], capture_output=True, text=True,
                          check=False)
    if done.returncode:
        pytest.skip(f"an image of {kind} cannot be mounted here: {done.stderr.strip()[-200:]}")
    return mounted


def unmount(mounted):
    subprocess.run(["umount", "-l", mounted], check=True)


def cached_pages(path):
    """How many pages of the file are in the page cache."""
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        n = -(-size // mmap.PAGESIZE)
        at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, f.fileno(), 0)
        assert at != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
        held = ctypes.create_string_buffer(n)
        assert libc.mincore(at, size, held) == 0, os.strerror(ctypes.get_errno())
        libc.munmap(at, size)
    return sum(byte & 1 for byte in held.raw)


def forget(path):
    """Takes the file out of the page cache."""
    with open(path, "rb") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
