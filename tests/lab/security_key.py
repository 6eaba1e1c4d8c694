"""A security key in software (WebAuthn): the JSON that a browser sends for it."""

import hashlib
import json
import secrets
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData

PRESENT, HAS_CREDENTIAL = 0x01, 0x40


class SecurityKey:
    """A key that is made for one site, such as `localhost`."""

    def __init__(self, host: str, origin: str) -> None:
        self.origin = origin
        self.rp_id_hash = hashlib.sha256(host.encode()).digest()
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.id = secrets.token_bytes(16)

    def register(self, options: dict[str, Any], *, flags: int = PRESENT) -> str:
        public = ES256.from_cryptography_key(self.private.public_key())
        credential = AttestedCredentialData.create(b"\0" * 16, self.id, public)
        data = AuthenticatorData.create(self.rp_id_hash, flags | HAS_CREDENTIAL, 0, credential)
        attestation = AttestationObject.create("none", data, {})
        response = {
            "clientDataJSON": self._client_data("webauthn.create", options),
            "attestationObject": websafe_encode(bytes(attestation)),
        }
        return self._credential(response)

    def sign(self, options: dict[str, Any], *, flags: int = PRESENT) -> str:
        data = AuthenticatorData.create(self.rp_id_hash, flags, 1)
        client_data = self._client_data("webauthn.get", options)
        digest = hashlib.sha256(websafe_decode(client_data)).digest()
        signature = self.private.sign(bytes(data) + digest, ec.ECDSA(SHA256()))
        response = {
            "clientDataJSON": client_data,
            "authenticatorData": websafe_encode(bytes(data)),
            "signature": websafe_encode(signature),
        }
        return self._credential(response)

    def _client_data(self, kind: str, options: dict[str, Any]) -> str:
        challenge = options["publicKey"]["challenge"]
        values = {"type": kind, "challenge": challenge, "origin": self.origin}
        return websafe_encode(json.dumps(values).encode())

    def _credential(self, response: dict[str, str]) -> str:
        name = websafe_encode(self.id)
        values = {"id": name, "rawId": name, "type": "public-key", "response": response}
        return json.dumps({**values, "clientExtensionResults": {}})
