// The operations. `npm run generate` types them by the gateway's schema; what does not fit it fails there.
import { graphql } from "./gql";

// A generation that is started lives by itself, and any number of subscriptions may watch it, one after the other.
export const START = graphql(`
  mutation Start($input: GenerateInput!) {
    startGeneration(input: $input) {
      __typename
      ... on StartGenerationSuccess { generation { id } }
      ... on UserError { message }
    }
  }
`);

export const WATCH = graphql(`
  subscription Watch($id: ID!, $after: Int!) {
    generation(id: $id, after: $after) {
      __typename
      sequence
      ... on TextDelta { text offset }
      ... on GenerationCompleted { finishReason usage { promptTokens completionTokens } }
      ... on GenerationCancelled { cancelReason usage { completionTokens } }
      ... on GenerationFailed { error { message } }
    }
  }
`);

export const CANCEL = graphql(`
  mutation Cancel($id: ID!) {
    cancelGeneration(input: { id: $id }) {
      __typename
      ... on UserError { message }
    }
  }
`);
