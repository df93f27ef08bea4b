"""A grpcio server with an interceptor that requires a bearer token.

Its only argument is a folder. The server refuses the tokens in the file `revoked`, one per line. It records the method,
the status and the credential of each call in `seen`. If there is a `server.pem`, with a certificate and its key, the
server uses TLS.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from google.protobuf.wrappers_pb2 import StringValue

FOLDER = Path(sys.argv[1])
LOCK = threading.Lock()


def token_of(context_or_call):
    metadata = dict(context_or_call.invocation_metadata)
    return metadata.get("authorization", "")


def is_good(token):
    revoked = (FOLDER / "revoked").read_text().splitlines()
    return token.startswith("Bearer ") and token.removeprefix("Bearer ") not in revoked


def keep(method, token, code):
    with LOCK, (FOLDER / "seen").open("a") as seen:
        seen.write(f"{method} {code.name} {token}\n")


class WantsToken(grpc.ServerInterceptor):
    def intercept_service(self, continuation, call):
        handler, token = continuation(call), token_of(call)
        if handler is None or call.method.endswith("/Late") or is_good(token):
            return handler
        keep(call.method, token, grpc.StatusCode.UNAUTHENTICATED)
        return refusing(handler)


def refusing(handler):
    """Returns a method of the same kind. It refuses before it reads or sends anything."""

    def refuse(_, context):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token that is good")

    def refuse_stream(_, context):
        refuse(_, context)
        yield

    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
    }
    streams = (handler.request_streaming, handler.response_streaming)
    method = refuse_stream if handler.response_streaming else refuse
    return kinds[streams](method, StringValue.FromString, StringValue.SerializeToString)


def accepted(method, context):
    keep(method, dict(context.invocation_metadata())["authorization"], grpc.StatusCode.OK)


def say(request, context):
    """Returns the text in capital letters."""
    accepted("/test.Words/Say", context)
    return StringValue(value=request.value.upper())


def split(request, context):
    """Returns the words of a text."""
    accepted("/test.Words/Split", context)
    for word in request.value.split():
        yield StringValue(value=word)


def join(requests, context):
    """Joins words into a text."""
    words = [request.value for request in requests]
    accepted("/test.Words/Join", context)
    return StringValue(value=" ".join(words))


def secret(_, context):
    """Refuses every caller with `PERMISSION_DENIED`."""
    token = dict(context.invocation_metadata())["authorization"]
    keep("/test.Words/Secret", token, grpc.StatusCode.PERMISSION_DENIED)
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "not for you")


def late(_, context):
    """Checks the token only after the response has begun."""
    context.send_initial_metadata((("begun", "yes"),))
    token = dict(context.invocation_metadata()).get("authorization", "")
    if not is_good(token):
        keep("/test.Words/Late", token, grpc.StatusCode.UNAUTHENTICATED)
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token that is good")
    accepted("/test.Words/Late", context)
    return StringValue(value="late")


def method(kind, function):
    return kind(function, StringValue.FromString, StringValue.SerializeToString)


server = grpc.server(ThreadPoolExecutor(8), interceptors=[WantsToken()])
server.add_generic_rpc_handlers(
    [
        grpc.method_handlers_generic_handler(
            "test.Words",
            {
                "Say": method(grpc.unary_unary_rpc_method_handler, say),
                "Split": method(grpc.unary_stream_rpc_method_handler, split),
                "Join": method(grpc.stream_unary_rpc_method_handler, join),
                "Secret": method(grpc.unary_unary_rpc_method_handler, secret),
                "Late": method(grpc.unary_unary_rpc_method_handler, late),
            },
        )
    ]
)
pem = FOLDER / "server.pem"
if pem.exists():
    both = pem.read_bytes()
    credentials = grpc.ssl_server_credentials([(both, both)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"listening on {port}", flush=True)
server.wait_for_termination()
