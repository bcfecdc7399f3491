"""`make fuzz`: mutate the corpus for a time, or for a number of inputs. Usage: python tests/fuzz [SECONDS|Nx] [TARGET ...]

A finding is written to the corpus, where `make test` plays it again, and ends the run with 1.
"""

import hashlib
import random
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent.parent)]
from targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
BATCH = 256
TOKENS = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b"\0",
        b": ",
        b" ",
        b"\t",
        b";",
        b",",
        b"\xff",
        b"\x80",
        b"0\r\n\r\n",
        b"HTTP/1.1",
        b"HTTP/1.0",
    ),
    *(
        b"Content-Length",
        b"Transfer-Encoding",
        b"chunked",
        b"Host",
        b"Connection",
        b"Upgrade",
        b"websocket",
        b"GET ",
        b"POST ",
        b"/",
    ),
    *(b"\x81\x05", b"\x88\x02\x03\xe8", b"\x89\x00", b"\x01", b"\x80", b"\xfe\x00\x7e", b"\x16\x03\x01", b"\x7f" + bytes(8)),
)


def mutate(dice: random.Random, seeds: list[bytes]) -> bytes:
    """Make an input of one or two others."""
    data = bytearray(dice.choice(seeds))
    for _ in range(1 + dice.randrange(4)):
        place = dice.randrange(len(data) + 1)
        match dice.randrange(7):
            case 0 if data:
                data[place % len(data)] = dice.randrange(256)
            case 1:
                data[place:place] = dice.choice(TOKENS)
            case 2:
                del data[place : place + 1 + dice.randrange(8)]
            case 3:
                end = place + 1 + dice.randrange(16)
                data[place:place] = data[place:end]
            case 4:
                other = dice.choice(seeds)
                data[place:] = other[dice.randrange(len(other) + 1) :]
            case 5 if data:
                data[place % len(data)] ^= 1 << dice.randrange(8)
            case _:
                data[place:place] = bytes(dice.randrange(256) for _ in range(dice.randrange(6)))
    return bytes(data[:4096])


def fuzz(name: str, seconds: float, count: int, seed: int) -> tuple[int, bytes | None]:
    """Try mutated inputs; return how many, and the one that broke a promise."""
    target = TARGETS[name]
    dice = random.Random(seed)  # noqa: S311  no secret
    seeds = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    end = time.monotonic() + seconds
    done = 0
    while done < count and time.monotonic() < end:
        for _ in range(BATCH):
            data = mutate(dice, seeds)
            try:
                target(data)
            except Exception:  # noqa: BLE001  whatever it is, it is a finding
                return done, data
        done += BATCH
    return done, None


def main() -> int:
    """Fuzz each target for its share."""
    amount = sys.argv[1] if len(sys.argv) > 1 else "60"
    names = sys.argv[2:] or list(TARGETS)
    each = float("inf") if amount.endswith("x") else float(amount) / len(names)
    count = int(amount[:-1]) // len(names) if amount.endswith("x") else sys.maxsize
    status = 0
    seed = time.time_ns()
    print(f"seed {seed}", flush=True)
    for name in names:
        start = time.monotonic()
        done, found = fuzz(name, each, count, seed)
        print(f"{name}: {done} inputs in {time.monotonic() - start:.0f} s", "" if found is None else f"FOUND {found!r}", flush=True)
        if found is not None:
            (CORPUS / name / f"found-{hashlib.sha256(found).hexdigest()[:12]}").write_bytes(found)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
