"""uvicorn's WebSocket protocol, without tracebacks that a client can provoke, and with an end for every handshake."""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class QuietWebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection."""

    def data_received(self, data: bytes) -> None:
        """Take what came. A handshake that cannot be read is refused: uvicorn would leave its connection open."""
        try:
            super().data_received(data)
        except UnicodeError:  # in the path of the handshake
            self._refuse()
        else:
            if self.conn.handshake_exc is not None and not self.handshake_initiated:
                self._refuse()

    def send_receive_event_to_app(self) -> None:
        """Hand on a message. A text that is none closes the connection with 1007, as in RFC 6455, section 8.1."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.conn.send_close(1007)
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    async def send(self, message: Any) -> None:
        """Send. An answer of HTTP in place of the handshake completes that, too, which uvicorn takes for an error."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

    def shutdown(self) -> None:
        """Hang up, because the server stops. A handshake that was under way ends there: the client sees 500."""
        super().shutdown()
        if not self.handshake_complete:
            self.handshake_complete = self.disconnected = True

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_BAD_REQUEST)
            self.transport.close()
