"""What all tests share."""

import asyncio
import os
import sys
from pathlib import Path

import hypothesis
import pytest
import uvloop

# How long one example takes is the machine's business; pytest-timeout bounds the whole test.
hypothesis.settings.register_profile("sluice", deadline=None)
hypothesis.settings.load_profile("sluice")

collect_ignore = ["slow"]
"""What takes minutes: `make test-slow` names the folder."""

NATIVE = Path(__file__).parent.parent / "build" / "native"

if os.environ.get("SLUICE_TEST_NATIVE") == "1":
    # The compiled modules take the place of the plain ones, here and in the processes that tests start.
    sys.path.insert(0, str(NATIVE))
    os.environ["PYTHONPATH"] = str(NATIVE)
    os.environ["PYTHONSAFEPATH"] = "1"
    import proxy.runtime.state

    assert proxy.runtime.state.__file__.endswith(".so"), "run tools/build_native.py first"


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, object]:
    """Run the wire tests and the judges on uvloop, as workers do; everything else on the standard loop."""
    del config
    if Path(item.fspath).parent.name in ("wire", "judges"):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
