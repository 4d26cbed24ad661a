"""Signatures, both ways, from one table of schemes.

Exactly the bytes sent are signed, exactly the bytes received are verified. `verify` is total: whatever
comes, it returns or raises SignatureError, and what it raises is for the log, never for the answer.
"""

from bridge.rules.signing.reading import MAX_SIGNATURES, TOKEN_BYTES
from bridge.rules.signing.standard import new_secret, standard_key
from bridge.rules.signing.table import OWN_HEADERS, SCHEMES, Sign, Verify, keys, seal, sign, signing_keys, verify, written_headers
from bridge.rules.signing.ways import Attempt, Evidence, RequestHeaders, Scheme, Signing, Verification

__all__ = [
    "MAX_SIGNATURES",
    "OWN_HEADERS",
    "SCHEMES",
    "TOKEN_BYTES",
    "Attempt",
    "Evidence",
    "RequestHeaders",
    "Scheme",
    "Sign",
    "Signing",
    "Verification",
    "Verify",
    "keys",
    "new_secret",
    "seal",
    "sign",
    "signing_keys",
    "standard_key",
    "verify",
    "written_headers",
]
