"""What a run is given: one generation, to be taken to its end."""

from dataclasses import dataclass

from backends.protocol import ChatRequest
from db.tables import Generation
from gateway.generation.record import PackedInput
from gateway.generation.request import OnBackendLoss
from gateway.streams import SavedStream


@dataclass(frozen=True, slots=True)
class Job:
    """One generation as this gateway holds it. `saved` is what another gateway did of it before.

    `encoded` is the request as another gateway could read it, empty where none may go on with it. `kept` is the request
    as the database is to keep it, if it is. `text_retention` is for how many seconds that must keep the text at least.
    """

    row: Generation
    request: ChatRequest
    saved: SavedStream | None = None
    encoded: bytes = b""
    kept: PackedInput | None = None
    text_retention: float = 0

    @property
    def continues(self) -> bool:
        """Whether it survives the loss of its model server or its gateway."""
        return self.row.on_backend_loss == OnBackendLoss.CONTINUE
