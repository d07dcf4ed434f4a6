"""Ask a Ray cluster one question, for `trainyard doctor`: an open port alone says little."""

from __future__ import annotations

from ..errors import Refusal, TryLater
from . import connection
from .tokens import authenticate, reload_token

SECONDS = 5.0  # in which a head must answer
ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"  # Ray's call, of an empty message


def check_head(setting: str) -> None:
    """Raise Refusal if RAY_ADDRESS names no Ray cluster that takes our token, or TryLater if it is silent."""
    address = connection.cluster_address()
    place = f"RAY_ADDRESS={setting}"
    if not address:
        raise Refusal(f"{place}: no cluster was started here; ray start --head, or unset it")
    authenticate()
    reload_token()
    import grpc
    from ray._private.grpc_utils import init_grpc_channel

    def same(content: bytes) -> bytes:
        return content

    with init_grpc_channel(address.removeprefix("ray://")) as channel:
        try:
            if address.startswith("ray://"):  # Ray's client server has other calls
                grpc.channel_ready_future(channel).result(SECONDS)
            else:
                channel.unary_unary(ALIVE, same, same)(b"", timeout=SECONDS)
        except grpc.FutureTimeoutError:
            raise TryLater(f"{place}: does not answer") from None
        except grpc.RpcError as error:
            status = error.code()
            if status == grpc.StatusCode.UNAUTHENTICATED:
                fault = "refuses our token; RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH must hold the cluster's"
                raise Refusal(f"{place}: {fault}") from None
            if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise TryLater(f"{place}: does not answer ({status.name})") from None
            raise Refusal(f"{place}: what answers there is not a Ray cluster ({status.name})") from None
