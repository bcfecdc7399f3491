"""What the judges share with the process tests."""

from e2e.conftest import hub

__all__ = ["hub"]
