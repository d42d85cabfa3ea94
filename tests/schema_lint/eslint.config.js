// What the schema promises to whoever reads it or generates code from it. Exceptions are named, each with its reason.
import graphql from "@graphql-eslint/eslint-plugin";

const rules = {
  ...graphql.configs["flat/schema-recommended"].rules,
  ...graphql.configs["flat/schema-relay"].rules,
  "@graphql-eslint/require-description": [
    "error",
    {
      types: true,
      rootField: true,
      FieldDefinition: true,
      InputValueDefinition: true,
      EnumValueDefinition: true,
    },
  ],
  "@graphql-eslint/require-nullable-fields-with-oneof": "error",
  "@graphql-eslint/no-scalar-result-type-on-mutation": "error",

  // Only a Node has an identity, and nothing else may have a field `id` (tests/test_schema.py).
  "@graphql-eslint/strict-id-in-types": "off",
  // Connections go forward only: what is newest is wanted first, and no client was seen to page backwards.
  "@graphql-eslint/relay-arguments": ["error", { includeBoth: false }],
  // `generate` and `startGeneration` ask for the same, with one input.
  "@graphql-eslint/input-name": "off",
  // What is bounded is a plain list, and a row of a report is no Node.
  "@graphql-eslint/relay-edge-types": ["error", { listTypeCanWrapOnlyEdgeType: false, shouldImplementNode: false }],
  // `username` is one word, and the standard one (OpenID Connect: preferred_username).
  "@graphql-eslint/no-typename-prefix": "off",
};

export default [
  {
    files: ["**/*.graphql"],
    languageOptions: { parser: graphql.parser, parserOptions: { graphQLConfig: { schema: "../../schema.graphql" } } },
    plugins: { "@graphql-eslint": graphql },
    rules,
  },
];
