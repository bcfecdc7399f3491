"""The two halves of the opening handshake."""

import base64

import pytest

from proxy.websocket.handshake import accept_for, check_attempt, check_switch, extension_names, is_attempt, is_key

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
Fields = list[tuple[str, str]]
ATTEMPT: Fields = [
    ("Host", "a.test"),
    ("Upgrade", "websocket"),
    ("Connection", "keep-alive, Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", KEY),
]
SWITCH: Fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept_for(KEY))]


def changed(fields: Fields, name: str, *values: str) -> Fields:
    """Return the fields with those of one name replaced by these."""
    return [field for field in fields if field[0] != name] + [(name, value) for value in values]


def test_accept_for_the_rfcs_example_is_the_rfcs_answer() -> None:
    assert accept_for(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("upgrade", "connection"),
    [
        ("websocket", "upgrade"),
        ("WebSocket", "keep-alive, UPGRADE"),
        ("h2c,websocket", "Upgrade"),
        ("\twebsocket ", "\tupgrade\t,close"),
    ],
)
def test_tokens_in_any_case_and_place_are_an_attempt(upgrade: str, connection: str) -> None:
    assert is_attempt(11, [("UPGRADE", upgrade), ("connection", connection)])


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        (10, ATTEMPT),
        (11, changed(ATTEMPT, "Connection", "notupgrade")),
        (11, changed(ATTEMPT, "Connection", "keep-alive")),
        (11, changed(ATTEMPT, "Connection")),
        (11, changed(ATTEMPT, "Upgrade", "websocketx")),
        (11, changed(ATTEMPT, "Upgrade", "web socket")),
        (11, changed(ATTEMPT, "Upgrade", "websocket/13")),
        (11, changed(ATTEMPT, "Upgrade", "h2c")),
        (11, changed(ATTEMPT, "Upgrade")),
    ],
)
def test_substrings_and_halves_are_no_attempt(version: int, fields: Fields) -> None:
    assert not is_attempt(version, fields)


def test_well_formed_attempt_has_nothing_wrong() -> None:
    assert check_attempt("GET", ATTEMPT, has_body=False) is None


@pytest.mark.parametrize(
    ("method", "fields", "has_body"),
    [
        ("POST", ATTEMPT, False),
        ("get", ATTEMPT, False),
        ("GET", ATTEMPT, True),
        ("GET", changed(ATTEMPT, "Upgrade", "websocket, h2c"), False),
        ("GET", changed(ATTEMPT, "Upgrade", "h2c", "websocket"), False),
        ("GET", changed(ATTEMPT, "Sec-WebSocket-Key"), False),
        ("GET", changed(ATTEMPT, "Sec-WebSocket-Key", KEY, KEY), False),
        ("GET", changed(ATTEMPT, "Sec-WebSocket-Key", "c2hvcnQ="), False),
        ("GET", changed(ATTEMPT, "Sec-WebSocket-Key", KEY[:-1]), False),
        ("GET", changed(ATTEMPT, "Sec-WebSocket-Key", f"{KEY}, {KEY}"), False),
        ("GET", changed(ATTEMPT, "Sec-WebSocket-Key", "\N{DEVANAGARI DIGIT ONE}" * 22 + "=="), False),
        ("GET", changed(ATTEMPT, "Sec-WebSocket-Key", base64.b64encode(bytes(17)).decode()), False),
    ],
)
def test_malformed_attempt_is_400_and_ends_the_connection(method: str, fields: Fields, has_body: bool) -> None:
    answer = check_attempt(method, fields, has_body=has_body)

    assert answer is not None
    assert (answer.status, answer.headers, answer.close) == (400, (), True)


@pytest.mark.parametrize("versions", [(), ("99",), ("13, 8",), ("13", "13"), ("013",)])
def test_other_version_is_426_that_names_ours_and_leaves_http_as_it_is(versions: tuple[str, ...]) -> None:
    answer = check_attempt("GET", changed(ATTEMPT, "Sec-WebSocket-Version", *versions), has_body=False)

    assert answer is not None
    assert (answer.status, answer.headers, answer.close) == (426, (("Sec-WebSocket-Version", "13"),), False)


@pytest.mark.parametrize("size", range(33))
def test_key_of_sixteen_bytes_is_the_only_key(size: int) -> None:
    assert is_key(base64.b64encode(bytes(size)).decode()) == (size == 16)


def test_switch_that_answers_the_attempt_is_valid() -> None:
    request = [
        *ATTEMPT,
        ("Sec-WebSocket-Protocol", "chat, superchat"),
        ("Sec-WebSocket-Protocol", "other"),
        ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits, x-other"),
    ]
    answer = [*SWITCH, ("Sec-WebSocket-Protocol", "other"), ("Sec-WebSocket-Extensions", "Permessage-Deflate;a=1")]

    assert check_switch(request, answer) is None


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (changed(SWITCH, "Upgrade"), "switch_other_protocol"),
        (changed(SWITCH, "Upgrade", "h2c"), "switch_other_protocol"),
        (changed(SWITCH, "Upgrade", "websocket", "websocket"), "switch_other_protocol"),
        (changed(SWITCH, "Connection", "upgraded"), "switch_no_connection"),
        (changed(SWITCH, "Sec-WebSocket-Accept"), "switch_invalid_accept"),
        (changed(SWITCH, "Sec-WebSocket-Accept", KEY), "switch_invalid_accept"),
        (
            changed(SWITCH, "Sec-WebSocket-Accept", accept_for(KEY), accept_for(KEY)),
            "switch_invalid_accept",
        ),
        ([*SWITCH, ("Sec-WebSocket-Protocol", "Chat")], "switch_unoffered_subprotocol"),
        ([*SWITCH, ("Sec-WebSocket-Protocol", "")], "switch_unoffered_subprotocol"),
        ([*SWITCH, ("Sec-WebSocket-Protocol", "chat, superchat")], "switch_unoffered_subprotocol"),
        ([*SWITCH, *[("Sec-WebSocket-Protocol", "chat")] * 2], "switch_unoffered_subprotocol"),
        ([*SWITCH, ("Sec-WebSocket-Extensions", "x-bzip")], "switch_unoffered_extension"),
    ],
)
def test_switch_that_does_not_answer_is_refused(answer: Fields, cause: str) -> None:
    request = [*ATTEMPT, ("Sec-WebSocket-Protocol", "chat,, superchat"), ("Sec-WebSocket-Extensions", "permessage-deflate")]

    assert check_switch(request, answer) == cause


def test_extension_names_are_without_parameters() -> None:
    assert extension_names([("Sec-WebSocket-Extensions", "a; b=1, C;d"), ("sec-websocket-extensions", "e,")]) == {"a", "c", "e"}
