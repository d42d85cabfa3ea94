"""How documents are executed, as the settings ask for it."""

import strawberry

from server.graphql import (
    DocumentLimits,
    Executor,
    ManifestError,
    PersistedDocuments,
    TrustedDocuments,
    VariableLimits,
)
from server.server_info import introspection_access
from server.settings import Settings, SettingsError


def trusted_documents(settings: Settings) -> TrustedDocuments:
    """Load the trusted documents. Raises SettingsError where they cannot be used."""
    try:
        return TrustedDocuments(settings.trusted_documents_path, settings.trusted_documents)
    except ManifestError as error:
        raise SettingsError(f"{error} Fix it, or set OLLAGRAPH_TRUSTED_DOCUMENTS to off.") from error


def document_limits(settings: Settings) -> DocumentLimits:
    """Give the limits of documents that the settings ask for."""
    return DocumentLimits(
        length=settings.max_query_length,
        tokens=settings.max_query_tokens,
        depth=settings.max_query_depth,
        aliases=settings.max_query_aliases,
        root_fields=settings.max_query_root_fields,
        directives=settings.max_query_directives,
        fragments=settings.max_query_fragments,
        fields=settings.max_query_fields,
        repeats=settings.max_query_repeats,
        list_length=settings.max_list_length,
        cost=settings.max_query_cost,
        api_keys=settings.max_api_keys_per_user,
    )


def make_executor(settings: Settings, schema: strawberry.Schema, trusted: TrustedDocuments) -> Executor:
    """Make what executes documents against the schema."""
    return Executor(
        schema,
        document_limits(settings),
        PersistedDocuments(trusted, automatic=settings.automatic_persisted_queries),
        query_timeout=settings.query_timeout,
        introspection=introspection_access(settings),
        suggestions=settings.gives_suggestions,
        debug=settings.debug,
        variable_limits=VariableLimits(settings.max_list_length, settings.max_variable_values),
    )
