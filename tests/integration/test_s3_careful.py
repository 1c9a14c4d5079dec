# SPDX-License-Identifier: Apache-2.0
"""--if-none-match: what is there already is never replaced, in a store or in a directory."""
import json
import os

from s3_fixtures import MIB, begin, buckets, make_tree, s3, server  # noqa: F401


def refused(cluster, flow):
    """Of a flow that ended: what was refused because something else was there."""
    listed = [json.loads(line) for line in cluster.sluice("show", "--failed", flow, "--json").stdout.splitlines()]
    assert all(item["error"]["code"] == "EXISTS" for item in listed), listed
    return sorted(item["path"] for item in listed)


def test_a_store_keeps_what_it_has(begin, s3, buckets):
    cluster = begin()
    source = cluster.root("a") / "tree"
    make_tree(source, 70 * MIB)
    s3.put(buckets[0], "whole", b"kept")
    s3.put(buckets[0], "large", b"kept as well")
    s3.put(buckets[0], "sub/file 3", b"and this")
    flow = cluster.submit(f"a:{source}/", f"s3://{buckets[0]}/", "--if-none-match")
    done = cluster.wait(flow)
    assert done["outcome"] == "partial" and done["objects_failed"] == 3, done
    assert refused(cluster, flow) == ["large", "sub/file 3", "whole"]
    assert s3.get(buckets[0], "whole") == b"kept" and s3.get(buckets[0], "large") == b"kept as well"
    assert s3.get(buckets[0], "sub/file 4") == (source / "sub" / "file 4").read_bytes()
    assert s3.uploads(buckets[0]) == 0
    # What is the same is no conflict: once more, and only those three are refused.
    s3.call("DELETE", buckets[0], "whole", status=204)
    done = cluster.wait(cluster.submit(f"a:{source}/", f"s3://{buckets[0]}/", "--if-none-match"))
    assert done["objects_failed"] == 2 and done["objects_skipped"] == 41, done
    assert s3.get(buckets[0], "whole") == (source / "whole").read_bytes()
    # A copy within the store.
    s3.put(buckets[1], "sub/file 5", b"kept here")
    flow = cluster.submit(f"s3://{buckets[0]}/sub/", f"s3://{buckets[1]}/sub/", "--if-none-match")
    done = cluster.wait(flow)
    assert refused(cluster, flow) == ["file 5"]
    assert s3.get(buckets[1], "sub/file 5") == b"kept here"


def test_a_directory_keeps_what_it_has(begin, s3, buckets):
    cluster = begin(settings={"master.large_bytes": 8 * MIB})
    source, target = cluster.root("a") / "tree", cluster.root("b") / "tree"
    make_tree(source, 20 * MIB)
    os.symlink("whole", source / "link")
    os.symlink("whole", source / "other link")
    target.mkdir()
    (target / "large").write_bytes(b"kept")
    (target / "whole").write_bytes(b"kept too")
    os.symlink("elsewhere", target / "link")
    flow = cluster.submit(f"a:{source}/", f"b:{target}/", "--if-none-match")
    done = cluster.wait(flow)
    assert done["outcome"] == "partial", done
    assert refused(cluster, flow) == ["large", "link", "whole"]
    assert (target / "large").read_bytes() == b"kept" and (target / "whole").read_bytes() == b"kept too"
    assert os.readlink(target / "link") == "elsewhere" and os.readlink(target / "other link") == "whole"
    assert (target / "sub" / "file 7").read_bytes() == (source / "sub" / "file 7").read_bytes()
    assert not list(target.rglob(".sluice-*"))
