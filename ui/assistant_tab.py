"""The assistant tab: a conversation, and beside it what is remembered, why, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

from consistent_gen.client.types import MemoryList, SaidOut
from consistent_gen.errors import ConsistentGenError, InputError
from ui.markup import change_words, memories_html
from ui.messages import readable, tell
from ui.studio import Studio
from ui.wiring import plain_html, uploaded, wire

FIRST_NAME = "Me"
PLACEHOLDER = (
    "### Tell me about your characters\n"
    "Show me somebody (“This is my small brown dog Bo”, with a picture), then ask: "
    "“Draw Bo at the beach”. What I learn stands beside, and you can correct it."
)


class AssistantTab:
    """Components and handlers of the tab. The persona and the conversation are the project's."""

    def __init__(self, studio: Studio, project: gr.BrowserState) -> None:
        self.studio = studio
        self.project = project
        self.correcting = gr.State("")
        with gr.Row(equal_height=False, elem_classes="story-columns"):
            with gr.Column(scale=7, min_width=320):
                self._make_chat()
            with gr.Column(scale=5, min_width=320):
                self._make_memory()
        self._wire()

    @property
    def restored(self) -> list[Any]:
        """The outputs of `restore`."""
        return [self.persona, self.chat, self.memory, self.about, self.answers]

    # Layout -------------------------------------------------------------------------------------
    def _make_chat(self) -> None:
        with gr.Row(elem_classes="persona-row"):
            self.persona = gr.Dropdown(
                [], label="Memory of", elem_id="persona", filterable=False, min_width=140
            )
            self.name = gr.Textbox(
                label="Another person", max_length=40, elem_id="persona-name", min_width=140,
                placeholder="Name",
            )  # fmt: skip
            self.begin = gr.Button("Begin a memory", elem_id="new-persona", min_width=120, scale=0)
        self.about = plain_html(elem_classes="hint")
        self.chat = gr.Chatbot(
            label="Conversation", show_label=False, height=480, elem_id="chat", buttons=["copy"],
            placeholder=PLACEHOLDER, render_markdown=False, feedback_options=None,
            group_consecutive_messages=False,
        )  # fmt: skip
        with gr.Row(visible=False, elem_id="answers") as self.answers:
            self.yes = gr.Button("Yes", variant="primary", elem_id="say-yes")
            self.no = gr.Button("No", elem_id="say-no")
        self.box = gr.MultimodalTextbox(
            label="Say something", placeholder="Say something, or drop a picture here",
            file_types=["image"], file_count="single", sources=["upload"], elem_id="say",
            max_plain_text_length=4000,
        )  # fmt: skip

    def _make_memory(self) -> None:
        plain_html("<h3>What is remembered</h3>")
        self.query = gr.Textbox(
            label="Search the memory", elem_id="memory-search", placeholder="where, who, what …"
        )
        self.memory = plain_html(clicks=True, elem_id="memory")
        with gr.Column(elem_classes="paper-card"):
            self.fact = gr.Textbox(
                label="Tell it something", max_length=600, elem_id="memory-text", lines=2
            )
            self.keep = gr.Button("Remember this", elem_id="memory-keep")

    # Wiring -------------------------------------------------------------------------------------
    def _wire(self) -> None:
        out = self.restored
        here = [self.project]
        talk = [self.chat, self.box, self.answers]
        told = [self.project, self.query]
        sent = wire(self.box.submit, self.say, [*here, self.box], talk, stream=True)
        agreed = wire(self.yes.click, self._answer("yes"), here, talk, stream=True)
        denied = wire(self.no.click, self._answer("no"), here, talk, stream=True)
        for done in (sent, agreed, denied):
            wire(done.then, self.look, told, [self.memory])
        wire(self.persona.input, self.choose, [*here, self.persona], out)
        wire(self.begin.click, self.begin_memory, [*here, self.name], [*out, self.name])
        wire(self.chat.clear, self.clear, here, [self.answers])
        for event in (self.query.submit, self.query.input):
            wire(event, self.look, told, [self.memory], trigger_mode="always_last")
        editing = [self.correcting, self.fact, self.keep, self.memory]
        wire(self.memory.pick, self.pick, [*told, self.correcting], editing)
        wire(self.keep.click, self.remember, [*told, self.correcting, self.fact], editing)

    def _answer(self, word: str) -> Any:
        def answer(project: str) -> Iterator[tuple[Any, ...]]:
            yield from self.say(project, {"text": word, "files": []})

        return answer

    # Handlers: who is remembered ----------------------------------------------------------------
    def restore(self, project: str) -> tuple[Any, ...]:
        """The conversation and the memory of the project; the first visit begins a memory."""
        kept = self.studio.projects.open(project)
        known = self.studio.client.personas().personas
        persona = kept.persona if kept else ""
        if persona not in [one.id for one in known]:
            persona = known[0].id if known else self.studio.client.create_persona(FIRST_NAME).id
            kept = self.studio.projects.change(project, persona=persona)
        known = self.studio.client.personas().personas
        one = next(one for one in known if one.id == persona)
        chat = [message for message in (kept.chat if kept else []) if message["who"] == persona]
        about = f"Who answers: {escape(one.assistant)}"
        return (
            gr.update(choices=[(p.name, p.id) for p in known], value=persona),
            self.messages(chat),
            self.look(project, ""),
            about,
            gr.update(visible=bool(chat) and bool(chat[-1].get("asks"))),
        )

    def choose(self, project: str, persona: str) -> tuple[Any, ...]:
        """Talk with the memory of somebody else."""
        self.studio.projects.change(project, persona=persona)
        return self.restore(project)

    def begin_memory(self, project: str, name: str) -> tuple[Any, ...]:
        """A new, empty memory for somebody."""
        if not name.strip():
            raise InputError("Say whose memory it shall be.")
        persona = self.studio.client.create_persona(" ".join(name.split()))
        self.studio.projects.change(project, persona=persona.id)
        return (*self.restore(project), "")

    # Handlers: talking --------------------------------------------------------------------------
    def say(self, project: str, said: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        """Say something, with a picture where there is one; shows it at once, then the answer."""
        text = " ".join(str(said.get("text") or "").split())
        files = said.get("files") or []
        if not text and not files:
            return
        persona = self._persona(project)
        picture = None
        if files:
            data, kind = uploaded(files[0])
            picture = self.studio.client.upload(data, kind).id
        text = text or "Look at this."
        log = self._log(project, {"who": persona, "role": "user", "text": text, "picture": picture})
        waiting = [{"role": "assistant", "content": "…"}]
        yield [*self.messages(log), *waiting], {"text": "", "files": []}, gr.update(visible=False)
        try:
            answer = self.studio.client.say(persona, text, picture)
        except ConsistentGenError as error:
            answer = SaidOut(text=f"That did not work: {readable(error)}")
        log = self._log(project, _message_of(persona, answer))
        yield self.messages(log), gr.skip(), gr.update(visible=answer.asks)

    def clear(self, project: str) -> Any:
        """Forget what was said, not what was learnt from it."""
        kept = self.studio.projects.open(project)
        if kept is not None:
            others = [message for message in kept.chat if message["who"] != kept.persona]
            self.studio.projects.change(project, chat=others)
        return gr.update(visible=False)

    def messages(self, log: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The conversation as Gradio shows it: pictures are messages of their own."""
        shown: list[dict[str, Any]] = []
        for message in log:
            path = self.studio.picture(message.get("picture"))
            if path is not None:
                content = {"path": path, "alt_text": message.get("alt") or "A picture"}
                shown.append({"role": message["role"], "content": content})
            shown.append({"role": message["role"], "content": message["text"]})
        return shown

    def _log(self, project: str, message: dict[str, Any]) -> list[dict[str, Any]]:
        kept = self.studio.projects.open(project)
        chat = [*(kept.chat if kept else []), message]
        chat = self.studio.projects.change(project, chat=chat).chat
        return [entry for entry in chat if entry["who"] == message["who"]]

    # Handlers: the memory -----------------------------------------------------------------------
    def look(self, project: str, query: str, selected: str = "", asking: str = "") -> str:
        """The memories of the project's persona, all or those that fit a search."""
        kept = self.studio.projects.open(project)
        if kept is None or not kept.persona:
            return memories_html([])
        words = " ".join(query.split())
        client = self.studio.client
        found: MemoryList = (
            client.search(kept.persona, words, k=20) if words else client.memories(kept.persona)
        )
        return memories_html(found.memories, selected, asking)

    def pick(
        self, event: gr.EventData, project: str, query: str, correcting: str
    ) -> tuple[Any, ...]:
        """A button of a memory: forget it, once that is asked and sure, or take its text into the
        box to correct it.
        """
        persona = self._persona(project)
        asked, sure = str(getattr(event, "forget", "")), str(getattr(event, "forgetSure", ""))
        if sure:
            self.studio.client.forget_memory(persona, sure)
            tell("Forgotten, with the words it was learnt from.")
            return "", gr.skip(), gr.update(value="Remember this"), self.look(project, query)
        if asked or getattr(event, "keep", ""):
            shown = self.look(project, query, correcting, asked)
            return correcting, gr.skip(), gr.skip(), shown
        chosen = str(getattr(event, "correct", ""))
        if chosen == correcting:
            return "", "", gr.update(value="Remember this"), self.look(project, query)
        memories = self.studio.client.memories(persona).memories
        text = next((m.text for m in memories if m.id == chosen), "")
        shown = self.look(project, query, chosen)
        return chosen, text, gr.update(value="Save the correction"), shown

    def remember(self, project: str, query: str, correcting: str, text: str) -> tuple[Any, ...]:
        """Add what stands in the box to the memory, or put it in the place of the chosen one."""
        words = " ".join(text.split())
        if not words:
            raise InputError("Write what shall be remembered.")
        persona = self._persona(project)
        if correcting:
            self.studio.client.correct_memory(persona, correcting, words)
        else:
            self.studio.client.add_memory(persona, words)
        return "", "", gr.update(value="Remember this"), self.look(project, query)

    def _persona(self, project: str) -> str:
        kept = self.studio.projects.open(project)
        if kept is None or not kept.persona:
            raise InputError("Choose whose memory this is first.")
        return kept.persona


def _message_of(persona: str, answer: SaidOut) -> dict[str, Any]:
    """What is kept of an answer; everything that it says stands in its text."""
    lines = [answer.text]
    if answer.similarity is not None or answer.verdict:
        measured = f" (likeness {answer.similarity:.2f})" if answer.similarity is not None else ""
        lines.append(f"{answer.verdict or 'Compared with what I know'}{measured}")
    lines += [f"⚑ {problem}" for problem in answer.problems if problem not in answer.text]
    lines += [change_words(change) for change in answer.changes]
    if answer.reasons:
        lines.append("Because: " + "; ".join(answer.reasons))
    return {
        "who": persona,
        "role": "assistant",
        "text": "\n".join(line for line in lines if line),
        "picture": answer.picture,
        "alt": f"A drawing: {answer.text}",
        "asks": answer.asks,
    }
