# SPDX-License-Identifier: Apache-2.0
"""What the integration tests share: the build to test, a working directory, clusters."""
import os
import pathlib
import shutil
import tempfile

import pytest

import postgres
from cluster import QUICK, Cluster
from counting_proxy import Pipe, Proxies

ROOT = pathlib.Path(__file__).resolve().parents[2]


def pytest_addoption(parser):
    parser.addoption("--preset", default="release", help="which build/PRESET to test")
    parser.addoption("--database", choices=["sqlite", "postgresql"],
                     help="where clusters keep their flows unless a test says it itself")
    parser.addoption("--full", action="store_true", help="also what is too large for every run")


def pytest_collection_modifyitems(config, items):
    preset = config.getoption("--preset")
    keep, drop = [], []
    for item in items:
        large = item.get_closest_marker("large") and not config.getoption("--full")
        release_only = item.get_closest_marker("release_only") and preset != "release"
        (drop if large or release_only else keep).append(item)
    items[:] = keep
    config.hook.pytest_deselected(items=drop)


def pytest_configure(config):
    if config.getoption("--database"):
        os.environ["SLUICE_TEST_DATABASE"] = config.getoption("--database")
    # gRPC is not instrumented: what it does to itself is not ours to judge.
    os.environ.setdefault("TSAN_OPTIONS", "ignore_noninstrumented_modules=1:second_deadlock_stack=1")
    config.addinivalue_line("markers", "large: too large for every run, needs --full")
    config.addinivalue_line("markers", "release_only: says nothing more in a sanitizer's build")


@pytest.fixture(scope="session")
def preset(request):
    return request.config.getoption("--preset")


@pytest.fixture(scope="session")
def full(request):
    return request.config.getoption("--full")


@pytest.fixture
def scale(preset):
    """Sizes are divided by this in the slower builds."""
    return 1 if preset == "release" else 10


@pytest.fixture(scope="session")
def binaries(preset):
    path = ROOT / "build" / preset / "bin"
    if not (path / "sluice").exists():
        pytest.fail(f"{path}/sluice is missing: build the preset first")
    return path


def roomy_directory():
    """Memory-backed if there is room: these tests are about Sluice, not about the disk."""
    if "SLUICE_TEST_DIR" in os.environ:
        return os.environ["SLUICE_TEST_DIR"]
    memory = pathlib.Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > 14 << 30:
        return str(memory)
    return tempfile.gettempdir()


@pytest.fixture
def work(request):
    path = pathlib.Path(tempfile.mkdtemp(prefix="sluice-test-", dir=roomy_directory()))
    yield path
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():  # paths deeper than PATH_MAX
        os.system(f"rm -rf '{path}'")


@pytest.fixture
def start(binaries, preset, work, request):
    """Starts clusters that are stopped, and looked over, at the test's end."""
    clusters = []

    def begin(**options):
        try:
            cluster = Cluster(binaries, preset, work / f"cluster{len(clusters)}", **options)
        except postgres.Missing as why:
            pytest.skip(str(why))
        clusters.append(cluster)
        return cluster

    yield begin
    problems = [problem for cluster in clusters for problem in cluster.stop()]
    if problems:
        pytest.fail("\n".join(problems)[:6000])


@pytest.fixture
def cluster(start):
    """Sites a and b with two agents each; volume `data` of a site is cluster.root(site)."""
    return start()


@pytest.fixture
def counted(start, work):
    """Clusters whose executors reach the sources' agents only through counting proxies."""
    closing = []

    def begin(settings=None, cut_off=None, sites=None, **options):
        """cut_off: this agent reaches the master through a pipe, too, which is `proxies.master`."""
        sites = sites or {"a": 2, "b": 2}
        proxies = Proxies([f"a-{i + 1}" for i in range(sites["a"])])
        closing.append(proxies)
        settings = {**QUICK, **proxies.settings(), **(settings or {})}
        if cut_off:
            proxies.master = Pipe(lambda: Cluster.master_address(work / "cluster0"))
            closing.append(proxies.master)
            settings[f"{cut_off}.master"] = proxies.master.address
        proxies.cluster = start(sites=sites, settings=settings, **options)
        return proxies.cluster, proxies

    yield begin
    for what in closing:
        what.close()
