"""What the process tests share beside e2e/harness.py."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from e2e.harness import Hub


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    """Feed proxies from a control socket of the test's own."""
    hub = Hub(tmp_path / "control.sock")
    await hub.start()
    yield hub
    await hub.stop()
