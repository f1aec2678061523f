"""The text chunks of a PNG file, read as hostile and written without touching the picture.

Cards travel in pictures: a `tEXt` chunk named `chara` (versions 1, 2) or `ccv3` (version 3) holds
base64 of the card's JSON. Sizes are bounded before anything is decompressed.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterator

from consistent_gen.errors import InputError, LimitError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 20_000
MAX_TEXT = 12 << 20  # bytes of one text, decompressed
KEYWORDS = ("ccv3", "chara")  # the newest first


def card_text(data: bytes) -> str:
    """The JSON of the card in a PNG file, of `ccv3` where there are both.

    Raises:
        InputError: no PNG, a damaged one, one without a card, base64 that is none.
        LimitError: more chunks, or a longer text, than are read.
    """
    texts: dict[str, bytes] = {}
    try:
        for kind, body in _chunks(data, strict=False):
            if kind in (b"tEXt", b"zTXt", b"iTXt"):
                keyword, _, rest = body.partition(b"\0")
                name = keyword.decode("latin-1").lower()
                if name in KEYWORDS:
                    texts[name] = _text(kind, rest)
    except InputError as error:  # a card before the place where the file breaks off is whole
        if not texts or isinstance(error, LimitError):
            raise
    for name in KEYWORDS:
        if name in texts:
            return _decoded(texts[name], name)
    raise InputError(
        "the picture holds no character card; expected a PNG with a text chunk 'chara' or 'ccv3' "
        "(services that convert or shrink pictures remove it: take the file as it was published)"
    )


def with_card(data: bytes, text: str, keywords: tuple[str, ...]) -> bytes:
    """The PNG file with the card under these keywords, in the place of any that it had."""
    parts = [SIGNATURE]
    encoded = base64.b64encode(text.encode("utf-8"))
    for kind, body in _chunks(data):
        keyword = body.partition(b"\0")[0].decode("latin-1").lower()
        if kind in (b"tEXt", b"zTXt", b"iTXt") and keyword in KEYWORDS:
            continue
        if kind == b"IEND":
            parts += [_chunk(b"tEXt", k.encode() + b"\0" + encoded) for k in keywords]
        parts.append(_chunk(kind, body))
    return b"".join(parts)


def _chunks(data: bytes, *, strict: bool = True) -> Iterator[tuple[bytes, bytes]]:
    """Chunks with their checksums checked; of texts alone where not `strict`, since a card in a
    picture that is damaged elsewhere is worth having.
    """
    if not data.startswith(SIGNATURE):
        raise InputError("is not a PNG file")
    place = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        head = data[place : place + 8]
        if len(head) < 8:
            raise InputError("the PNG file ends in the middle; it was not copied whole")
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        end = place + 8 + length
        if end + 4 > len(data):
            raise InputError("the PNG file ends in the middle; it was not copied whole")
        body = data[place + 8 : end]
        checked = strict or kind in (b"tEXt", b"zTXt", b"iTXt")
        if checked and zlib.crc32(kind + body) != int.from_bytes(data[end : end + 4], "big"):
            name = kind.decode("latin-1") if kind.isalpha() else "?"
            raise InputError(f"the PNG file is damaged: checksum of a chunk {name} is wrong")
        yield kind, body
        if kind == b"IEND":
            return
        place = end + 4
    raise LimitError(f"the PNG file has more than {MAX_CHUNKS:,} chunks")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def _text(kind: bytes, rest: bytes) -> bytes:
    """What stands behind the keyword, decompressed."""
    packed = False
    if kind == b"zTXt":
        packed, rest = True, rest[1:]
    elif kind == b"iTXt":
        packed, rest = rest[:1] == b"\x01", rest[2:]
        rest = rest.partition(b"\0")[2].partition(b"\0")[2]  # behind language and translation
    if packed:
        unpack = zlib.decompressobj()
        try:
            rest = unpack.decompress(rest, MAX_TEXT + 1)
        except zlib.error:
            raise InputError("the card in the picture cannot be decompressed") from None
    if len(rest) > MAX_TEXT:
        raise LimitError(f"the card in the picture is longer than {MAX_TEXT:,} bytes")
    return rest


def _decoded(text: bytes, name: str) -> str:
    if text.lstrip().startswith(b"{"):  # some tools leave the base64 out
        plain = text
    else:
        try:
            plain = base64.b64decode(b"".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise InputError(f"chunk {name!r} is not base64") from None
    try:
        return plain.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"chunk {name!r} holds no UTF-8 text") from None
