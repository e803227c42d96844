"""What all tests share: no network, a cache of their own, the real weights."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

# Set before torch is imported. Test processes side by side must not fight for cores; what they
# have inherited was meant for one process.
_CORES = os.cpu_count() or 1
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    _SHARE = _CORES // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ["OMP_NUM_THREADS"] = str(max(1, _SHARE))
else:
    os.environ.setdefault("OMP_NUM_THREADS", str(_CORES))
os.environ.setdefault("MPLBACKEND", "Agg")
# Subprocesses of the tests are forbidden the network as well.
os.environ["GEOEMBED_OFFLINE"] = "1"

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every socket that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and address[0] not in _LOOPBACK:
            raise AssertionError(f"a test tried to reach {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test an empty cache, so that weights come from the installed distribution."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GEOEMBED_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of development data beside the checkout, or skip with a counted reason."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the development data beside the checkout (../shared/data) is not here")
    return folder
