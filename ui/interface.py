"""The routes of the page that programs may call by name, for users of `gradio_client`.

Each is one call of the HTTP interface with the caller's own headers, so it passes the same gate:
keys, quotas, limits, the log. The studio's key is for people who have opened the page and is not
lent here.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
import httpx
from gradio.events import api

# What a caller says about themselves. Everything else of the request is Gradio's own.
FORWARDED = ("authorization", "x-user", "idempotency-key", "x-request-id")
TIMEOUT_S = 60.0
PUBLIC = ("draw_story", "read_job")


class Interface:
    """What can be called; `url` is the server's address for this process."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False)

    def draw_story(self, story: dict[str, Any], request: gr.Request) -> dict[str, Any]:
        """Draw a story: the body of POST /v1/stories. Answers at once with the ids of its job and
        story.
        """
        return self._ask("POST", "/v1/stories", request, json=story)

    def read_job(self, job: str, request: gr.Request) -> dict[str, Any]:
        """How far a job is: the answer of GET /v1/jobs/{job}, with the artifacts that are drawn."""
        if not job.isascii() or not job.replace("_", "").isalnum():
            raise gr.Error("422 invalid: `job` is an id such as job_...", print_exception=False)
        return self._ask("GET", f"/v1/jobs/{job}", request)

    def _ask(self, method: str, path: str, request: gr.Request, **body: Any) -> dict[str, Any]:
        headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
        try:
            answer = self._http.request(method, path, headers=headers, **body)
            found: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError):
            raise gr.Error("503 busy: the server does not answer", print_exception=False) from None
        if answer.is_error:
            said = f"{found['status']} {found['code']}: {found['detail']}"
            raise gr.Error(said, print_exception=False)
        return found


def add_routes(url: str) -> None:
    """Give the page that is being built its public routes."""
    interface = Interface(url)
    for name in PUBLIC:
        api(
            getattr(interface, name),
            api_name=name,
            api_visibility="public",
            concurrency_limit=16,
            concurrency_id="interface",
        )
