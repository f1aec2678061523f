"""The OpenAPI schema is true: generated requests, alone and in chains, meet no fault of ours."""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from typing import Any
from unittest import SkipTest

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Flaky, Unsatisfiable
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from consistent_gen.client.types import Problem
from tests.services.web.hand import Hand, Server

# Faults of what stands behind the server, which a route must own up to in the schema.
ALLOWED_FAULTS = {501, 503}
QUIET = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
    derandomize=True,
    database=None,
)


def no_server_error(context: Any, response: schemathesis.Response, case: Any) -> None:
    status = response.status_code
    documented = str(status) in case.operation.definition.raw["responses"]
    if status >= 500 and not (status in ALLOWED_FAULTS and documented):
        raise AssertionError(f"{case.method} {case.path} answered {status}: {response.text[:300]}")


def refusals_are_problems(context: Any, response: schemathesis.Response, case: Any) -> None:
    if response.status_code >= 400:
        assert response.headers["content-type"] == ["application/problem+json"]
        assert Problem.model_validate_json(response.content).status == response.status_code


CHECKS = [
    no_server_error,
    refusals_are_problems,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


def plausible(case: Any) -> None:
    """Words that the model knows, and names that are not taken: what no schema can say."""
    if "Idempotency-Key" in (case.headers or {}):
        case.headers["Idempotency-Key"] = uuid.uuid4().hex
    body = case.body
    if not isinstance(body, dict):
        return
    if isinstance(body.get("name"), str):
        body["name"] = f"Name {uuid.uuid4().hex[:12]}"
    frames = body.get("frames")
    parts = [body, *(frames if isinstance(frames, list) else [])]
    for part in (part for part in parts if isinstance(part, dict)):  # some cases are wrong at will
        for key in ("style", "method", "scheduler", "size", "characters", "negative", "model"):
            part.pop(key, None)
        part.pop("character_ids", None)
        if "prompt" in part:
            part["prompt"] = "a fox in a forest"
    if isinstance(body.get("steps"), int) and body["steps"]:
        body["steps"] = 1 + body["steps"] % 20


@pytest.fixture(scope="session")
def key_header(keys: tuple[Any, str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {keys[1]}"}


@pytest.fixture(scope="session")
def api(server: Server, drawing: Hand) -> Any:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    return schema.include(path_regex="^/v1/")


def test_the_schema_names_every_path(server: Server) -> None:
    paths = server.app.openapi()["paths"]
    served = {
        (method.lower(), path)
        for path, methods in _routes(server.app)
        for method in methods
        if not path.startswith("/internal") and path != "/openapi.json"
    }
    assert served == {(method, path) for path, item in paths.items() for method in item}
    operations = [o for item in paths.values() for o in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    for operation in operations:
        assert operation["description"], operation["operationId"]
        for response in operation["responses"].values():
            for link in response.get("links", {}).values():
                assert link["operationId"] in names


def _routes(app: Any) -> list[tuple[str, set[str]]]:
    return [(path, methods) for path, methods in _flat(app.routes) if methods]


def _flat(routes: Any, prefix: str = "") -> list[tuple[str, set[str]]]:
    found = []
    for route in routes:
        if getattr(route, "methods", None):
            found.append((prefix + route.path, set(route.methods) - {"HEAD"}))
        elif hasattr(route, "effective_candidates"):
            found += _flat(route.effective_candidates(), prefix)
        elif hasattr(route, "routes"):
            found += _flat(route.routes, prefix)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_no_request_meets_a_fault(
    api: Any, key_header: dict[str, str], mode: schemathesis.GenerationMode
) -> None:
    """A few requests per operation; negative ones break what the schema says."""
    statuses: Counter[int] = Counter()

    def request(case: Any) -> None:
        if mode is schemathesis.GenerationMode.POSITIVE:
            plausible(case)
        response = case.call(headers=key_header, timeout=60)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    for operation in (result.ok() for result in api.get_all_operations()):
        strategy = operation.as_strategy(generation_mode=mode)
        try:
            settings(QUIET, max_examples=4)(given(case=strategy)(request))()
        except (Unsatisfiable, SkipTest):  # there is nothing in it to break
            assert mode is schemathesis.GenerationMode.NEGATIVE
    good = sum(count for status, count in statuses.items() if status < 300)
    bad = sum(count for status, count in statuses.items() if 400 <= status < 500)
    assert bad >= 10, statuses
    if mode is schemathesis.GenerationMode.POSITIVE:
        assert good >= 20, statuses


@pytest.mark.slow
def test_no_chain_of_requests_meets_a_fault(api: Any, key_header: dict[str, str]) -> None:
    """What one answer names is used in the next request: create, read, change, cancel, delete."""
    statuses: Counter[tuple[str, int]] = Counter()
    faults: list[BaseException] = []

    class Machine(api.as_state_machine()):  # type: ignore[misc]
        def before_call(self, case: Any) -> None:
            plausible(case)

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": key_header, "timeout": 60}

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            operation = case.operation.definition.raw["operationId"]
            statuses[operation, response.status_code] += 1
            try:
                case.validate_response(response, checks=CHECKS)
            except BaseException as fault:
                faults.append(fault)

    # A server has a state, so the same requests need not get the same answers again, which the
    # generator takes for a mistake of the test.
    with contextlib.suppress(Flaky):
        Machine.run(settings=settings(QUIET, max_examples=15, stateful_step_count=8))
    assert faults == []
    assert sum(statuses.values()) >= 30
    followed = {name for name, status in statuses if status < 300}
    # The links lead to things that exist, or this would test 404 alone.
    made = {"create_story", "create_image", "create_character", "create_persona"}
    used = {
        "get_job", "cancel_job", "retry_job", "get_story", "delete_story", "get_character",
        "patch_character", "delete_character", "say", "list_memories", "add_memory",
        "delete_persona",
    }  # fmt: skip
    assert len(followed & made) >= 2, statuses
    assert len(followed & used) >= 3, statuses
