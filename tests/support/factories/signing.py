"""Requests to Aster signed by hand, without ccxt, and its refusals."""

import time
from urllib.parse import urlencode

import httpx
from eth_account import Account
from eth_account.messages import encode_typed_data

from simulator.aster.aster_auth import DOMAIN, TYPES

KEY = f"{7:064x}"
USER = Account.from_key(KEY).address


def signed(parameters: dict[str, object], key: str = KEY, *, nonce: int | None = None, user: str = USER) -> str:
    """The query of a V3 request, made from the protocol's description."""
    nonce = time.time_ns() // 1_000 if nonce is None else nonce
    message = urlencode({**parameters, "nonce": nonce, "user": user, "signer": Account.from_key(key).address})
    signable = encode_typed_data(domain_data=DOMAIN, message_types=TYPES, message_data={"msg": message})
    return f"{message}&signature=0x{Account.sign_message(signable, key).signature.hex()}"


def refused(answer: httpx.Response) -> tuple[int, int]:
    """The HTTP status and Aster's code."""
    return answer.status_code, answer.json()["code"]
