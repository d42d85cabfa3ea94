"""What one caller may hold open, and what one address may send: how it is refused."""

from server.transports.limits.connections import ConnectionLimiter, TooManyConnections
from server.transports.limits.requests import too_many_headers, too_many_requests

__all__ = ["ConnectionLimiter", "TooManyConnections", "too_many_headers", "too_many_requests"]
