"""`consistent-gen chat`: talk to an assistant that remembers. Works offline from the start."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consistent_gen.cli.memory import add_place, opened, parse_time
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.errors import ConsistentGenError, InputError, StoryError

if TYPE_CHECKING:
    from consistent_gen.language.models import LanguageModel
    from consistent_gen.memory.data.store import Store
    from consistent_gen.memory.recall.pictures import Picture
    from consistent_gen.memory.talk.assistant import Assistant, DrawJob, Said
    from consistent_gen.models.backbone import Backbone
    from consistent_gen.story.types import Story


class StoryDrawer:
    """Draws `DrawJob`s with one story model, which is loaded when the first picture is asked for.

    What is asked for is a story of one frame, and each attempt has a seed of its own. With a method
    that shares attention, the confirmed crops of a character are its anchors: at every step the
    model looks at them, noised to that step, and the new picture reads what it saw there. Where
    there are fewer crops than the method has anchors, neutral portraits in words take the open
    places. With `vanilla` words alone draw. The crops stay in memory; nothing is written to the
    disk.
    """

    def __init__(
        self,
        model: str | None,
        *,
        method: str | None = None,
        seed: int = 1,
        steps: int = DrawSettings.steps,
    ) -> None:
        """method: a name of `METHODS`; None is the default. Raises ``UnknownNameError``."""
        from consistent_gen.methods import DEFAULT_METHOD, METHODS
        from consistent_gen.registry import resolve

        self.method = DEFAULT_METHOD if method is None else method
        resolve(METHODS, self.method, kind="method")
        self._model, self._seed, self._steps = model, seed, steps
        self._loaded: Backbone | None = None

    @property
    def details(self) -> Mapping[str, Any]:
        """What, with the prompt and the number of the attempt, draws a picture again."""
        name = "" if self._loaded is None else self._loaded.name
        return {"method": self.method, "seed": self._seed, "steps": self._steps, "model": name}

    def __call__(self, job: DrawJob) -> Picture:
        """Draw one attempt. Raises ``InputError`` for words that the model never learned."""
        from consistent_gen.story.cast import remembered_story

        return self.draw(remembered_story(job, self._model_loaded()), job.attempt)

    def _model_loaded(self) -> Backbone:
        from consistent_gen.cli.progress import load_model

        if self._loaded is None:
            self._loaded = load_model(self._model)
        return self._loaded

    def draw(self, story: Story, attempt: int = 1) -> Picture:
        """Draw the first frame of a story, whose characters look alike in every story that has the
        same ones and is drawn in the same attempt. Raises as `__call__`.
        """
        from consistent_gen.engine.loop import Engine
        from consistent_gen.runtime import frame_seed
        from consistent_gen.story.cast import Cast
        from consistent_gen.story.plan import plan_story

        model = self._model_loaded()
        seed = frame_seed(self._seed, attempt)
        settings = {"steps": self._steps}
        story = replace(story, method=self.method, seed=seed, settings=settings)
        try:
            plan = plan_story(story, model)
        except StoryError as error:  # nobody wrote the story, so it has no lines
            raise InputError(error.message) from None
        engine = Engine(model, bucket=4)
        drawn = Cast(plan, engine).draw(plan.frames[0])
        return engine.drain()[str(drawn)].image


COMMANDS = """\
/picture FILE text   say something with a picture ("this is my dog Bo")
/document FILE text  say something with a text file
/at TIME             pretend that it is this time (2026-03-01T09:30)
/quit                leave"""


def add_command(commands: Any) -> None:
    """Add `chat` to the commands of `consistent-gen`."""
    parser = commands.add_parser(
        "chat",
        help="talk to an assistant that remembers",
        description="Talk to an assistant that remembers, line by line from the keyboard or a "
        "file. Without options it works by rules, needs no model and sends nothing anywhere.",
    )
    add_place(parser)
    add_model_options(parser, "rules")
    parser.add_argument(
        "--listener",
        metavar="NAME",
        help="parser, rules or model (default: parser where extra 'language' is installed)",
    )
    parser.add_argument(
        "--embedder", metavar="NAME", help="minilm, ngrams or none (default: the best installed)"
    )
    parser.add_argument(
        "--style",
        metavar="POLICY",
        default="static",
        help="follow your style: uncapped, cap, ema, dead-band, hybrid (default: static, which "
        "does not)",
    )
    add_drawing_options(parser)
    parser.add_argument("--changes", action="store_true", help="print what each turn changed")
    parser.add_argument("--echo", action="store_true", help="print each line before its answer")
    parser.set_defaults(run=run_chat)


def add_drawing_options(parser: argparse.ArgumentParser) -> None:
    """Options of a talk in which pictures are drawn."""
    parser.add_argument(
        "--draw-with", metavar="DIR", nargs="?", const="",
        help='let "draw ..." use a story model (default folder: the shipped one)',
    )  # fmt: skip
    parser.add_argument(
        "--draw-method",
        metavar="NAME",
        help="consistency method for drawings, as for stories (default: theirs)",
    )
    parser.add_argument("--pictures", metavar="DIR", default="pictures", help="where drawings go")


def drawer_of(options: argparse.Namespace) -> StoryDrawer | None:
    """What draws in a talk, None where the options name nothing."""
    if options.draw_with is None:
        return None
    return StoryDrawer(options.draw_with or None, method=options.draw_method)


def add_model_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Options that name a language model; `default` stands for none."""
    parser.add_argument(
        "--model", metavar="NAME", default=default,
        help=f"{default}, qwen, qwen-small, smollm2, transformers or endpoint (default: {default})",
    )  # fmt: skip
    parser.add_argument("--folder", metavar="DIR", help="model folder, for transformers")
    parser.add_argument("--url", metavar="URL", help="for endpoint: http://host:port/v1")
    parser.add_argument("--name", metavar="NAME", help="for endpoint: the model's name there")
    parser.add_argument(
        "--key-variable", metavar="NAME", help="environment variable that holds the endpoint's key"
    )


def run_chat(options: argparse.Namespace) -> int:
    """Read lines until the end or /quit; a mistake in one line does not end the talk."""
    with opened(options) as store:
        assistant = build_assistant(options, store)
        print(f"({assistant.description})")
        at: datetime | None = None
        for line in _lines():
            if options.echo:
                print(f"> {line.strip()}")
            if line.strip() in ("/quit", "/exit"):
                break
            if line.strip() == "/help":
                print(COMMANDS)
                continue
            try:
                if line.startswith("/at "):
                    at = parse_time(line[4:].strip())
                    continue
                said = _said(assistant, line, at)
            except ConsistentGenError as error:
                print(f"! {error}")
                continue
            _print(said, options)
        assistant.close()
    return 0


def build_assistant(options: argparse.Namespace, store: Store) -> Assistant:
    """The assistant that the options describe."""
    from consistent_gen.cli.recognising import picture_embedder, picture_reader
    from consistent_gen.inputs import check_choice
    from consistent_gen.language.embedders import EMBEDDERS, default_embedder
    from consistent_gen.language.packaged import Qwen
    from consistent_gen.memory.listening.listener import Listener, ModelListener
    from consistent_gen.memory.listening.parsed_listener import ParsedListener, default_listener
    from consistent_gen.memory.listening.rule_listener import RuleListener
    from consistent_gen.memory.talk import ANSWERERS
    from consistent_gen.memory.talk.assistant import Assistant
    from consistent_gen.memory.talk.style_policy import StylePolicy
    from consistent_gen.registry import resolve

    if options.listener is not None:
        check_choice(options.listener, ("parser", "rules", "model"), "listener")
    embedder = None
    if options.embedder != "none":
        name = options.embedder
        embedder = resolve(EMBEDDERS, name, kind="embedder")() if name else default_embedder()
    model = build_model(options, ANSWERERS)
    listener: Listener
    if options.listener == "model":
        listener = ModelListener(model, embedder=embedder)
    elif options.listener == "parser":
        listener = ParsedListener()
    else:
        listener = RuleListener() if options.listener == "rules" else default_listener()
    sees = picture_embedder(store)
    return Assistant(
        store=store,
        model=model,
        listener=listener,
        text_embedder=embedder,
        style=StylePolicy(name=options.style),
        once=isinstance(model, Qwen),
        drawer=drawer_of(options),
        image_embedder=sees,
        reader=picture_reader(sees),
    )


def build_model(options: argparse.Namespace, models: Mapping[str, str]) -> LanguageModel:
    """The language model that the options name, one of `models` (name -> "module:Class")."""
    from consistent_gen.language.endpoints import Endpoint
    from consistent_gen.language.models import EndpointModel
    from consistent_gen.registry import resolve

    made: LanguageModel
    if options.model == "endpoint":
        if not options.url or not options.name:
            raise InputError("an endpoint needs --url and --name", source="--model")
        key = os.environ.get(options.key_variable, "") if options.key_variable else ""
        made = EndpointModel(Endpoint(url=options.url, api_key=key), options.name)
    elif options.model == "transformers":
        if not options.folder:
            raise InputError("a transformers model needs --folder", source="--model")
        made = resolve(models, options.model)(options.folder)
    else:
        offered = {n: p for n, p in models.items() if n != "replay"}
        made = resolve(offered, options.model, kind="language model")()
    return made


def _lines() -> Iterator[str]:
    if not sys.stdin.isatty():
        yield from (line for line in sys.stdin if line.strip())
        return
    print("(/help lists the commands)")
    while True:
        try:
            line = input("you> ")
        except EOFError:
            print()
            return
        if line.strip():
            yield line


def _said(assistant: Assistant, line: str, at: datetime | None) -> Said:
    for command in ("/picture ", "/document "):
        if line.startswith(command):
            file, _, text = line[len(command) :].strip().partition(" ")
            data = _read(Path(file), 32 * 1024**2)
            if command == "/picture ":
                return assistant.say(text or "Look at this.", picture=data, at=at)
            words = data.decode("utf-8", "replace")
            return assistant.say(text or "Read this.", documents=[words], at=at)
    if line.startswith("/"):
        raise InputError(f"{line.split()[0]} is not a command; /help lists them")
    return assistant.say(line.rstrip("\n"), at=at)


def _read(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise InputError(f"{path} is larger than {limit:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def _print(said: Said, options: argparse.Namespace) -> None:
    print(said.text)
    if said.drawn is not None:
        print(f"  {saved_picture(said.drawn.picture, Path(options.pictures))}")
    for outcome in said.outcomes:
        if outcome.status == "quarantined":
            print(f"  kept aside: {outcome.reason} (memory release {outcome.id})")
    if options.changes:
        for change in said.changes:
            print(f"  {change}")


def saved_picture(picture: Picture, folder: Path) -> Path:
    """Keep a picture in a folder, named after its bytes; its file."""
    import hashlib

    from consistent_gen.checkpoints import atomic_file
    from consistent_gen.memory.recall.pictures import png_bytes

    data = png_bytes(picture)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(data).hexdigest()[:16]}.png"
    with atomic_file(path) as temporary:
        Path(temporary).write_bytes(data)
    return path
