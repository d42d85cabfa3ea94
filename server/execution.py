"""Running GraphQL requests: from a request to results in the form in which they are sent."""

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import strawberry
from graphql import GraphQLError, GraphQLSyntaxError, OperationType
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType as StrawberryOperationType

from auth.errors import AuthenticationError
from gateway.errors import ErrorCode, GatewayError
from schema.context import Context
from server.requests import GraphQLRequest

logger = logging.getLogger(__name__)
