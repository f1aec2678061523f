"""The studio below a path, behind nginx that takes the path off and one that leaves it on."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.ports import kept_port
from tests.ui.browsing import MARKS, PATIENCE_S, Served, Visit, visiting_at

pytestmark = [*MARKS, pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")]

CONF = """
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 66m;
  server {{
    listen 127.0.0.1:{port};
    # The icon of the site that the path belongs to, which browsers ask for by themselves.
    location = /favicon.ico {{ return 204; }}
    location /pictures/ {{
      proxy_pass {target};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_buffering off;
    }}
  }}
}}
"""


@pytest.mark.parametrize("takes_off", [True, False])
def test_a_story_is_drawn_below_a_path(tmp_path: Path, takes_off: bool) -> None:
    with kept_port() as port:
        public = f"http://127.0.0.1:{port}/pictures/"
        served = Served(tmp_path / "data", "--set", f"server.public_url={public}")
        target = served.url + ("/" if takes_off else "")
        conf = tmp_path / "nginx.conf"
        conf.write_text(CONF.format(folder=tmp_path, port=port, target=target))
        nginx = subprocess.Popen(
            ["nginx", "-c", str(conf), "-g", "daemon off;"], stderr=subprocess.DEVNULL
        )
        try:
            end = time.monotonic() + PATIENCE_S
            while time.monotonic() < end:
                try:
                    if httpx.get(f"{public}livez").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
            with visiting_at(Visit, public, served.log) as visitor:
                visitor.steps(2)
                visitor.press("Draw")
                visitor.wait("#board img")
                visitor.until(
                    "[...document.querySelectorAll('#board img')]"
                    ".some((picture) => picture.complete && picture.naturalWidth > 0)"
                )
                assert visitor.faults.found == []
        finally:
            nginx.terminate()
            nginx.wait(20)
            served.stop()
