"""What the marks of all fields say together: who may select what, as the schema prints it."""

from collections.abc import Iterator, Mapping

from graphql import GraphQLInterfaceType, GraphQLObjectType, GraphQLSchema, OperationType
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField

from schema.access import access_directive, is_public


def public_fields(schema: GraphQLSchema) -> Mapping[OperationType, frozenset[str]]:
    """Give the root fields of each kind of operation that need no credentials."""
    return {
        kind: frozenset(name for name, field in _declared(root) if is_public(field))
        if (root := schema.get_root_type(kind))
        else frozenset()
        for kind in OperationType
    }


def print_access(schema: GraphQLSchema) -> None:
    """Give each field that checks a scope the directive that says so. Called once, when the schema is made."""
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for _, field in _declared(kind):
                directive = access_directive(field)
                if directive is not None and directive not in field.directives:
                    field.directives = [directive, *field.directives]


def _declared(kind: GraphQLObjectType | GraphQLInterfaceType) -> Iterator[tuple[str, StrawberryField]]:
    """Give the fields of a type as Strawberry knows them; introspection's own are none of ours."""
    for name, field in kind.fields.items():
        definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
        if isinstance(definition, StrawberryField):
            yield name, definition
