"""A value that cannot print itself, for key material."""

import msgspec


class Sensitive(msgspec.Struct, frozen=True, array_like=True):
    """Bytes that are compared, hashed, encoded and digested like any other, but never shown."""

    data: bytes

    def __repr__(self) -> str:
        return f"<redacted {len(self.data)} bytes>"
