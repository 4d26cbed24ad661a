"""Ed25519 signatures, of the library `cryptography`: an extra of its own, loaded only where a config asks for it.

Keys and signatures are plain bytes: seed and public key 32, signature 64. Source: RFC 8032.
"""

from types import ModuleType


def library() -> ModuleType:
    """Return the library's module; raise ValueError where the extra isn't installed."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519  # here: a bridge that signs otherwise does without it
    except ImportError as exc:
        raise ValueError('ed25519 signatures need an extra: pip install "mqtthook[ed25519]"') from exc
    return ed25519


def public_of(seed: bytes) -> bytes:
    """Return the public key that belongs to a seed."""
    public: bytes = library().Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return public


def signature_of(seed: bytes, message: bytes) -> bytes:
    """Return the signature of a message."""
    signature: bytes = library().Ed25519PrivateKey.from_private_bytes(seed).sign(message)
    return signature


def agrees(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return True if the signature is that of the message by the owner of the public key, else False."""
    from cryptography.exceptions import InvalidSignature  # here: see `library`

    try:
        library().Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True
