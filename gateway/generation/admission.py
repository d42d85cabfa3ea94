"""What a generation may need of the limits that apply to it, before it starts."""

from dataclasses import dataclass, replace

from auth.principal import Principal
from backends.protocol import ChatRequest
from db.clock import now
from gateway.catalog import Model
from gateway.generation.estimates import Estimates
from gateway.generation.meter import prompt_of
from gateway.generation.request import GenerationRequest
from gateway.limits import Asking, Claim, Limits, Needs, Prices


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request as it may be asked, what it may need, and what has to be reserved for it by the limits of now."""

    chat: ChatRequest
    asking: Asking
    needs: Needs
    claims: list[Claim]


class Admission:
    """Works out the most that a generation can use.

    That is its prompt, as far as it can be estimated, and the longest answer: `maxTokens`, or what the model's context
    leaves, and at most `limit_answer_tokens` where neither says less. The model is held to that number, for an answer
    without an end would go through every limit.
    """

    def __init__(self, limits: Limits, prices: Prices, limit_answer_tokens: int) -> None:
        self._limits = limits
        self._prices = prices
        self._answer_tokens = limit_answer_tokens

    async def ask(
        self, principal: Principal, request: GenerationRequest, chat: ChatRequest, model: Model, estimates: Estimates
    ) -> Admitted:
        """Give what is to be reserved. Raises LimitReached for what no window has room for."""
        asking = Asking.of(principal, model.name, request.end_user, {tag.name: tag.value for tag in request.tags})
        if not await self._limits.limits_output(asking):
            return await self._admitted(chat, asking, Needs(0))
        prompt = estimates.of(model.backend.name, model.upstream_name).prompt_tokens(prompt_of(chat))
        prompt += prompt // MARGIN + LEAST_MARGIN
        answer = chat.options.max_tokens or self._longest_answer(chat, model, prompt)
        chat = replace(chat, options=replace(chat.options, max_tokens=answer))
        return await self._admitted(chat, asking, await self._needs(model, prompt, answer))

    async def _admitted(self, chat: ChatRequest, asking: Asking, needs: Needs) -> Admitted:
        return Admitted(chat, asking, needs, await self._limits.claims(asking, needs))

    async def _needs(self, model: Model, prompt: int, answer: int) -> Needs:
        """Give tokens, and what they cost if none of the prompt's is cached and the price stays as it is."""
        prices = await self._prices.now()
        cost = prices.cost(model.name, now(), prompt_tokens=prompt, cached_tokens=0, completion_tokens=answer)
        return Needs(prompt + answer, {} if cost is None else {cost.price.currency: cost.nano})

    def _longest_answer(self, chat: ChatRequest, model: Model, prompt: int) -> int:
        context = chat.options.context_length or model.info.context_length
        return self._answer_tokens if context is None else max(1, min(self._answer_tokens, context - prompt))


MARGIN = 8
"""An eighth is added to the estimate of a prompt: what is not used is given back at the end."""

LEAST_MARGIN = 16
"""Tokens of a chat template around a short prompt."""
