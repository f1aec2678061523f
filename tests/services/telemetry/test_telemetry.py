"""A request's id and trace, from the caller through queue and worker to log, spans, problems."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from consistent_gen.client.types import Problem
from consistent_gen.errors import InputError
from services.painting.reports import Failed, Stepped
from services.settings import TelemetrySettings
from services.telemetry.logs import JsonLines, fields
from services.telemetry.traces import Traces, open_traces
from services.worker.courier import Courier
from services.worker.leases import HttpLeases
from tests.services.web.hand import TOKEN, Server, settings_in

SECRET = "xylophone"
STORY = {
    "title": SECRET,
    "words": "as_written",
    "frames": [{"prompt": "a fox in a forest", "caption": SECRET}],
}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def server(tmp_path: Path, spans: InMemorySpanExporter) -> Iterator[Server]:
    served = Server(settings_in(tmp_path / "data"))
    gate = next(m for m in served.app.user_middleware if m.cls.__name__ == "Gate")
    gate.kwargs["traces"] = Traces(spans, "gateway", batch=False)
    served.start()
    yield served
    served.stop()


def lines_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The records as the JSON log has them."""
    formatter = JsonLines()
    return [json.loads(formatter.format(record)) for record in caplog.records
            if record.name.startswith("services.")]  # fmt: skip


def named(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans.get_finished_spans()}


def drawn_by_courier(
    server: Server, folder: Path, traces: Traces, *, fails: bool
) -> tuple[Courier, str]:
    """One frame through a courier over HTTP, up to what it hands in; returns its lease's job."""
    source = HttpLeases(server.url, TOKEN, "w")
    courier = Courier(source, folder, keep_s=1.0, traces=traces)
    (lease,) = courier.take(1)
    courier.note([Stepped(lease.id, 3, None)])
    if fails:
        courier.note([Failed(lease.id, InputError("no"), retryable=False)])
        courier.turn()
    else:
        courier.give_back()
    source.close()
    return courier, lease.job


def test_an_id_and_a_trace_reach_the_worker_and_come_back(
    server: Server,
    tmp_path: Path,
    spans: InMemorySpanExporter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    told = {"X-Request-ID": "mine-42", "traceparent": PARENT}
    answer = httpx.post(f"{server.url}/v1/stories", json=STORY, headers=told, timeout=60)
    assert (answer.status_code, answer.headers["x-request-id"]) == (202, "mine-42")
    worker = Traces(spans, "worker", batch=False)
    _, job = drawn_by_courier(server, tmp_path, worker, fails=True)
    error = httpx.get(f"{server.url}/v1/jobs/{job}").json()["frames"][0]["error"]
    assert error["request_id"] == "mine-42"

    lines = lines_of(caplog)
    mine = [line for line in lines if line.get("request_id") == "mine-42"]
    assert {line["logger"] for line in mine} == {"services.access", "services.worker"}
    access = next(line for line in mine if line["logger"] == "services.access")
    assert (access["method"], access["route"], access["status"]) == ("POST", "/v1/stories", 202)
    assert [line["job"] for line in mine if line["logger"] == "services.worker"] == [job, job]
    assert SECRET not in json.dumps(lines) and "fox" not in json.dumps(lines)

    found = named(spans)
    request, lease, frame = found["POST /v1/stories"], found["lease"], found["frame"]
    assert f"{request.context.trace_id:032x}" == PARENT.split("-")[1]
    assert request.parent is not None and f"{request.parent.span_id:016x}" == PARENT.split("-")[2]
    assert lease.parent is not None and lease.parent.span_id == request.context.span_id
    assert frame.parent is not None and frame.parent.span_id == lease.context.span_id
    assert lease.resource.attributes["service.name"] == "consistent-gen-worker"
    assert not frame.status.is_ok and not lease.status.is_ok and request.status.is_ok
    assert (frame.attributes or {})["job"] == job
    shown = " ".join(span.to_json() for span in spans.get_finished_spans())
    assert SECRET not in shown and "fox" not in shown and TOKEN not in shown


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "é", "a\tb"])
def test_an_id_that_is_not_well_formed_is_replaced(server: Server, given: str) -> None:
    headers = {"X-Request-ID": given.encode("latin-1")}
    answer = httpx.get(f"{server.url}/v1/jobs/none", headers=headers)  # type: ignore[arg-type]
    problem = Problem.model_validate(answer.json())
    assert problem.request_id == answer.headers["x-request-id"] != given
    assert len(problem.request_id or "") == 16


def test_a_lease_that_is_given_back_ends_its_spans(
    server: Server, tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    httpx.post(
        f"{server.url}/v1/stories", json=STORY, headers={"traceparent": "nonsense"}, timeout=60
    )
    courier, _ = drawn_by_courier(server, tmp_path, Traces(spans, "w", batch=False), fails=False)
    assert courier.tally.released == 1
    found = named(spans)
    assert found["POST /v1/stories"].parent is None
    assert (found["frame"].attributes or {})["cancelled"] is True and "lease" in found


def test_json_lines_have_no_line_breaks_and_no_tracebacks() -> None:
    try:
        raise RuntimeError(SECRET)
    except RuntimeError:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, __file__, 1, "two\n%s", ("lines",), sys.exc_info(),
            extra=fields(request_id="r", none=None),
        )  # fmt: skip
    line = JsonLines().format(record)
    told = json.loads(line)
    assert "\n" not in line and SECRET not in line
    assert (told["message"], told["level"], told["request_id"]) == ("two\nlines", "error", "r")
    assert told["error"] == "RuntimeError" and told["at"][0].startswith("test_telemetry.py:")
    assert "none" not in told and told["time"].endswith("+00:00")


def test_off_imports_nothing_and_a_server_writes_json_when_asked(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom services.settings import TelemetrySettings\n"
        "from services.telemetry.traces import open_traces\n"
        "span = open_traces(TelemetrySettings(), 'x').begin('request')\nspan.end()\n"
        "print([n for n in sys.modules if n.startswith('opentelemetry')], repr(span.parent))\n"
        "from services.telemetry.logs import write_log\nimport logging\nwrite_log('json')\n"
        "logging.getLogger('a').warning('said')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[] ''"
    assert json.loads(done.stderr)["message"] == "said"


def test_spans_are_sent_where_the_settings_say() -> None:
    """To a collector of our own, over HTTP."""
    received: list[tuple[str, int]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            received.append((self.path, len(self.rfile.read(length))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{collector.server_port}/v1/traces"
    traces = open_traces(TelemetrySettings(traces_url=url), "gateway")
    traces.begin("request").end()
    traces.close()
    collector.shutdown()
    collector.server_close()
    assert [path for path, _ in received] == ["/v1/traces"] and received[0][1] > 0


def test_traces_without_the_package_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from consistent_gen.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtraError, match="otel"):
        open_traces(TelemetrySettings(traces_url="http://x/v1/traces"), "gateway")
