"""What a generation may need of the limits that apply to it, before it starts."""

from dataclasses import dataclass, replace
from uuid import UUID

from auth.principal import Principal
from backends.protocol import ChatRequest
from db.clock import now
from db.engine import DatabaseUnavailable
from db.tables import Generation
from gateway.catalog import Model
from gateway.errors import DatabaseDown
from gateway.generation.estimates import Estimates
from gateway.generation.meter import prompt_of
from gateway.generation.request import GenerationRequest
from gateway.limits import Asking, Claim, Limits, Needs, Prices
from gateway.streams import TokenUsage


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
        prompt = self._prompt_tokens(chat, model, estimates)
        answer = chat.options.max_tokens or self._longest_answer(chat, model, prompt)
        chat = replace(chat, options=replace(chat.options, max_tokens=answer))
        return await self._admitted(chat, asking, await self._needs(model, prompt, answer))

    async def again(
        self, row: Generation, chat: ChatRequest, model: Model, estimates: Estimates, spent: TokenUsage
    ) -> None:
        """Reserve what a generation needs more than it had reserved, because another backend reads its prompt again.

        `chat` is what is left to ask, `spent` what was used before. Raises LimitReached where a limit has no room for
        it, and DatabaseDown where nobody can tell.
        """
        try:
            if not await self._limits.reserve_output():
                return
            prompt = self._prompt_tokens(chat, model, estimates)
            answer = chat.options.max_tokens or self._longest_answer(chat, model, prompt)
            prices = await self._prices.now()
            before = prices.cost(
                model.name,
                now(),
                prompt_tokens=spent.prompt_tokens,
                cached_tokens=spent.cached_tokens,
                completion_tokens=spent.completion_tokens,
            )
            needs = await self._needs(model, prompt, answer)
            cost = needs.cost if before is None else {name: nano + before.nano for name, nano in needs.cost.items()}
            tokens = needs.tokens + spent.prompt_tokens + spent.completion_tokens
            await self._limits.reserve_again(_asking_of(row), row.id, Needs(tokens, cost))
        except DatabaseUnavailable as error:
            raise DatabaseDown from error

    def _prompt_tokens(self, chat: ChatRequest, model: Model, estimates: Estimates) -> int:
        """Estimate a prompt, rather too high."""
        prompt = estimates.of(model.backend.name, model.upstream_name).prompt_tokens(prompt_of(chat))
        return prompt + prompt // MARGIN + LEAST_MARGIN

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


def _asking_of(row: Generation) -> Asking:
    """Give what is known of who asked for a generation, which tells whose counters count it. The role is not."""
    groups = frozenset(map(UUID, row.group_ids or ()))
    return Asking(row.user_id, "", groups, row.api_key_id, row.model, row.end_user, row.tags or {})
