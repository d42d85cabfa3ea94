"""How operations come in and answers go out: HTTP, event streams, WebSockets, and what guards them."""

from server.transports.blobs import BlobsOverHttp
from server.transports.bodies import BodyLimits, BytesInFlight
from server.transports.bounded_websockets import bounded_websocket_protocol
from server.transports.callers import Callers, client_of
from server.transports.credential_watch import CredentialWatch
from server.transports.hosts import HostCheck
from server.transports.http import GraphQLOverHttp
from server.transports.http_stream import StreamLimits
from server.transports.limits import ConnectionLimiter, too_many_headers, too_many_requests
from server.transports.middleware import BLOBS_PATH, GRAPHQL_PATHS, PathPrefix, RequestContext
from server.transports.origins import PREFLIGHT_HEADERS, CrossOriginAnswers, OriginCheck, Origins
from server.transports.proxies import TrustedProxies
from server.transports.schema_document import schema_document
from server.transports.session_cookies import SessionCookies
from server.transports.uvicorn_protocol import bounded_http_protocol
from server.transports.websocket import GraphQLOverWebSocket, SocketLimits

__all__ = [
    "BLOBS_PATH",
    "GRAPHQL_PATHS",
    "PREFLIGHT_HEADERS",
    "BlobsOverHttp",
    "BodyLimits",
    "BytesInFlight",
    "Callers",
    "ConnectionLimiter",
    "CredentialWatch",
    "CrossOriginAnswers",
    "GraphQLOverHttp",
    "GraphQLOverWebSocket",
    "HostCheck",
    "OriginCheck",
    "Origins",
    "PathPrefix",
    "RequestContext",
    "SessionCookies",
    "SocketLimits",
    "StreamLimits",
    "TrustedProxies",
    "bounded_http_protocol",
    "bounded_websocket_protocol",
    "client_of",
    "schema_document",
    "too_many_headers",
    "too_many_requests",
]
