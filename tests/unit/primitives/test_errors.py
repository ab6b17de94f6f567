import pytest

from relay.primitives import errors
from relay.primitives.errors import PeerError, ProxyFailed, Retry, TransportError, UselessPeer


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ProtocolBreach", 0x02),
        ("HandshakeFailed", 0x02),
        ("UselessPeer", 0x03),
        ("TooManyPeers", 0x04),
        ("AlreadyConnected", 0x05),
        ("IncompatibleVersion", 0x06),
        ("UnexpectedIdentity", 0x09),
        ("SelfConnect", 0x0A),
        ("PeerTimeout", 0x0B),
        ("SubprotocolError", 0x10),
    ],
)
def test_peer_error_carries_its_disconnect_reason(name, reason):
    error = getattr(errors, name)("why")

    assert isinstance(error, PeerError)
    assert (error.reason, str(error)) == (reason, "why")


def test_peer_error_without_a_message_shows_its_kind():
    assert str(UselessPeer()) == "UselessPeer"
    assert UselessPeer(reason=0x10).reason == 0x10


def test_transport_error_says_when_to_try_again():
    assert errors.DialRefused().retry is Retry.NEVER
    assert errors.ConnectFailed().retry is Retry.SHORT
    assert errors.ConnectTimeout(retry=Retry.LONG).retry is Retry.LONG
    failure = ProxyFailed("no", code=0xF1, retry=Retry.NEVER)
    assert (failure.code, failure.retry, str(failure)) == (0xF1, Retry.NEVER, "no")


def test_blame_is_in_the_type():
    for each in vars(errors).values():
        if isinstance(each, type) and issubclass(each, errors.RelayError) and each is not errors.RelayError:
            kinds = (errors.DecodeError, PeerError, TransportError, errors.LocalError)
            assert sum(issubclass(each, kind) for kind in kinds) == 1, each
    assert issubclass(errors.DecodeError, ValueError)
    assert (errors.UsageError.exit_code, errors.StorageError.exit_code) == (2, 1)
