"""What the benchmarks say follows from what they measured."""

import json
import ssl
from pathlib import Path

from cryptography import x509

from benchmarks.certificates import make_certificate
from benchmarks.report import Row, as_json, beyond_limits, line, not_measured, quantile

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


def test_certificate_has_an_intermediate_and_leads_to_its_root(tmp_path: Path) -> None:
    made = make_certificate()
    leaf, intermediate = x509.load_pem_x509_certificates(made.chain)
    (root,) = x509.load_pem_x509_certificates(made.root)
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    (tmp_path / "both.pem").write_bytes(made.chain + made.key)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cadata=made.root.decode())
    server.load_cert_chain(tmp_path / "both.pem")
    wires = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(wires[0], wires[1], server_hostname="bench.localhost"),
        server.wrap_bio(wires[1], wires[0], server_side=True),
    )
    done: set[int] = set()
    for _ in range(10):
        for number, end in enumerate(ends):
            try:
                end.do_handshake()
                done.add(number)
            except ssl.SSLWantReadError:
                pass

    assert done == {0, 1}
