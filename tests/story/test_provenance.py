"""Provenance: signed files are read back by c2pa's own reader, and nothing else of them changes."""

from __future__ import annotations

import io
import json
import stat
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from PIL import Image, ImageSequence

from consistent_gen import __version__
from consistent_gen.cli import main
from consistent_gen.engine.metadata import read_png, write_png
from consistent_gen.errors import InputError, OutputError
from consistent_gen.story.export import FORMATS

c2pa = pytest.importorskip("c2pa", reason="needs c2pa-python")

from consistent_gen.story import provenance  # noqa: E402
from consistent_gen.story.provenance import (  # noqa: E402
    Provenance,
    Signer,
    given_signer,
    manifest_of,
    own_signer,
)

PEM = serialization.Encoding.PEM
SECRET = "a fox at the harbour of Elmshorn"
METADATA = {
    "schema": 1, "model": {"name": "tiny", "sha256": "0" * 64}, "prompt": SECRET, "negative": "",
    "seed": 7, "steps": 2, "guidance": 1.0, "scheduler": "ddim", "width": 16, "height": 16,
    "method": "vanilla",
}  # fmt: skip


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "consistent-gen"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "frame.png"
    image = np.random.default_rng(1).integers(0, 255, (16, 16, 3), np.uint8)
    write_png(path, image, METADATA)
    return path


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    folder = tmp_path / "drawn"
    frames = []
    for i in range(2):
        path = f"frames/{i:02d}.png"
        write_png(folder / path, np.full((16, 16, 3), 90 + 60 * i, np.uint8), METADATA)
        frames.append({"path": path, "caption": f"Words {i}", "prompt": SECRET})
    report = {
        "schema": "consistent_gen.story_report/1", "title": "Of Two", "frames": frames,
        "model": {"name": "tiny"}, "method": "vanilla",
    }  # fmt: skip
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def validated(data: bytes, media_type: str) -> dict[str, Any]:
    """The manifest as c2pa's own reader has it; everything but the trust in the key holds."""
    reader = c2pa.Reader(media_type, io.BytesIO(data))
    assert reader.get_validation_state() == "Valid"
    failures = reader.get_validation_results()["activeManifest"]["failure"]
    assert [failure["code"] for failure in failures] == ["signingCredential.untrusted"]
    found: dict[str, Any] = reader.get_active_manifest()
    return found


def action(manifest: dict[str, Any]) -> dict[str, Any]:
    (actions,) = (a for a in manifest["assertions"] if a["label"].startswith("c2pa.actions"))
    (first,) = actions["data"]["actions"]
    return dict(first)


# signing ----------------------------------------------------------------------------------------
def test_a_signed_picture_is_read_back_and_keeps_its_pixels_and_words(picture: Path) -> None:
    before, words = read_png(picture)
    Provenance(own_signer()).sign_picture(picture, prompts=[SECRET])
    manifest = validated(picture.read_bytes(), "image/png")
    made = manifest["claim_generator_info"][0]
    assert (made["name"], made["version"]) == ("consistent_gen", __version__)
    assert action(manifest)["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    after, told = read_png(picture)
    assert np.array_equal(before, after) and told == words


def test_no_prompt_unless_asked_and_nothing_personal(picture: Path) -> None:
    text = json.dumps(_signed_json(picture, prompts=False))
    assert SECRET not in text and "prompts" not in text
    for personal in (str(Path.home()), str(picture), picture.name, "timestamp", "signing_time"):
        assert personal not in text
    told = _signed_json(picture, prompts=True)
    assert SECRET in json.dumps(told["manifests"][told["active_manifest"]]["assertions"])


def _signed_json(picture: Path, *, prompts: bool) -> dict[str, Any]:
    signed = Provenance(own_signer(), prompts=prompts).sign(
        picture.read_bytes(), "image/png", prompts=[SECRET]
    )
    found: dict[str, Any] = json.loads(c2pa.Reader("image/png", io.BytesIO(signed)).json())
    return found


def test_a_changed_pixel_is_noticed(picture: Path) -> None:
    signed = bytearray(Provenance(own_signer()).sign(picture.read_bytes(), "image/png"))
    place = signed.rindex(b"IDAT") + 6
    signed[place] ^= 1
    state = c2pa.Reader("image/png", io.BytesIO(bytes(signed))).get_validation_state()
    assert state == "Invalid"


def test_what_has_no_manifest_says_so(picture: Path) -> None:
    assert manifest_of(picture.read_bytes(), "image/png") is None
    signed = Provenance(own_signer()).sign(picture.read_bytes(), "image/png")
    found = manifest_of(signed, "image/png")
    assert found is not None and found["validation_state"] == "Valid"


def test_what_cannot_be_signed_is_told(picture: Path) -> None:
    with pytest.raises(OutputError, match="no manifest could be signed"):
        Provenance(own_signer()).sign(b"no picture", "image/png")
    broken = Signer(b"", own_signer().certificates, "es256")
    with pytest.raises(OutputError):
        Provenance(broken).check()


# keys -------------------------------------------------------------------------------------------
def test_one_key_is_made_per_configuration_and_only_its_owner_reads_it(configuration: Path) -> None:
    first, again = own_signer(), own_signer()
    assert first == again and first.algorithm == "es256"
    file = configuration / "signer.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [p.name for p in configuration.iterdir()] == ["signer.pem"]
    assert "PRIVATE" not in repr(first) and own_signer(configuration / "other") != first


def test_a_damaged_key_is_told_and_kept(configuration: Path) -> None:
    own_signer()
    file = configuration / "signer.pem"
    file.write_text("nonsense")
    with pytest.raises(InputError, match="no private key"):
        own_signer()
    assert file.read_text() == "nonsense"


def test_a_key_that_has_run_out_is_made_anew(
    configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "VALID_YEARS", 0)
    first = own_signer()
    monkeypatch.setattr(provenance, "VALID_YEARS", 10)
    assert own_signer() != first


@pytest.mark.parametrize("kind", ["ed25519", "p384", "p521", "rsa"])
def test_a_key_of_ones_own(kind: str, tmp_path: Path, picture: Path) -> None:
    key, certificate = given(tmp_path, made(kind))
    signed = Provenance(given_signer(key, certificate)).sign(picture.read_bytes(), "image/png")
    assert validated(signed, "image/png")["signature_info"]["common_name"] == "Somebody"


def test_keys_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    key, certificate = given(tmp_path, made("p384"))
    other, _ = given(tmp_path / "other", made("p384"))
    with pytest.raises(InputError, match="not of the key"):
        given_signer(other, certificate)
    with pytest.raises(InputError, match="no certificate"):
        given_signer(key, key)
    with pytest.raises(InputError, match="no private key"):
        given_signer(certificate, certificate)
    with pytest.raises(InputError, match="cannot be read"):
        given_signer(tmp_path / "absent.pem", certificate)
    with pytest.raises(InputError, match="expected a key of"):
        given_signer(*given(tmp_path / "dsa", made("dsa")))
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        made("p384").private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
    )
    with pytest.raises(InputError, match="password"):
        given_signer(locked, certificate)
    large = tmp_path / "large.pem"
    large.write_bytes(b"x" * (70 << 10))
    with pytest.raises(InputError, match="64 KiB"):
        given_signer(large, certificate)


def made(kind: str) -> Any:
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "dsa":
        return dsa.generate_private_key(2048)
    return ec.generate_private_key(ec.SECP384R1() if kind == "p384" else ec.SECP521R1())


def given(folder: Path, key: Any) -> tuple[Path, Path]:
    """(key file, certificate file) as somebody else would have them."""
    folder.mkdir(exist_ok=True)
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "A studio"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "Somebody"),
        ]
    )
    now, public = datetime.now(UTC), key.public_key()
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=9))
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(usage, True)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )  # fmt: skip
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(PEM))
    return folder / "key.pem", folder / "cert.pem"


# the command line -------------------------------------------------------------------------------
MEDIA = {"png": "image/png", "gif": "image/gif", "pdf": "application/pdf"}


@pytest.mark.parametrize("format", FORMATS)
def test_every_export_is_signed_and_stripped(drawn: Path, tmp_path: Path, format: str) -> None:
    plain, signed, bare = (tmp_path / f"{name}.{format}" for name in ("plain", "signed", "bare"))
    assert main(["export", str(drawn), "--out", str(plain)]) == 0
    assert main(["export", str(drawn), "--out", str(signed), "--provenance"]) == 0
    for data, media in _files(signed, format):
        source = action(validated(data, media))["digitalSourceType"]
        assert source.endswith("rainedAlgorithmicMedia")
    for data, media in _files(plain, format):
        assert manifest_of(data, media) is None  # off by default
    sign_frames(drawn)
    assert main(["export", str(drawn), "--out", str(bare), "--strip"]) == 0
    for data, media in _files(bare, format):
        assert manifest_of(data, media) is None
        assert b"c2pa" not in data and b"consistent_gen" not in data
    content = bare.read_bytes()
    assert b"vanilla" not in content and SECRET.encode() not in content
    if format in ("png", "gif"):
        assert _pixels(plain) == _pixels(signed) == _pixels(bare)


def _pixels(path: Path) -> list[bytes]:
    with Image.open(path) as picture:
        return [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(picture)]


def sign_frames(folder: Path) -> None:
    """Sign the frames of a drawn folder, as `story --provenance` does."""
    for path in sorted((folder / "frames").iterdir()):
        Provenance(own_signer(), prompts=True).sign_picture(path, prompts=[SECRET])


def _files(path: Path, format: str) -> list[tuple[bytes, str]]:
    if format in MEDIA:
        return [(path.read_bytes(), MEDIA[format])]
    with zipfile.ZipFile(path) as archive:
        found = [
            (archive.read(name), "image/png" if name.endswith(".png") else "image/jpeg")
            for name in archive.namelist()
            if name.endswith((".png", ".jpg"))
        ]
    assert found
    return found


def test_an_export_tells_prompts_where_asked(drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "book.png"
    argv = ["export", str(drawn), "--out", str(out), "--provenance"]
    assert main(argv) == 0 and SECRET.encode() not in out.read_bytes()
    assert main([*argv, "--provenance-prompts"]) == 0 and SECRET.encode() in out.read_bytes()


def test_a_signed_zip_is_unpacked_and_exported_again(drawn: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "book.zip", tmp_path / "again"
    assert main(["export", str(drawn), "--out", str(out), "--provenance"]) == 0
    zipfile.ZipFile(out).extractall(again)
    assert main(["export", str(again), "--format", "pdf"]) == 0
    assert read_png(again / "frames/00.png")[1]["prompt"] == SECRET


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--strip", "--provenance"], ["--strip", "--provenance"]),
        (["--provenance-prompts"], ["--provenance"]),
        (["--provenance", "--provenance-key", "k.pem"], ["--provenance-cert"]),
        (["--provenance", "--provenance-key", "k.pem", "--provenance-cert", "c.pem"], ["k.pem"]),
    ],
)
def test_mistakes_in_words(
    drawn: Path, argv: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(drawn), "--format", "png", *argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words)
    assert not (drawn / "of-two.png").exists()


def test_a_drawn_story_is_signed_and_still_replays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from consistent_gen.models.tiny import build_tiny

    model = build_tiny(tmp_path / "tiny")
    story = tmp_path / "story.yaml"
    story.write_text("title: x\nseed: 3\nframes: [a fox, a fox walking]\n")
    argv = ["story", str(story), "--model", str(model), "--steps", "2"]
    assert main([*argv, "--out", str(tmp_path / "plain")]) == 0
    assert main([*argv, "--out", str(tmp_path / "signed"), "--provenance"]) == 0
    capsys.readouterr()
    for name in ("frames/00.png", "frames/01.png", "page.png"):
        signed = tmp_path / "signed" / name
        validated(signed.read_bytes(), "image/png")
        assert _pixels(tmp_path / "plain" / name) == _pixels(signed)
        assert manifest_of((tmp_path / "plain" / name).read_bytes(), "image/png") is None
    frame = str(tmp_path / "signed/frames/01.png")
    assert main(["replay", frame, "--model", str(model)]) == 0
    assert capsys.readouterr().out.strip() == "identical"


def test_without_the_package_the_extra_is_named(
    drawn: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert main(["export", str(drawn), "--format", "png", "--provenance"]) == 2
    assert "consistent-gen[provenance]" in capsys.readouterr().err
