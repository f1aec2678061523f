"""The page: header and five tabs. `build` makes it, `mount` puts it into a FastAPI app."""

from __future__ import annotations

import asyncio
import hmac
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
from gradio.utils import get_upload_folder
from starlette.routing import Mount

from ui import style
from ui.assistant_tab import AssistantTab
from ui.characters_tab import CharactersTab
from ui.client import StudioClient, open_studio
from ui.door import SessionDoor, numbers_of
from ui.interface import PUBLIC, add_routes
from ui.lab_tab import LabTab
from ui.messages import quiet_faults
from ui.personas_tab import PersonasTab
from ui.pictures import PictureAddresses, PictureFiles
from ui.projects import Projects
from ui.story_actions import StoryActions
from ui.story_tab import TAKE_UNSAVED, StoryTab
from ui.studio import Studio
from ui.uploads import MAX_FILE_BYTES, UploadGate
from ui.wiring import plain_html, wire

if TYPE_CHECKING:
    from fastapi import FastAPI

STORAGE_KEY = "consistent-gen-project"
CACHE_AGE_S = 24 * 3600
HEADER = """<header class="studio-head"><svg viewBox="0 0 48 40" aria-hidden="true">
<path d="M24 8C18 3 10 2 3 4v28c7-2 15-1 21 4 6-5 14-6 21-4V4c-7-2-15-1-21 4z"/><path d="M24 8v28"/>
<circle cx="12" cy="17" r="3"/><circle cx="24" cy="17" r="0"/><circle cx="36" cy="17" r="3"/></svg>
<div><h1>Story studio</h1><p>Characters who stay themselves, from the first picture to the last.</p>
</div></header>"""


def build(client: StudioClient, data_dir: Path | None = None) -> gr.Blocks:
    """The studio on a server. `data_dir` keeps projects; None is a temporary folder, so that
    nothing outlives the process.
    """
    return _page(open_folder(client, data_dir))


def _page(studio: Studio) -> gr.Blocks:
    page: gr.Blocks
    with gr.Blocks(
        title="Story studio", analytics_enabled=False, fill_width=True,
        delete_cache=(3600, CACHE_AGE_S),
    ) as page:  # fmt: skip
        project = gr.BrowserState(None, storage_key=STORAGE_KEY, secret=studio.projects.secret())
        with gr.Row(elem_classes="head-row"):
            plain_html(HEADER)
            light = gr.Button("Light or dark", size="sm", elem_id="light", scale=0, min_width=120)
        light.click(None, js=style.SWITCH_LIGHT, api_visibility="private")
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab("Story", id="story"):
                story = StoryTab(StoryActions(studio), project)
            with gr.Tab("Characters", id="characters") as characters_tab:
                characters = CharactersTab(studio, story)
            with gr.Tab("Personas", id="personas") as personas_tab:
                personas = PersonasTab(studio, story, tabs)
            with gr.Tab("Assistant", id="assistant") as assistant_tab:
                assistant = AssistantTab(studio, project)
            with gr.Tab("Lab", id="lab") as lab_tab:
                lab = LabTab(story.actions, project)
        _wire(page, story)
        add_routes(studio.client.url)
        wire(characters_tab.select, characters.arrive, [characters.chosen], characters.outputs)
        wire(personas_tab.select, personas.arrive, [personas.chosen], personas.outputs)
        wire(assistant_tab.select, assistant.restore, [project], assistant.restored)
        wire(lab_tab.select, lab.restore, [project], lab.restored, stream=True)
    page.queue(max_size=512, default_concurrency_limit=16, api_open=False)
    return page


def open_folder(client: StudioClient, data_dir: Path | None) -> Studio:
    """A studio that keeps its projects and its pictures in `data_dir` (None: a temporary one)."""
    folder = (data_dir or Path(tempfile.mkdtemp(prefix="studio-"))) / "studio"
    pictures = PictureFiles(folder / "pictures")
    pictures.trim()
    return Studio(client, pictures, Projects(folder / "projects"))


def mount(
    app: FastAPI,
    client: StudioClient | str,
    *,
    data_dir: Path | None = None,
    path: str = "/",
    password: str | None = None,
    root: str = "",
) -> FastAPI:
    """Put the studio into `app` at `path`. `client` may be the address of a server.

    Routes that `app` has already go first, so the HTTP interface stays where it is. With `password`
    the page asks for it; all who know it are one user, the one whose key `client` holds. `root` is
    what a proxy puts before the paths of the page, such as "/studio".
    """
    studio = open_folder(open_studio(client) if isinstance(client, str) else client, data_dir)
    _in_a_loop(lambda: _mount(app, studio, path, password, root))
    return app


def _mount(app: FastAPI, studio: Studio, path: str, password: str | None, root: str) -> None:
    quiet_faults()
    built = _page(studio)
    gr.mount_gradio_app(
        app,
        built,
        path=path,
        theme=style.theme(),
        css=style.css(),
        head=style.HEAD,
        auth=None if password is None else _door(password),
        auth_message="This studio asks for a password. Any name will do.",
        run_history=False,
        footer_links=[],
        root_path=root or None,
        max_file_size=MAX_FILE_BYTES,
        allowed_paths=[str(studio.pictures.folder)],
        show_error=True,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
    )
    mounted = app.router.routes[-1]
    assert isinstance(mounted, Mount), "gradio is mounted as the last route"
    public = numbers_of(built.config["dependencies"], PUBLIC)
    page = PictureAddresses(mounted.app, studio.pictures.folder)
    guarded = UploadGate(page, Path(get_upload_folder()))
    mounted.app = SessionDoor(guarded, studio.projects.secret(), root or path, public)


def _in_a_loop(work: Callable[[], None]) -> None:
    """Do something with an event loop at hand. Where none runs, gradio makes one for each of its
    locks and never closes it.
    """

    async def inside() -> None:
        work()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(inside())
    else:
        work()


def _wire(page: gr.Blocks, story: StoryTab) -> None:
    panel = story.panel
    page.load(None, js=style.script("page"), api_visibility="private")
    loaded = wire(
        page.load, story.restore, [story.project, story.unsaved], story.restored, stream=True,
        js=TAKE_UNSAVED,
    )  # fmt: skip
    wire(loaded.then, panel.print_page, [story.project, panel.layout], [panel.page])


def _door(password: str) -> Callable[[str, str], bool]:
    wanted = password.encode()

    def may_enter(_name: str, given: str) -> bool:
        return hmac.compare_digest(given.encode(), wanted)

    return may_enter
