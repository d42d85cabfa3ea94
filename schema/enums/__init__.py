"""The enums of the API: the gateway's own, with a description for every value."""

from schema.enums import errors as errors
from schema.enums import generation as generation
from schema.enums import identity as identity
from schema.enums import server as server
from schema.enums import usage as usage
