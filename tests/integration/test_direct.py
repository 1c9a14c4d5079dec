# SPDX-License-Identifier: Apache-2.0
"""Large files go past the page cache (`direct`), on file systems that can: the bytes are the same."""
import mmap

import pytest

import image
import trees

PART_BYTES = 4 << 20
DIRECT_FROM = 1 << 20
# In one task and in several parts; at the limit, at a block's and a page's ends, and beside them.
SIZES = [DIRECT_FROM, DIRECT_FROM + 1, DIRECT_FROM + 511, DIRECT_FROM + 512, DIRECT_FROM + 4095,
         PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 4096, 3 * PART_BYTES + 12345]


@pytest.fixture(params=["ext4", "xfs"])
def mounted(work, request):
    directory = image.mount(work, [request.param])
    yield directory
    image.unmount(directory)


def look(source, destination):
    """Both are equal, and neither was read or written through the page cache, but for the end behind the last
    whole page."""
    pages = [image.cached_pages(path) for path in (source, destination)]
    size = source.stat().st_size
    at_most = 1 if size % mmap.PAGESIZE else 0
    assert max(pages) <= at_most, f"{pages} pages are in the cache, of {size} bytes"
    assert destination.read_bytes() == source.read_bytes(), size
    # What was read just now is: pages of the cache are seen at all.
    assert image.cached_pages(destination) > at_most


def test_bytes_are_exact_and_the_cache_stays_as_it_was(mounted, start):
    cluster = start(sites={"a": 1, "b": 1}, volumes=[(site, "data", mounted / site) for site in "ab"],
                    settings={"agent.direct": DIRECT_FROM, "master.part_bytes": PART_BYTES})
    source, destination = cluster.root("a") / "tree", cluster.root("b") / "tree"
    source.mkdir()
    names = {f"f{size}": size for size in SIZES}
    for name, size in names.items():
        trees.write(source / name, size, seed=size)
        image.forget(source / name)
    trees.write(source / "small", DIRECT_FROM - 1)
    cluster.cp(f"a:{source}/", f"b:{destination}")
    for name in names:
        look(source / name, destination / name)
    assert (destination / "small").read_bytes() == (source / "small").read_bytes()


def test_a_copy_by_one_agent_is_exact_too(work, start):
    mounted = image.mount(work, ["ext4"])  # which cannot share blocks
    try:
        cluster = start(sites={"a": 1}, volumes=[("a", "data", mounted / "volume")],
                        settings={"agent.direct": DIRECT_FROM, "master.part_bytes": PART_BYTES})
        root = cluster.root("a")
        for size in SIZES[-2:]:
            trees.write(root / f"f{size}", size, seed=size)
            image.forget(root / f"f{size}")
            cluster.cp(f"a:{root}/f{size}", f"a:{root}/copy{size}")
            look(root / f"f{size}", root / f"copy{size}")
        assert cluster.stop() == []
    finally:
        image.unmount(mounted)
