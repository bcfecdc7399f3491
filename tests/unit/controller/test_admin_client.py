"""How `sluice sockets` shows what it is told."""

import pytest

from controller.admin_client import duration, table
from proxy.model.sockets import DrainOrder, SocketRow, order_problem

ROW = SocketRow(
    "id", "wsroute/shop/game/play", "shop/game:80", "10.1.4.17:8080", "203.0.113.9", 18120.0, 3.4, 81, 977, 2106, 401877
)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        *((0.0, "0s"), (59.9, "59s"), (60.0, "1m00s"), (3599.0, "59m59s"), (3600.0, "1h00m"), (18120.0, "5h02m")),
        *((86399.0, "23h59m"), (86400.0, "1d00h"), (273600.0, "3d04h")),
    ],
)
def test_time_is_shown_in_at_most_two_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_table_has_a_line_for_each_socket_and_numbers_end_below_each_other() -> None:
    closing = SocketRow("b", "-", "shop/game:80", "[fd00::1]:80", "203.0.113.4", 1.0, 0.0, 0, 0, 0, 0, "route_deleted", 14.2)
    head, first, second = table([ROW, closing]).splitlines()

    assert head.startswith("ROUTE                   ENDPOINT        CLIENT         AGE  IDLE  IN  OUT  BYTES IN  BYTES OUT")
    assert first.startswith("wsroute/shop/game/play  10.1.4.17:8080  203.0.113.9  5h02m    3s  81  977      2106     401877")
    assert second.startswith("-                       [fd00::1]:80    203.0.113.4     1s    0s   0    0         0          0")
    assert second.endswith("route_deleted in 14s")


def test_table_of_no_sockets_is_its_head() -> None:
    assert table([]).count("\n") == 0


@pytest.mark.parametrize(
    ("order", "begins"),
    [
        (DrainOrder("wsroute/shop/game"), ""),
        (DrainOrder("10.1.4.17", 0.0, 4999, "ä" * 61), ""),
        (DrainOrder(""), "Nothing is named"),
        (DrainOrder("x", -1.0), "over is -1 seconds"),
        (DrainOrder("x", float("nan")), "over is nan seconds"),
        (DrainOrder("x", 86401.0), "over is 86401 seconds"),
        (DrainOrder("x", 1.0, 1005), "code is 1005"),
        (DrainOrder("x", 1.0, 1012, "ä" * 62), "reason is too long"),
        (DrainOrder("x", 1.0, 1012, "\ud800"), "reason is too long or no text"),
    ],
)
def test_order_that_cannot_be_carried_out_is_answered_with_a_sentence(order: DrainOrder, begins: str) -> None:
    found = order_problem(order)

    assert found.startswith(begins)
    assert bool(found) == bool(begins)
