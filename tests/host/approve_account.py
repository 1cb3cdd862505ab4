"""Validates a name for the account of a certbot, as ACM does for the accounts of its endpoint.

Runs in the environment of certbot, whose ACME client it uses:
`approve_account.py DIRECTORY_URL CA_FILE ACCOUNTS NAME`.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

import josepy
from acme import challenges, client, crypto_util, errors, messages
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def main(directory_url: str, ca_file: str, accounts: str, name: str) -> None:
    [key_file] = Path(accounts).rglob("private_key.json")
    key = josepy.JWK.from_json(json.loads(key_file.read_text()))
    network = client.ClientNetwork(key, verify_ssl=ca_file)
    directory = client.ClientV2.get_directory(directory_url, network)
    acme = client.ClientV2(directory, network)
    try:
        acme.new_account(messages.NewRegistration(only_return_existing=True))
    except errors.ConflictError as existing:
        network.account = messages.RegistrationResource(
            uri=existing.location, body=messages.Registration()
        )
    private_key = rsa.generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    order = acme.new_order(crypto_util.make_csr(private_key, [name]))
    pending = [it for it in order.authorizations if it.body.status == messages.STATUS_PENDING]
    for authorization in pending:
        for challenge in authorization.body.challenges:
            if isinstance(challenge.chall, challenges.DNS01):
                acme.answer_challenge(challenge, challenge.response(key))
    acme.poll_authorizations(order, datetime.now() + timedelta(seconds=30))


if __name__ == "__main__":
    main(*sys.argv[1:])
