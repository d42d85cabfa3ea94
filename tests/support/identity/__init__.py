"""Identity providers for tests: a real directory, and an OpenID provider that errs on request."""
