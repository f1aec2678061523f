"""Provenance on request: a C2PA manifest in a picture or an export says that a model made it.

A manifest is signed. Without a key of one's own a self-signed certificate is made once per user
and kept in the user's configuration. Such a manifest proves that the file has not been changed
since somebody with that key signed it; it does not prove who that was. Nothing is sent anywhere: no
time stamp is asked for, and no certificate is looked up.
"""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consistent_gen import __version__
from consistent_gen.errors import InputError, MissingExtraError, OutputError
from consistent_gen.story.book import Book
from consistent_gen.story.export import MEDIA_TYPES, Exported, archive

if TYPE_CHECKING:
    from cryptography import x509

NAME = "consistent_gen"
PROMPTS = "consistent_gen.prompts"  # an assertion of our own, only where it is asked for
SIGNER_FILE = "signer.pem"
MAX_KEY_BYTES = 64 << 10
VALID_YEARS = 10
# What the pictures are by the IPTC's list: drawn by a model; on a page, with words and a layout.
_SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
DRAWN, COMPOSED = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
_QUIET = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}
# Archives cannot be signed themselves: the pictures in them are.
_ARCHIVES = (MEDIA_TYPES["zip"], MEDIA_TYPES["cbz"])
_PICTURES = {".png": "image/png", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class Signer:
    """A private key (PKCS 8) and the certificates that go with it, its own first; both PEM.

    algorithm: C2PA's name for the kind of signature, such as "es256".
    """

    key: bytes = field(repr=False)
    certificates: bytes
    algorithm: str


@dataclass(frozen=True)
class Provenance:
    """How files are signed. prompts: whether the manifests tell the prompts, too."""

    signer: Signer
    prompts: bool = False

    def sign(
        self, data: bytes, media_type: str, *, source: str = DRAWN, prompts: Sequence[str] = ()
    ) -> bytes:
        """`data` with a manifest; the pixels stay as they are. An archive's pictures get one each.

        source: `DRAWN` or `COMPOSED`.

        Raises:
            OutputError: c2pa cannot sign it; says why.
        """
        if media_type in _ARCHIVES:
            return self._sign_archive(data, source, prompts)
        c2pa = _library()
        actions = {
            "action": "c2pa.created",
            "digitalSourceType": _SOURCES + source,
            "softwareAgent": {"name": NAME, "version": __version__},
        }
        assertions: list[dict[str, Any]] = [
            {"label": "c2pa.actions", "data": {"actions": [actions]}}
        ]
        if self.prompts and prompts:
            assertions.append({"label": PROMPTS, "data": {"prompts": list(prompts)}})
        manifest = {
            "claim_generator_info": [{"name": NAME, "version": __version__}],
            "assertions": assertions,
        }
        info = c2pa.C2paSignerInfo(
            self.signer.algorithm, self.signer.certificates, self.signer.key, None
        )
        signed = io.BytesIO()
        try:
            context = c2pa.Context(c2pa.Settings.from_dict(_QUIET))
            with (
                c2pa.Signer.from_info(info) as signer,
                c2pa.Builder(manifest, context=context) as made,
            ):
                made.sign(signer, media_type, io.BytesIO(data), signed)
        except c2pa.C2paError as error:
            raise OutputError(f"no manifest could be signed: {_brief(error)}") from None
        return signed.getvalue()

    def sign_picture(self, path: Path, *, source: str = DRAWN, prompts: Sequence[str] = ()) -> None:
        """Sign a PNG file in place."""
        path.write_bytes(self.sign(path.read_bytes(), "image/png", source=source, prompts=prompts))

    def check(self) -> None:
        """Sign a picture of one pixel, so that a key that does not work is told before anything
        is drawn.

        Raises:
            OutputError: as `sign`.
        """
        from PIL import Image

        picture = io.BytesIO()
        Image.new("RGB", (1, 1)).save(picture, "PNG")
        self.sign(picture.getvalue(), "image/png")

    def _sign_archive(self, data: bytes, source: str, prompts: Sequence[str]) -> bytes:
        files = {}
        with zipfile.ZipFile(io.BytesIO(data)) as found:
            pictures = [n for n in found.namelist() if Path(n).suffix in _PICTURES]
            # A frame tells its own prompt; a page those of all its frames.
            own = source == DRAWN and len(prompts) == len(pictures)
            for name in found.namelist():
                content = found.read(name)
                if name in pictures:
                    told = [prompts[pictures.index(name)]] if own else prompts
                    kind = _PICTURES[Path(name).suffix]
                    content = self.sign(content, kind, source=source, prompts=told)
                files[name] = content
        return archive(files)


def sign_export(exported: Exported, book: Book, provenance: Provenance) -> Exported:
    """An export of `book` with a manifest; an archive's pictures have one each.

    Raises:
        OutputError: it cannot be signed.
    """
    told = (panel.metadata.get("prompt") for panel in book.panels if panel.metadata)
    prompts = [prompt for prompt in told if isinstance(prompt, str)]
    source = DRAWN if exported.media_type == MEDIA_TYPES["zip"] else COMPOSED
    data = provenance.sign(exported.data, exported.media_type, source=source, prompts=prompts)
    return exported._replace(data=data)


def manifest_of(data: bytes, media_type: str) -> dict[str, Any] | None:
    """The manifest in a file, as c2pa's reader has it, with `validation_state`; None without one.

    Raises:
        InputError: there is one, but it cannot be read.
    """
    c2pa = _library()
    try:
        with c2pa.Reader(
            media_type, io.BytesIO(data), context=c2pa.Context(c2pa.Settings.from_dict(_QUIET))
        ) as reader:
            found = dict(reader.get_active_manifest() or {})
            return found | {"validation_state": reader.get_validation_state()}
    except c2pa.C2paError.ManifestNotFound:
        return None
    except c2pa.C2paError as error:
        raise InputError(f"its manifest cannot be read: {_brief(error)}") from None


# keys -------------------------------------------------------------------------------------------
def user_folder() -> Path:
    """``$XDG_CONFIG_HOME/consistent-gen``, or ``~/.config/consistent-gen``."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "consistent-gen"


def own_signer(folder: Path | None = None) -> Signer:
    """The signer of this user's configuration; made when it is not there, or has run out.

    Raises:
        OutputError: it cannot be written. InputError: what is there is damaged.
    """
    _library()
    path = (folder or user_folder()) / SIGNER_FILE
    if path.exists():
        signer, certificate = _read_signer(path, path)
        if certificate.not_valid_after_utc > datetime.now(UTC):
            return signer
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=path.parent)  # only its owner can read it
        with os.fdopen(handle, "wb") as file:
            file.write(_self_signed())
        Path(name).replace(path)
    except OSError as error:
        raise OutputError(f"no key can be kept at {path}: {error.strerror}") from None
    return _read_signer(path, path)[0]


def given_signer(key: str | Path, certificates: str | Path) -> Signer:
    """A signer from two PEM files.

    Raises:
        InputError: not PEM, a key with a password, a kind that C2PA has not, or not a pair.
    """
    _library()
    return _read_signer(Path(key), Path(certificates))[0]


def _self_signed() -> bytes:
    """A new key and a certificate for it, which names nobody, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, f"{NAME} (self-signed)"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "self-signed, nobody vouches for it"),
        ]
    )
    # From the start of the year: the day on which somebody began is nobody's business.
    start = datetime(datetime.now(UTC).year, 1, 1, tzinfo=UTC)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    public = key.public_key()
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start.replace(year=start.year + VALID_YEARS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(purpose, critical=False)  # one of those that C2PA asks for
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(pem)


def _read_signer(key_file: Path, certificate_file: Path) -> tuple[Signer, x509.Certificate]:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_private_key(_bytes(key_file), password=None)
    except TypeError:
        message = "the key has a password; write one without, such as by `openssl pkey`"
        raise InputError(message, source=key_file) from None
    except ValueError:
        raise InputError("this is no private key in PEM", source=key_file) from None
    try:
        certificates = x509.load_pem_x509_certificates(_bytes(certificate_file))
    except ValueError:
        raise InputError("this is no certificate in PEM", source=certificate_file) from None
    pem, public = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    own = certificates[0].public_key()
    if own.public_bytes(pem, public) != key.public_key().public_bytes(pem, public):
        message = f"the first certificate is not of the key in {key_file}"
        raise InputError(message, source=certificate_file)
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = b"".join(certificate.public_bytes(pem) for certificate in certificates)
    return Signer(private, chain, _algorithm(key, key_file)), certificates[0]


def _algorithm(key: object, source: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return "ps256"
    curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in curves:
        return curves[key.curve.name]
    message = "expected a key of Ed25519, P-256, P-384, P-521, or RSA of 2048 bits or more"
    raise InputError(message, source=source)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot be read: {why}", source=path) from None
    if len(data) > MAX_KEY_BYTES:
        raise InputError(f"larger than {MAX_KEY_BYTES >> 10} KiB", source=path)
    return data


def _library() -> Any:
    """The package c2pa, imported when something is signed or read.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import c2pa  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise MissingExtraError("c2pa-python", extra="provenance", what="provenance") from None
    return c2pa


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
