"""Who asks: sign-in, API keys, and the short memory of both."""

from gateway.identity.authentication import Identity, NewApiKey
from gateway.identity.sign_in import LoginPolicy, SignedIn

__all__ = ["Identity", "LoginPolicy", "NewApiKey", "SignedIn"]
