"""Sign-in with identity providers: making them out of the settings, and the two addresses of the browser's way."""

from server.sign_in.providers import make_providers, sign_up
from server.sign_in.routes import RedirectsOverHttp

__all__ = ["RedirectsOverHttp", "make_providers", "sign_up"]
