# SPDX-License-Identifier: Apache-2.0
"""What arrives is exactly what was there."""
import filecmp
import os

import pytest

import trees


def test_a_hostile_tree_arrives_exact(cluster, scale):
    source, destination = cluster.root("a") / "tree", cluster.root("b") / "tree"
    trees.hostile(source, files=50_000 // scale, directories=2_000 // scale)
    cluster.cp(f"a:{source}/", f"b:{destination}")
    assert trees.differences(source, destination) == ""
    assert trees.temporaries(destination) == []


def test_a_file_of_4_gib_arrives_exact(cluster, scale):
    source, destination = cluster.root("a") / "large", cluster.root("b") / "copy"
    source.mkdir()
    trees.write(source / "file", (4 << 30) // scale // scale + 12345)
    done = cluster.cp(f"a:{source}/file", f"b:{destination}/file")
    assert filecmp.cmp(source / "file", destination / "file", shallow=False), done.stderr
    assert os.stat(source / "file").st_mtime_ns == os.stat(destination / "file").st_mtime_ns
    flow = cluster.flows()[0]
    assert flow["bytes_done"] == flow["bytes_total"] == os.path.getsize(source / "file")


def test_one_file_onto_a_new_name_and_into_a_directory(cluster):
    a, b = cluster.root("a"), cluster.root("b")
    (a / "f").write_bytes(b"hello")
    cluster.cp(f"a:{a}/f", f"b:{b}/new name")
    assert (b / "new name").read_bytes() == b"hello"
    (b / "dir").mkdir()
    cluster.cp(f"a:{a}/f", f"b:{b}/dir")
    assert (b / "dir" / "f").read_bytes() == b"hello"
    cluster.cp(f"a:{a}/f", f"b:{b}/fresh/")
    assert (b / "fresh" / "f").read_bytes() == b"hello"


def test_a_directory_without_and_with_a_trailing_slash(cluster):
    a, b = cluster.root("a"), cluster.root("b")
    (a / "d" / "sub").mkdir(parents=True)
    (a / "d" / "sub" / "f").write_bytes(b"x")
    (b / "there").mkdir()
    cluster.cp(f"a:{a}/d", f"b:{b}/there")
    assert (b / "there" / "d" / "sub" / "f").read_bytes() == b"x"
    cluster.cp(f"a:{a}/d/", f"b:{b}/contents")
    assert (b / "contents" / "sub" / "f").read_bytes() == b"x"


def test_an_empty_directory_and_an_empty_file(cluster):
    a, b = cluster.root("a"), cluster.root("b")
    (a / "e").mkdir()
    os.utime(a / "e", ns=(1, 1234567890123456789))
    cluster.cp(f"a:{a}/e/", f"b:{b}/e")
    assert os.stat(b / "e").st_mtime_ns == 1234567890123456789
    (a / "f").touch()
    cluster.cp(f"a:{a}/f", f"b:{b}/f")
    assert (b / "f").read_bytes() == b""


def test_what_is_there_is_replaced_whole(cluster):
    a, b = cluster.root("a"), cluster.root("b")
    (a / "d").mkdir()
    (a / "d" / "f").write_bytes(b"new")
    (b / "d").mkdir()
    (b / "d" / "f").write_bytes(b"old, and longer")
    old = open(b / "d" / "f", "rb")
    cluster.cp(f"a:{a}/d/", f"b:{b}/d")
    assert (b / "d" / "f").read_bytes() == b"new"
    assert old.read() == b"old, and longer"  # whoever had it open reads the whole old one


def test_a_path_deeper_than_path_max(cluster):
    a, b = cluster.root("a"), cluster.root("b")
    levels, name = 60, b"d" * 100
    fd = os.open(a, os.O_RDONLY)
    os.mkdir(b"deep", dir_fd=fd)
    fd = os.open(b"deep", os.O_RDONLY, dir_fd=fd)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        fd = os.open(name, os.O_RDONLY, dir_fd=fd)
    out = os.open(b"bottom", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=fd)
    os.write(out, b"at the bottom")
    cluster.cp(f"a:{a}/deep/", f"b:{b}/deep")
    fd = os.open(b / "deep", os.O_RDONLY)
    for _ in range(levels):
        fd = os.open(name, os.O_RDONLY, dir_fd=fd)
    copy = os.open(b"bottom", os.O_RDONLY, dir_fd=fd)
    assert os.read(copy, 100) == b"at the bottom"
    assert os.fstat(copy).st_mtime_ns == os.fstat(out).st_mtime_ns
    assert os.fstat(copy).st_mode & 0o777 == 0o640


def test_holes_stay_holes(cluster):
    a, b = cluster.root("a"), cluster.root("b")
    with open(a / "sparse", "wb") as f:
        f.write(b"start")
        f.seek(200 << 20)
        f.write(b"end")
        f.truncate(300 << 20)
    cluster.cp(f"a:{a}/sparse", f"b:{b}/sparse")
    assert os.path.getsize(b / "sparse") == 300 << 20
    assert os.stat(b / "sparse").st_blocks * 512 < 32 << 20
    with open(b / "sparse", "rb") as f:
        assert f.read(5) == b"start"
        f.seek(200 << 20)
        assert f.read(4) == b"end\0"


def test_the_same_site_and_the_same_agent(start):
    cluster = start(sites={"a": 1})
    a = cluster.root("a")
    trees.hostile(a / "tree", files=300, directories=20)
    trees.write(a / "tree" / "larger", 20 << 20)
    cluster.cp(f"a:{a}/tree/", f"a:{a}/copy")
    assert trees.differences(a / "tree", a / "copy") == ""
    assert cluster.flows()[0]["transport"] == "local"


@pytest.mark.parametrize("durability", ["none", "object", "task"])
def test_any_durability_on_a_disk(start, tmp_path, durability):
    cluster = start(volumes=[("a", "data", tmp_path / "a"), ("b", "data", tmp_path / "b")])
    trees.hostile(tmp_path / "a" / "tree", files=200, directories=10)
    cluster.cp(f"a:{tmp_path}/a/tree/", f"b:{tmp_path}/b/tree", "--durability", durability)
    assert trees.differences(tmp_path / "a" / "tree", tmp_path / "b" / "tree") == ""
