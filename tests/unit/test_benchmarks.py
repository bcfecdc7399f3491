"""What the benchmarks say follows from what they measured."""

import importlib
import json
import re
import shutil
import ssl
import tempfile
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from benchmarks.certificates import make_certificate
from benchmarks.report import Row, as_json, beyond_limits, line, not_measured, quantile

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COLUMNS = ("sluice", "compiled", "nginx", "envoy", "relay")
FAST = Row(
    "WS", "µs", {"sluice": [14.0, 12.0, 40.0], "compiled": [9.0], "nginx": [10.0], "envoy": [20.0], "relay": [1.0]}, 1.0, 1.3
)
MANY = Row("routes, MB", "", {"sluice": [81.0], "compiled": [80.0]}, goal=40, limit=80, alone=True)
HANDSHAKES = Row(
    "handshakes", "1/s", {"sluice": [1500.0], "compiled": [600.0], "nginx": [900.0], "envoy": [2000.0]}, 1, 0.7, higher=True
)


def test_ours_are_compared_by_medians_with_the_best_peer_which_the_relay_is_not() -> None:
    assert FAST.ratios() == {"sluice": 1.4, "compiled": 0.9}
    assert HANDSHAKES.ratios() == {"sluice": 0.75, "compiled": 0.3}
    assert MANY.ratios() == {}


def test_row_has_a_cell_for_each_column_measured_or_not() -> None:
    assert line(FAST, COLUMNS) == "| WS, µs | 14.0 (12.0-40.0) | 9.00 | 10.0 | 20.0 | 1.00 | 1.40 / 0.90 | 1 / 1.3 |"
    assert line(MANY, COLUMNS) == "| routes, MB | 81.0 | 80.0 | - | - | - | - | 40 / 80 |"


def test_what_is_beyond_its_limit_is_said_with_its_figures() -> None:
    said = beyond_limits([FAST, MANY, HANDSHAKES, Row("not judged", "µs", {"sluice": [9.0], "nginx": [1.0]})])

    assert said.split(": ", 1)[1] == (
        "WS (sluice 1.40; limit 1.3); routes, MB (sluice 81.00; limit 80); handshakes (compiled 0.30; limit 0.7)."
    )
    assert beyond_limits([Row("WS", "µs", {"sluice": [1.0], "nginx": [1.0]}, 1.0, 1.3)]).startswith("Nothing")


def test_what_was_not_measured_is_said() -> None:
    rows = [FAST, MANY]

    assert not_measured(["WS, µs", "handshakes, 1/s"], [*COLUMNS, "caddy"], rows) == (
        "Not measured in this run: handshakes, 1/s; all of caddy."
    )
    assert not_measured(["WS, µs", "routes, MB"], COLUMNS, rows) == ""


def test_quantile_is_the_least_value_that_the_share_does_not_exceed() -> None:
    thousand = [float(number) for number in range(1, 1001)]

    assert [quantile(thousand, share) for share in (0.5, 0.99, 0.999, 1.0)] == [500.0, 990.0, 999.0, 1000.0]
    assert quantile([7.0], 0.001) == 7.0


def test_json_has_every_value_of_every_round() -> None:
    found = json.loads(as_json({"rounds": 3}, [FAST, MANY]))

    assert found["rounds"] == 3
    assert [row["values"] for row in found["rows"]] == [FAST.values, MANY.values]
    assert [row["judged"] for row in found["rows"]] == ["ours over the best peer", "ours"]


def test_certificate_has_an_intermediate_and_leads_to_its_root() -> None:
    made = make_certificate()
    leaf, intermediate = x509.load_pem_x509_certificates(made.chain)
    (root,) = x509.load_pem_x509_certificates(made.root)
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)

    assert strict_client_takes(made.chain, made.key, made.root, "bench.localhost")


def strict_client_takes(chain: bytes, key: bytes, root: bytes, host: str) -> bool:
    """Whether a client does that asks for all of RFC 5280, as that of Python 3.13 and newer does by itself."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cadata=root.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    with tempfile.NamedTemporaryFile() as file:
        file.write(chain + key)
        file.flush()
        server.load_cert_chain(file.name)
    wires = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(wires[0], wires[1], server_hostname=host), server.wrap_bio(wires[1], wires[0], server_side=True))
    done: set[int] = set()
    for _ in range(10):
        for number, end in enumerate(ends):
            try:
                end.do_handshake()
                done.add(number)
            except ssl.SSLWantReadError:
                pass
    return done == {0, 1}


@pytest.fixture
def greedy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, imported as the benchmarks import each other: as scripts. Its programs are in C."""
    if shutil.which("cc") is None or not Path("/usr/include/openssl/ssl.h").exists():
        pytest.skip("needs a C compiler and OpenSSL's headers: tools/install-test-packages")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("greedy")


def beside_greedy(greedy: Any, folder: Path, port: int, peers: list[str], asked: str, seconds: float) -> Any:
    """Measure cases; return the run with its rows and lines."""
    run = importlib.import_module("run").Run(folder, make_certificate(), port, 1, seconds, peers)
    greedy.beside_greedy(run, asked, seconds)
    return run


def values(run: Any, name: str, column: str) -> list[float]:
    """What the rows of this name have in a column, case after case."""
    return [row.values[column][0] for row in run.rows if row.name.endswith(f": {name}")]


@pytest.mark.slow
@pytest.mark.programs
def test_every_kind_of_greedy_client_gets_its_operations_beside_an_innocent_of_nginx(
    greedy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("nginx") is None:
        pytest.skip("needs Debian's nginx: tools/install-bench-packages")
    monkeypatch.setattr(greedy, "trees", lambda _: {})
    run = beside_greedy(greedy, tmp_path, 0, ["nginx"], "nobody|1 client", 0.2)
    operations = values(run, "operations", "nginx")
    refused, cut = values(run, "answers of another status", "nginx"), values(run, "connections of the greedy cut", "nginx")

    assert len(operations) == len(greedy.KINDS) + 1
    assert operations[0] == 0  # nobody is greedy
    assert all(value > 0 for value in operations[1:])
    assert not any([*refused, *cut, *values(run, "idle sockets lost", "nginx")])
    assert all(value > 0 for value in values(run, "wait, worst", "nginx"))
    assert len([line for line in run.lines if line.startswith("| 1 client: empty pings |")]) == 3


@pytest.mark.slow
@pytest.mark.programs
def test_innocents_of_ours_are_measured_beside_eight_greedy_clients(
    greedy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greedy, "trees", lambda _: {"sluice": BENCHMARKS.parent})
    run = beside_greedy(greedy, tmp_path, 0, [], "8 clients: pipelined 404s$", 0.5)
    (operations,), (lost,) = values(run, "operations per CPU second", "sluice"), values(run, "idle sockets lost", "sluice")
    (median,), (worst,) = values(run, "wait, median", "sluice"), values(run, "wait, worst", "sluice")

    assert operations > 1000
    assert lost == 0
    assert 0 < median <= worst
    assert re.search(r"^\| 8 clients: pipelined 404s \| [0-9.]+ / [0-9.]+ / [0-9.]+ \|$", "\n".join(run.lines), re.MULTILINE)


@pytest.mark.programs
def test_innocents_that_wait_longer_than_beside_the_peers_or_lose_sockets_are_said(greedy: Any) -> None:
    nobody, chunks = greedy.CASES[0], next(case for case in greedy.CASES if case.label == "8 clients: chunks of a byte")
    found = {
        nobody: {"sluice": greedy.Found([9.0], [1.0], 0, 0), "nginx": greedy.Found([1.0], [1.0], 0, 0)},
        chunks: {
            "sluice": greedy.Found([5.0, 7.0, 11_000.0], [1.0], 50, 2),
            "compiled": greedy.Found([4.0, 4.0, 99.0], [1.0], 0, 0),
            "nginx": greedy.Found([1.0, 2.0, 3.0], [1.0], 0, 0),
            "haproxy": greedy.Found([1.0, 1.0, 30.0], [1.0], 0, 0),
        },
    }
    worse_peer = {chunks: {"sluice": greedy.Found([50.0, 201.0], [1.0], 0, 0), "nginx": greedy.Found([25.0, 201.0], [1.0], 0, 0)}}

    assert greedy.beyond(found) == (
        "Innocents are not as they should be: sluice beside 8 clients: chunks of a byte "
        "(50 of 50 idle sockets lost, median 7.00 ms, the slower peer's 2.00, worst 11000 ms, limit 100.0)."
    )
    assert greedy.beyond({chunks: {"sluice": greedy.Found([50.0, 101.0], [1.0], 0, 0)}}) == (
        "Innocents are not as they should be: sluice beside 8 clients: chunks of a byte (worst 101.0 ms, limit 100.0)."
    )
    assert greedy.beyond(worse_peer) == "Innocents are served beside all of these."
