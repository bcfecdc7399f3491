"""`sluice standalone` on a folder, as its user sees it: wrong files and Secrets, hosts of several Secrets, the access log."""

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from demo import sluice, write_whole
from e2e.harness import trusting
from e2e.standalone import AUTHORITY, FREE, HOSTS, WAIT, Running, echo_backends, endpoints_text, objects, secret
from websockets.asyncio.client import connect

from controller.translate.verdicts import LAST_USED


@contextlib.asynccontextmanager
async def running(folder: Path, *arguments: str) -> AsyncIterator[Running]:
    async with echo_backends(1) as ports:
        write_whole(folder / "endpoints.yaml", endpoints_text(ports))
        for host in HOSTS:
            write_whole(folder / f"{host}.yaml", objects(host) if host == HOSTS[0] else objects(host).split("---\n", 1)[1])
            write_whole(folder / f"{host}-secret.json", secret(host))
        with sluice(folder, [*FREE, *arguments]) as (process, listening):
            yield Running(folder, process, listening)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "objects"
    made.mkdir()
    return made


async def test_first_folder_of_the_readme_is_served_as_it_is_pasted(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    pasted, _, last = (
        text.split("\n## Without a cluster", 1)[1].split("```sh\n", 1)[1].split("```", 1)[0].rpartition("sluice standalone")
    )
    async with echo_backends(1) as (port,):
        assert pasted.count("port: 3000") == 1
        script = pasted.replace("port: 3000", f"port: {port}")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        shell = await asyncio.create_subprocess_exec(
            "sh", "-ec", script, cwd=tmp_path, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(shell.communicate(), WAIT)
        assert (shell.returncode, said, last) == (0, b"", " shop\n")
        with sluice(tmp_path / "shop", FREE) as (process, listening):
            proxy = Running(tmp_path / "shop", process, listening)
            context = ssl.create_default_context(cafile=tmp_path / "chat.crt")
            async with asyncio.timeout(WAIT):
                uri = f"wss://chat.localhost:{proxy.https}/ws"
                async with connect(uri, ssl=context, host="127.0.0.1", compression=None) as socket:
                    await socket.send("hello")

                    assert await socket.recv() == "hello"
            assert await asyncio.to_thread(proxy.shows, "/problems") == []


async def test_service_that_gets_no_endpoint_is_noted_until_it_has_one(folder: Path) -> None:
    async with running(folder) as proxy:
        path = folder / "endpoints.yaml"
        labelled = path.read_text()
        write_whole(path, labelled.replace("kubernetes.io/service-name", "service-name"))
        notes = await proxy.until_shows("/problems", bool)

        assert [(one["kind"], one["name"], one["note"]) for one in notes] == [("WsRoute", "a", True), ("WsRoute", "b", True)]
        assert "has the label kubernetes.io/service-name: echo, EndpointSlice " in notes[0]["message"]
        write_whole(path, labelled)
        await proxy.until_shows("/problems", lambda found: not found)
        assert await proxy.ask("a.localhost") == 200


async def test_request_for_a_host_of_another_secret_is_421_and_none_without_server_name(folder: Path) -> None:
    async with running(folder) as proxy:
        assert await proxy.ask("a.localhost") == 200
        assert await proxy.ask("b.localhost") == 200
        assert await proxy.ask("b.localhost", name="a.localhost") == 421
        assert await proxy.ask("unknown.localhost", name="a.localhost") == 421
        assert await proxy.ask("b.localhost", name=None) == 200


async def test_secret_that_no_longer_parses_keeps_the_last_good_certificate_and_says_so(folder: Path) -> None:
    async with running(folder) as proxy:
        write_whole(folder / "a.localhost-secret.json", secret("a.localhost", key="AAAA"))
        problems = await proxy.until_shows("/problems", bool)

        assert next((one["kind"], one["name"], one["reason"], one["message"]) for one in problems) == (
            "Secret",
            "a-tls",
            "SecretInvalid",
            f"data[tls.key]: no private key could be read, a key in PEM would be accepted. {LAST_USED}",
        )
        assert await proxy.ask("a.localhost") == 200
        write_whole(folder / "a.localhost-secret.json", secret("a.localhost"))
        await proxy.until_shows("/problems", lambda found: not found)
        assert await proxy.ask("a.localhost") == 200


@pytest.mark.parametrize(("begins", "ends", "found"), [(-20, -1, "ended on "), (1, 100, "begins on ")])
async def test_good_certificate_stays_in_place_of_one_with_wrong_dates_and_it_is_said(
    folder: Path, begins: int, ends: int, found: str
) -> None:
    async with running(folder) as proxy:
        path = folder / "a.localhost-secret.json"
        write_whole(path, secret("a.localhost", begins=begins, ends=ends))
        (problem,) = await proxy.until_shows("/problems", bool)

        assert (problem["kind"], problem["name"], problem["reason"]) == ("WsRoute", "a", "SecretInvalid")
        assert f'spec.tls.secretName: the certificate of Secret "default/a-tls" {found}' in problem["message"]
        assert ", so the one before it is served, until " in problem["message"]
        assert await proxy.ask("a.localhost") == 200  # clients refuse the other
        write_whole(path, secret("a.localhost"))
        await proxy.until_shows("/problems", lambda found: not found)
        assert await proxy.ask("a.localhost") == 200


async def test_half_written_file_keeps_its_objects_and_names_the_line(folder: Path) -> None:
    async with running(folder) as proxy:
        path = folder / "a.localhost.yaml"
        path.write_text(path.read_text() + "---\nkind: [\n")
        (problem,) = await proxy.until_shows("/problems", bool)

        assert "line " in problem["message"]
        assert "the objects that it gave before stay" in problem["message"]
        assert await proxy.ask("a.localhost") == 200
        routes = await asyncio.to_thread(proxy.shows, "/routes")
        assert [route["id"] for route in routes] == ["wsroute/default/a/all", "wsroute/default/b/all"]


async def test_wrong_object_harms_itself_alone_and_is_shown_with_its_sentence(folder: Path) -> None:
    async with running(folder) as proxy:
        wrong = objects("c.localhost").split("---\n", 1)[1].replace("port: 80", "port: 81")
        write_whole(folder / "c.yaml", wrong)
        problems = await proxy.until_shows("/problems", lambda found: len(found) > 1)

        sentence = 'Service "default/echo" has no port 81; its port is 80 (http).'
        assert any(one["message"].endswith(sentence) for one in problems)
        assert await proxy.ask("a.localhost") == 200


async def test_access_log_has_a_line_per_request_and_two_per_socket(folder: Path) -> None:
    async with running(folder, "--access-log", "json") as proxy:
        assert await proxy.ask("a.localhost", "/x?q=1") == 200
        request = await asyncio.to_thread(proxy.line)
        assert await proxy.ask("nobody.localhost", "/", secure=False) == 404
        refused = await asyncio.to_thread(proxy.line)
        context = trusting(AUTHORITY)
        async with asyncio.timeout(WAIT):
            async with connect(f"wss://a.localhost:{proxy.https}/ws", ssl=context, host="127.0.0.1", compression=None) as socket:
                for _ in range(3):
                    await socket.send("hello")
                    assert await socket.recv() == "hello"
                opened = await asyncio.to_thread(proxy.line)
                await socket.close(4001, "enough")
            closed = await asyncio.to_thread(proxy.line)

        assert (request["event"], request["status"], request["host"], request["target"], request["agent"], request["route"]) == (
            "request",
            200,
            "a.localhost",
            "/x?q=1",
            '"test"',
            "wsroute/default/a/all",
        )
        assert (refused["status"], refused["route"]) == (404, "-")
        assert opened["event"] == "socket-open"
        assert opened["endpoint"].startswith("127.0.0.1:")
        assert closed["id"] == opened["id"]
        assert (closed["event"], closed["code"], closed["by"]) == ("socket-close", 4001, "client")
        assert (closed["messages_in"], closed["messages_out"], closed["bytes_in"], closed["bytes_out"]) == (3, 3, 15, 15)


async def test_text_log_quotes_what_a_client_chose(folder: Path) -> None:
    async with running(folder, "--access-log", "text") as proxy:
        assert await proxy.ask("a.localhost", "/a%22b") == 200
        line = await asyncio.to_thread(proxy.lines.get, timeout=WAIT)

        assert 'event="request"' in line
        assert 'agent="\\"test\\""' in line


def named_port(number: int) -> str:
    """A rule that names a Service's port, and the Service, in which it has this number."""
    return f"""apiVersion: v1
kind: Service
metadata: {{name: echo}}
spec: {{ports: [{{name: http, port: {number}}}]}}
---
apiVersion: sluice.dev/v1alpha1
kind: WsRoute
metadata: {{name: a}}
spec:
  hosts: [a.localhost]
  tls: {{secretName: a-tls, redirect: false}}
  rules:
  - name: named
    websocket: {{backends: [{{service: echo, port: http}}]}}
    http: {{backends: [{{service: echo, port: http}}]}}
    close: {{onRouteRemoved: Now, onEndpointTerminating: Now}}
"""


async def test_socket_stays_when_its_services_port_gets_another_number_under_its_name(folder: Path) -> None:
    async with running(folder) as one:
        write_whole(folder / f"{HOSTS[0]}.yaml", named_port(80))
        await one.until_shows("/routes", lambda found: "wsroute/default/a/named" in json.dumps(found))
        async with connect(f"ws://a.localhost:{one.http}/", host="127.0.0.1", ping_interval=None) as socket:
            await socket.send("before")
            before = await asyncio.wait_for(socket.recv(), WAIT)
            write_whole(folder / f"{HOSTS[0]}.yaml", named_port(81))
            await one.until_shows("/routes", lambda found: "default/echo:81" in json.dumps(found))
            await one.until_shows("/sockets", lambda found: "default/echo:81" in json.dumps(found))
            await socket.send("after")
            after = await asyncio.wait_for(socket.recv(), WAIT)

    assert (before, after) == ("before", "after")


def edited(rule: str) -> str:
    """The WsRoute of the first host with one rule of this text added to its backend."""
    return objects(HOSTS[0]).replace("{name: all,", f"{{name: all, {rule},")


async def test_edit_with_a_guard_that_cannot_be_carried_out_shuts_its_rule_and_a_harmless_mistake_shuts_nothing(
    folder: Path,
) -> None:
    """A guard never evaporates, and nothing that was served is lost because something else is wrong."""
    path = folder / f"{HOSTS[0]}.yaml"
    async with running(folder) as proxy:
        write_whole(path, edited("timeouts: {idle: 0s}"))
        (harmless,) = await proxy.until_shows("/problems", bool)
        served = await proxy.ask(HOSTS[0])
        write_whole(path, edited("auth: {jwt: {}}, timeouts: {idle: 0s}"))
        mixed = await proxy.until_shows("/problems", lambda found: len(found) == 2)
        shut = await proxy.ask(HOSTS[0])
        write_whole(path, edited("auth: {jwt: {}}"))
        (guard,) = await proxy.until_shows("/problems", lambda found: len(found) == 1)
        guarded = await proxy.ask(HOSTS[0])
        others = await proxy.ask(HOSTS[1])
        write_whole(path, objects(HOSTS[0]))
        await proxy.until_shows("/problems", lambda found: not found)
        good = await proxy.ask(HOSTS[0])

    assert harmless["message"].endswith("Until then the last version that could be read is served.")
    assert [one["message"].split(". Until then ")[1] for one in mixed] == [
        "the last version that could be read answers 500, as it lacks a protection that this one asks for."
    ] * 2
    assert guard["message"] == (
        "spec.rules[0].auth: is not supported yet; a rule without it would be accepted. "
        "Until then the routes that it protects answer 500."
    )
    assert (served, shut, guarded, others, good) == (200, 500, 500, 200, 200)


def test_folder_that_is_not_there_is_said_and_leaves_no_process(tmp_path: Path) -> None:
    """The proxy, which was forked before, has not begun to be one; standard output is closed by its end."""
    command = [sys.executable, "-P", "-m", "controller.cli", "standalone", str(tmp_path / "none"), *FREE]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)

    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"{tmp_path / 'none'} is no folder that can be read; a folder with YAML or JSON files would be accepted.\n"
