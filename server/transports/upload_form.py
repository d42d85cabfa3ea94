"""The one file in a form (multipart/form-data, RFC 7578), piece by piece as it comes."""

from collections.abc import AsyncGenerator, AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.errors import InvalidInput

FORM = "multipart/form-data"


def is_form(content_type: str | None) -> bool:
    """Tell whether a body is a form."""
    return (content_type or "").partition(";")[0].strip().lower() == FORM


async def file_in_form(pieces: AsyncIterator[bytes], content_type: str) -> AsyncGenerator[bytes, None]:
    """Give the bytes of the file in a form that has nothing else. Raises InvalidInput for any other form."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidInput("body", "is a form whose Content-Type names no boundary.")
    form = _Form()
    try:
        callbacks = {"on_part_begin": form.part_began, "on_part_data": form.data_came, "on_end": form.ended}
        parser = MultipartParser(boundary, callbacks)  # pyright: ignore[reportArgumentType] - a TypedDict of these
    except FormParserError as error:
        raise InvalidInput("body", "is a form whose boundary is too long.") from error
    async for piece in pieces:
        try:
            parser.write(piece)
        except FormParserError as error:
            raise InvalidInput("body", "is no form that can be read (multipart/form-data, RFC 7578).") from error
        for data in form.take():
            yield data
    if not form.is_whole:
        raise InvalidInput("body", "is a form that ends too early.")


class _Form:
    """What the parser tells of a form."""

    def __init__(self) -> None:
        self.is_whole = False
        self._parts = 0
        self._came: list[bytes] = []

    def part_began(self) -> None:
        self._parts += 1
        if self._parts > 1:
            raise InvalidInput("body", "must be a form with one file and nothing else.")

    def data_came(self, data: bytes, start: int, end: int) -> None:
        self._came.append(data[start:end])

    def ended(self) -> None:
        self.is_whole = True

    def take(self) -> list[bytes]:
        """Give what came since the last time."""
        came, self._came = self._came, []
        return came
