"""Authenticates signed Aster V3 requests: recovers the signer from the EIP-712 signature, checks the nonce.

Protocol: domain ``AsterSignTransaction`` version 1, chain 1666, verifying contract zero; one type
``Message(string msg)``, where msg is the url-encoded parameters as sent, without the signature (as in ccxt's ``sign``).
"""

from collections import defaultdict, deque
from typing import Final
from urllib.parse import parse_qsl

from eth_account import Account
from eth_account.messages import encode_typed_data

from simulator.venue.api_error import VenueApiError

DOMAIN: Final = {
    "name": "AsterSignTransaction",
    "version": "1",
    "chainId": 1666,
    "verifyingContract": "0x0000000000000000000000000000000000000000",
}
TYPES: Final = {"Message": [{"name": "msg", "type": "string"}]}
NONCE_WINDOW_US: Final = 10_000_000
MAX_NONCES: Final = 100


class SignatureVerifier:
    """Verifies requests and remembers, per signer, the last 100 nonces; and, per user, the agent that may sign.

    A user may sign for itself. The first other signer of a user becomes its agent, because the stand-in has no page on
    which to approve one; a third signer is refused.
    """

    def __init__(self) -> None:
        self._nonces: dict[str, deque[int]] = defaultdict(lambda: deque(maxlen=MAX_NONCES))
        self._agents: dict[str, str] = {}

    def verify(self, raw: str, now_us: int) -> tuple[str, dict[str, str]]:
        """The user's address (lower case) and the parameters. Raises VenueApiError; a refused nonce stays usable."""
        message, _, signature = raw.rpartition("&signature=")
        parameters = dict(parse_qsl(message, keep_blank_values=True))
        user, signer = (parameters.pop(name, "").lower() for name in ("user", "signer"))
        nonce = parameters.pop("nonce", "")
        if not (user and signer and signature and nonce.isascii() and nonce.isdigit()):
            raise VenueApiError(-1102, "Mandatory parameter user, signer, nonce or signature was missing or malformed.")
        if recover_signer(message, signature) != signer:
            raise VenueApiError(-1022, "Signature for this request is not valid.")
        self._check_agent(user, signer)
        self._check_nonce(signer, int(nonce), now_us)
        return user, parameters

    def _check_agent(self, user: str, signer: str) -> None:
        if signer != user and self._agents.setdefault(user, signer) != signer:
            raise VenueApiError(-2015, "No agent found: this signer is not approved for the user.", status=401)

    def _check_nonce(self, signer: str, nonce: int, now_us: int) -> None:
        used = self._nonces[signer]
        if abs(nonce - now_us) > NONCE_WINDOW_US:
            raise VenueApiError(-1021, "Nonce is more than 10 seconds away from the server's time.")
        if nonce in used or (len(used) == MAX_NONCES and nonce < min(used)):
            raise VenueApiError(-1021, "Nonce has been used or is older than the last 100.")
        used.append(nonce)


def recover_signer(message: str, signature: str) -> str:
    """The address (lower case) whose key signed `message`. Raises VenueApiError for a malformed signature."""
    signable = encode_typed_data(domain_data=DOMAIN, message_types=TYPES, message_data={"msg": message})
    try:
        return str(Account.recover_message(signable, signature=signature)).lower()
    except Exception as error:
        # Any exception, because the library's errors for malformed bytes have no common base class.
        raise VenueApiError(-1022, "Signature for this request is not valid.") from error
