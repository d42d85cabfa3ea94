"""What a name means that somebody asks for: which model, at which backends.

Names are taken as Ollama takes them (types/model/name.go): without a tag, `latest` is meant; the case of letters does
not matter; the default registry and its namespace `library` may be left out. A name exactly as a backend lists it comes
before all of that: to another server `ollama/x` or `meta-llama/Llama-3` may be the whole name of a model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from auth.model_access import ALL_MODELS, ModelAccess
from backends.protocol import ModelInfo
from gateway.catalog.listing import Listing

_SCHEMES = ("https://", "http://")
_REGISTRY = "registry.ollama.ai/"
_NAMESPACE = "library/"
_TAG = "latest"

MOST_SUGGESTIONS = 3

LONGEST_COMPARED = 255
"""Characters of an unknown name that are compared with those that are listed: the time grows with them."""


@dataclass(frozen=True, slots=True)
class Place:
    """A model at one backend; `name` is the listed name under which it was found."""

    name: str
    listing: Listing
    info: ModelInfo


def plain_name(name: str) -> str:
    """Give the form in which all ways to write one name are the same."""
    path = name.casefold()
    for scheme in _SCHEMES:
        path = path.removeprefix(scheme)
    path = path.removeprefix(_REGISTRY)
    if path.count("/") == 1:  # of a longer one, `library` is somebody's registry
        path = path.removeprefix(_NAMESPACE)
    tagged = path.rfind(":") > path.rfind("/")  # the colon before a slash is that of a port
    return path if tagged else f"{path}:{_TAG}"


class ModelNames:
    """The names of all models that these backends list now; made anew when a list changes.

    Where several list the same name, the first keeps it and the models of the others are listed as "backend/model".
    Every model can be asked for in that way.
    """

    def __init__(self, listings: Sequence[Listing]) -> None:
        self._listings = {listing.backend.name: listing for listing in listings}
        self._places: dict[str, list[Place]] = {}
        self._listed_as: dict[tuple[str, str], str] = {}
        self._plain = {listing: _by_plain_name(listing) for listing in listings}
        every = {name for listing in listings for name in listing.models}
        for listing in listings:
            for info in listing.models.values():
                self._add(listing, info, every)

    def __iter__(self) -> Iterator[str]:
        """Give each listed name, those of the first backend first."""
        return iter(self._places)

    def find(self, name: str) -> Sequence[Place]:
        """Give the places that the name may mean; nothing where no backend lists anything like it."""
        if places := self._places.get(name):
            return places
        before, _, rest = name.partition("/")
        listing = self._listings.get(before.casefold())
        if listing is not None and (info := self.at(listing, rest)) is not None:
            return [Place(self._listed_as[listing.backend.name, info.name], listing, info)]
        return [
            Place(info.name, listing, info)
            for listing in self._listings.values()
            if (info := self.at(listing, name)) is not None
        ]

    def has(self, name: str) -> bool:
        """Tell whether a model is listed under exactly this name."""
        return name in self._places

    def like(self, name: str, access: ModelAccess = ALL_MODELS) -> list[str]:
        """Give the listed names, as far as `access` allows them, that are most like this one, the likeliest first."""
        known: dict[str, str] = {}
        for listed in filter(access.allows, self._places):
            for written in (listed.casefold(), listed.casefold().partition(":")[0]):
                known.setdefault(written, listed)
        found = get_close_matches(name[:LONGEST_COMPARED].casefold(), known, n=2 * MOST_SUGGESTIONS)
        return list(dict.fromkeys(known[written] for written in found))[:MOST_SUGGESTIONS]

    def at(self, listing: Listing, name: str) -> ModelInfo | None:
        """Give what one backend lists under the name, exactly or else written in another way."""
        return listing.models.get(name) or self._plain[listing].get(plain_name(name))

    def _add(self, listing: Listing, info: ModelInfo, every: set[str]) -> None:
        name = info.name
        places = self._places.setdefault(name, [])
        places.append(Place(name, listing, info))
        if len(places) > 1:
            while name in every:  # what a backend itself lists is never hidden behind a name of ours
                name = f"{listing.backend.name}/{name}"
            self._places[name] = [Place(name, listing, info)]
        self._listed_as[listing.backend.name, info.name] = name


def _by_plain_name(listing: Listing) -> dict[str, ModelInfo]:
    found: dict[str, ModelInfo] = {}
    for info in listing.models.values():
        found.setdefault(plain_name(info.name), info)
    return found
