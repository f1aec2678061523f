"""Options on provenance that `story` and `export` have in common."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from consistent_gen.errors import InputError

if TYPE_CHECKING:
    from consistent_gen.story.provenance import Provenance


def add_provenance_options(parser: argparse.ArgumentParser) -> None:
    """Options that ask for signed manifests; without them no file has one."""
    parser.add_argument(
        "--provenance",
        action="store_true",
        help="sign what is written as made by a model (C2PA; see docs/exports.md)",
    )
    parser.add_argument(
        "--provenance-prompts", action="store_true", help="let the manifests tell the prompts, too"
    )
    parser.add_argument(
        "--provenance-key", metavar="FILE", help="private key, PEM (default: one made for you)"
    )
    parser.add_argument(
        "--provenance-cert", metavar="FILE", help="the key's certificates, PEM, its own first"
    )


def provenance_of(options: argparse.Namespace) -> Provenance | None:
    """How to sign, tried once; None where nobody asks for it.

    Raises:
        InputError: options that do not fit together, or a key that cannot be used.
        MissingExtraError: c2pa-python is not there. OutputError: it cannot sign.
    """
    key, certificates = options.provenance_key, options.provenance_cert
    if (key is None) != (certificates is None):
        missing = "--provenance-cert" if certificates is None else "--provenance-key"
        raise InputError("a key and its certificates go together", source=missing)
    if not options.provenance:
        if key is not None or options.provenance_prompts:
            raise InputError("say --provenance, too", source="--provenance")
        return None
    from consistent_gen.story.provenance import Provenance, given_signer, own_signer

    signer = own_signer() if key is None else given_signer(key, certificates)
    provenance = Provenance(signer, prompts=options.provenance_prompts)
    provenance.check()
    return provenance
