"""OpenTelemetry spans: one for a request, one for each lease of what it asked for, one for a frame.

A span of a worker is a child of the request's, whose W3C `traceparent` travels in the order.
Without `telemetry.traces_url` nothing of OpenTelemetry is imported and every call here returns at
once. Spans have ids, counts and states as attributes, and never words of a user.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from consistent_gen import __version__
from consistent_gen.registry import resolve
from services.settings import TelemetrySettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

_EXPORTERS = {"otlp": "opentelemetry.exporter.otlp.proto.http.trace_exporter:OTLPSpanExporter"}


class TraceSpan:
    """A span that has begun, or nothing. `parent` is its traceparent, empty for none."""

    __slots__ = ("_span", "parent")

    def __init__(self, span: Span | None = None, parent: str = "") -> None:
        self._span, self.parent = span, parent

    def end(self, name: str | None = None, *, failed: bool = False, **attributes: Any) -> None:
        """The work is over; calling it again does nothing. name: instead of the first one."""
        if self._span is None:
            return
        from opentelemetry.trace import StatusCode

        if name is not None:
            self._span.update_name(name)
        self._span.set_attributes(attributes)
        if failed:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        self._span = None


_NONE = TraceSpan()


class Traces:
    """The tracer of one process."""

    def __init__(self, exporter: SpanExporter | None = None, part: str = "", *, batch: bool = True):
        """exporter: where spans go, None for nowhere. part: of the server, such as "worker".
        batch: collect some before they are sent.
        """
        self._provider: Any = None
        self._tracer: Tracer | None = None
        if exporter is None:
            return
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        name = {"service.name": f"consistent-gen-{part}", "service.version": __version__}
        # One of our own: BentoML has its own ideas of the global one.
        self._provider = TracerProvider(resource=Resource.create(name))
        processor = BatchSpanProcessor if batch else SimpleSpanProcessor
        self._provider.add_span_processor(processor(exporter))
        self._tracer = self._provider.get_tracer("consistent_gen")

    def begin(self, name: str, parent: str = "", **attributes: Any) -> TraceSpan:
        """Begin a span. parent: a traceparent; one that is none begins a trace of its own."""
        if self._tracer is None:
            return _NONE
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        propagator = TraceContextTextMapPropagator()
        context = propagator.extract({"traceparent": parent})
        span = self._tracer.start_span(name, context, attributes=attributes)
        carrier: dict[str, str] = {}
        propagator.inject(carrier, set_span_in_context(span))
        return TraceSpan(span, carrier.get("traceparent", ""))

    def of_order(self, name: str, order: Mapping[str, Any], **attributes: Any) -> TraceSpan:
        """Begin a span for what an order was made for."""
        parent = order.get("trace")
        return self.begin(name, parent if isinstance(parent, str) else "", **attributes)

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()


def open_traces(settings: TelemetrySettings, part: str) -> Traces:
    """The tracer that the settings ask for.

    Raises:
        MissingExtraError: traces are asked for and the exporter is not installed.
    """
    if settings.traces_url is None:
        return Traces()
    exporter = resolve(_EXPORTERS, "otlp", kind="exporter of traces")
    return Traces(exporter(endpoint=settings.traces_url), part)
