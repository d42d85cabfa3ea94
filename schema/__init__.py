"""The types of the API. The gateway's enums become part of it here, before any type mentions them."""

from schema import enums as enums
