"""Projects: what a visitor has open, kept on the server under an id that only their browser knows.

A project is one JSON file: the draft on the desk, the story and the persona that are open, the
conversation, the last comparison. Stories, pictures and memories themselves are the server's.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from consistent_gen.checkpoints import atomic_file

MAX_MESSAGES = 200
_ID = re.compile(r"prj_[0-9a-f]{32}")


@dataclass
class Project:
    """`draft` is JSON of `ui.state.write_draft`; `chat` are messages of `ui.assistant_tab`;
    `lab` maps methods to story ids; `past` and `future` are edits of the desk and `deleted` stories
    that can come back, all three of `ui.desk`.
    """

    id: str
    draft: dict[str, Any] = field(default_factory=dict)
    story: str = ""
    persona: str = ""
    chat: list[dict[str, Any]] = field(default_factory=list)
    lab: dict[str, str] = field(default_factory=dict)
    past: list[dict[str, Any]] = field(default_factory=list)
    future: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[dict[str, Any]] = field(default_factory=list)


class Projects:
    """The projects of one server, in a folder. Safe between threads of one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def secret(self) -> str:
        """What seals the project id in the browser: made once, then the same for ever."""
        place = self._folder / "secret"
        with self._lock:
            if not place.is_file():
                with atomic_file(place) as temporary:
                    temporary.write_text(secrets.token_urlsafe(24), encoding="ascii")
                place.chmod(0o600)
            return place.read_text(encoding="ascii").strip()

    def new(self) -> Project:
        """A project nobody has yet; kept once it is saved."""
        return Project(id=f"prj_{secrets.token_hex(16)}")

    def open(self, project: object) -> Project | None:
        """The project with that id, None when there is none (or it cannot be read)."""
        if not isinstance(project, str) or not _ID.fullmatch(project):
            return None
        try:
            tree = json.loads(self._place(project).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        known = {f.name: type(getattr(Project(id=""), f.name)) for f in fields(Project)}
        if not isinstance(tree, dict):
            return None
        right = {k: v for k, v in tree.items() if k in known and isinstance(v, known[k])}
        return Project(**(right | {"id": project}))

    def change(self, project: str, **values: Any) -> Project:
        """Set fields of a project and save it. Raises OutputError when it cannot be written."""
        with self._lock:
            current = self.open(project) or Project(id=project)
            for name, value in values.items():
                setattr(current, name, value)
            current.chat = current.chat[-MAX_MESSAGES:]
            with atomic_file(self._place(project)) as temporary:
                text = json.dumps(asdict(current), ensure_ascii=False)
                temporary.write_text(text, encoding="utf-8")
        return current

    def _place(self, project: str) -> Path:
        assert _ID.fullmatch(project), "a project id is checked before it becomes a path"
        return self._folder / f"{project}.json"
