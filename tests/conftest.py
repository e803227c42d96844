"""What all tests share: no network, a cache of their own, the real weights."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

# Two test processes on two cores must not fight for threads; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
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
