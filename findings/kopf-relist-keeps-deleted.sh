#!/bin/sh
# What was deleted while a watch of kopf had expired stays in its @kopf.index for ever, and no DELETED event is given.
#
# Expected: the API server ends a watch that is too old with 410 Gone, on which a client has to drop what it knew and to list again (Kubernetes'
#   API concepts, "Efficient detection of changes"); client-go's informers give a deletion for each object that the new list lacks.
# Happens: kopf lists again and gives an event without a type for each listed object. What is no longer listed is not compared with what was
#   known: its entry in the index stays, and handlers hear nothing.
# Matters: an operator that computes from an index serves what does not exist, until it restarts. Expired watches are ordinary: an API
#   server that restarts, a long pause of the operator, a kind that seldom changes. Prune on the list itself, or list anew at times.
# Needs: Python 3.11 or newer. The API server is a stand-in on loopback with one kind.
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check kopf==1.45.2 aiohttp==3.14.5

"$work/venv/bin/python" -c 'import sys, importlib.metadata as m; print("Python", sys.version.split()[0] + ", kopf", m.version("kopf"))'
cat >"$work/try.py" <<'PYTHON'
import asyncio
import json

import kopf
from aiohttp import web

GROUP, VERSION, NAME = "example.dev", "example.dev/v1", "widgets"
READ = ["get", "list", "watch"]
DISCOVERY = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/api/v1": {
        "kind": "APIResourceList",
        "resources": [
            {"name": "namespaces", "singularName": "", "kind": "Namespace", "namespaced": False, "verbs": READ},
            {"name": "events", "singularName": "", "kind": "Event", "namespaced": True, "verbs": ["create"]},
        ],
    },
    "/apis": {
        "kind": "APIGroupList",
        "groups": [
            {
                "name": GROUP,
                "versions": [{"groupVersion": VERSION, "version": "v1"}],
                "preferredVersion": {"groupVersion": VERSION, "version": "v1"},
            }
        ],
    },
    f"/apis/{VERSION}": {
        "kind": "APIResourceList",
        "resources": [{"name": NAME, "singularName": "widget", "kind": "Widget", "namespaced": True, "verbs": READ}],
    },
}
EXPIRED = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old resource version"}

handled: list[str] = []
both_handled, later_handled = asyncio.Event(), asyncio.Event()
lists = 0


def widget(name: str, version: int) -> dict[str, object]:
    metadata = {"name": name, "namespace": "default", "uid": name, "resourceVersion": str(version)}
    return {"apiVersion": VERSION, "kind": "Widget", "metadata": metadata, "spec": {}}


async def serve(request: web.Request) -> web.StreamResponse:
    global lists
    if request.path in DISCOVERY:
        return web.json_response(DISCOVERY[request.path])
    if not request.path.endswith("/" + NAME):
        return web.json_response({"kind": "Status", "code": 404}, status=404)
    if "watch" not in request.query:
        lists += 1
        items = [widget("kept", 1), widget("gone", 2)] if lists == 1 else [widget("kept", 1)]
        return web.json_response({"kind": "WidgetList", "apiVersion": VERSION, "metadata": {"resourceVersion": str(10 * lists)}, "items": items})
    answer = web.StreamResponse()
    await answer.prepare(request)
    if lists == 1:
        await both_handled.wait()
        await answer.write(json.dumps({"type": "ERROR", "object": EXPIRED}).encode() + b"\n")
    else:
        await answer.write(json.dumps({"type": "ADDED", "object": widget("later", 21)}).encode() + b"\n")
        await later_handled.wait()
    return answer


@kopf.on.startup()
async def configure(settings: kopf.OperatorSettings, **_: object) -> None:
    settings.scanning.disabled = True
    settings.posting.enabled = False


@kopf.index(NAME)
async def known(name: str, **_: object) -> dict[str, int]:
    return {name: 1}


@kopf.on.event(NAME)
async def heard(type: str | None, name: str, known: kopf.Index, **_: object) -> None:
    handled.append(f"event {type} of {name}; the index has {', '.join(sorted(known))}")
    if len(handled) == 2:
        both_handled.set()
    if name == "later":
        later_handled.set()


async def main() -> None:
    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server = "http://127.0.0.1:{}".format(runner.addresses[0][1])

    @kopf.on.login()
    async def login(**_: object) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=server)

    stop = asyncio.Event()
    operator = asyncio.create_task(kopf.operator(clusterwide=True, standalone=True, stop_flag=stop))
    await asyncio.wait_for(later_handled.wait(), 30)
    print("lists:", lists)
    print(*sorted(handled[:2]), *handled[2:], sep="\n")
    stop.set()
    await asyncio.wait_for(operator, 30)
    await runner.cleanup()


asyncio.run(main())
PYTHON
"$work/venv/bin/python" -W ignore "$work/try.py" >"$work/found"
cat "$work/found"
cat >"$work/expected" <<'TEXT'
lists: 2
event None of gone; the index has gone, kept
event None of kept; the index has gone, kept
event None of kept; the index has gone, kept
event ADDED of later; the index has gone, kept, later
TEXT
diff "$work/expected" "$work/found" || { echo "The behaviour has changed."; exit 1; }
