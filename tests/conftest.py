"""What all tests share."""

import asyncio
from pathlib import Path

import pytest
import uvloop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, object]:
    """Run the wire tests on uvloop, as workers do; everything else on the standard loop."""
    del config
    if Path(item.fspath).parent.name == "wire":
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
