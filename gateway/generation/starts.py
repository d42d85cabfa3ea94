"""How generations start: what was asked is checked, what it may use is reserved, and its row is written."""

from dataclasses import dataclass
from functools import partial
from uuid import UUID

from anyio import to_thread
from sqlalchemy.exc import IntegrityError

from auth.principal import ContentPolicy, Principal, strictest
from db.clock import new_id, now
from db.engine import Database, WriteSession
from db.tables import Generation
from gateway.blobs import Blobs
from gateway.catalog import Catalog, Model
from gateway.errors import ShuttingDown
from gateway.generation.admission import Admission, Admitted
from gateway.generation.continuation import encode_request
from gateway.generation.hooks import NO_HOOKS, GenerationHooks
from gateway.generation.idempotency import begun_under, note_key
from gateway.generation.job import Job
from gateway.generation.record import PackedInput, pack_input
from gateway.generation.request import GenerationRequest, OnBackendLoss, OnLimit, blob_references, chat_request
from gateway.generation.run import Gate, Run
from gateway.generation.runner import Phase, Runner
from gateway.limits import LimitReached, Limits, LimitsTold


@dataclass(frozen=True, slots=True)
class _Checked:
    """A request that may be asked of this model. `asked` is as the caller made it, which an idempotency key is for."""

    principal: Principal
    asked: GenerationRequest
    request: GenerationRequest
    model: Model
    admitted: Admitted
    policy: ContentPolicy
    packed: PackedInput | None


class Starts:
    """Begins generations.

    `idempotency_time` is how many seconds an idempotency key stands for what was begun. `content_policy` is the most
    that the database may keep of prompts and answers.
    """

    def __init__(
        self,
        *,
        database: Database,
        catalog: Catalog,
        runner: Runner,
        blobs: Blobs,
        admission: Admission,
        limits: Limits,
        idempotency_time: float,
        content_policy: ContentPolicy,
        hooks: GenerationHooks = NO_HOOKS,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._runner = runner
        self._blobs = blobs
        self._limits = limits
        self._admission = admission
        self._idempotency_time = idempotency_time
        self._content_policy = content_policy
        self._hooks = hooks

    async def start(self, principal: Principal, request: GenerationRequest, told: LimitsTold) -> Generation:
        """Begin, and return at once; under an idempotency key that was used before, what that began.

        `told` learns how the limits stand. Raises InvalidInput, ModelNotFound, Unsupported, LimitReached, Overloaded,
        ShuttingDown.
        """
        try:
            return await self._start(principal, request, told)
        except LimitReached as refusal:
            told.refuse(refusal)
            self._limits.note_refusal(refusal)
            raise

    async def _start(self, principal: Principal, request: GenerationRequest, told: LimitsTold) -> Generation:
        if request.idempotency_key is not None and (begun := await self._begun_under(principal, request)):
            return begun
        self._check_serving()
        checked = await self._checked(principal, request)
        self._check_serving()
        try:
            return await self._begin_or_wait(checked, told)
        except IntegrityError:
            if request.idempotency_key is None or (begun := await self._begun_under(principal, request)) is None:
                raise
            return begun

    async def _begin_or_wait(self, checked: _Checked, told: LimitsTold) -> Generation:
        try:
            return await self._begin(checked, told)
        except LimitReached as refusal:
            if checked.request.on_limit is OnLimit.REFUSE or not self._limits.may_wait(refusal):
                raise
            told.note([refusal.limit])
            return await self._begin(checked, told, partial(self._pass_limit, checked.admitted, refusal))

    async def _checked(self, principal: Principal, asked: GenerationRequest) -> _Checked:
        request = await self._hooks.before_generate(principal, asked)
        model = await self._catalog.find(request.model, principal.models)
        chat, references = chat_request(request, model), blob_references(request)
        blobs = await self._blobs.check(principal, references)
        packed, policy = None, policy_of(principal, request, self._content_policy)
        if self._runner.text_retention and policy is ContentPolicy.ALL:
            # in a thread: megabytes take longer than the others may wait
            packed = await to_thread.run_sync(pack_input, request, blobs)
        admitted = await self._admission.ask(principal, request, chat, model, self._runner.estimates)
        return _Checked(principal, asked, request, model, admitted, policy, packed)

    async def _begin(self, checked: _Checked, told: LimitsTold, gate: Gate | None = None) -> Generation:
        """Write the row and what is reserved for it, and let it run; with a `gate`, let it wait for a limit there."""
        request, key = checked.request, checked.request.idempotency_key
        row = _new_row(checked.principal, request, checked.model, self._runner.replica_id, checked.policy)
        chat = checked.admitted.chat
        encoded = encode_request(chat) if request.on_backend_loss is OnBackendLoss.CONTINUE else b""
        kept = 0 if key is None else self._idempotency_time  # who asks again gets the answer again
        job = Job(row, chat, encoded=encoded, kept=checked.packed, text_retention=kept)

        async def note(tx: WriteSession) -> None:
            await note_key(tx, checked.principal, checked.asked, row, self._idempotency_time)
            await self._blobs.note_use(tx, blob_references(request))
            if gate is None:  # the last thing: until the commit others wait for these counters
                told.note(await self._limits.reserve(tx, row.id, checked.admitted.claims))

        # Of many that come together under one key, one alone is asked; and what a limit may refuse is not asked before.
        ahead = key is None and self._limits.are_ample(checked.admitted.claims)
        await self._runner.start(job, checked.model, note, may_ask_ahead=ahead, gate=gate)
        return row

    async def _pass_limit(self, admitted: Admitted, refusal: LimitReached, run: Run) -> None:
        """Wait until the limit has room, and then for a place in the queue of the backend."""
        row, wanted = run.job.row, partial(self._limits.claims, admitted.asking, admitted.needs)
        if not await self._limits.wait_and_reserve(row.id, row.fence, wanted, refusal):
            run.release()
        await self._runner.unpark(run)

    async def _begun_under(self, principal: Principal, request: GenerationRequest) -> Generation | None:
        async with self._database.reading() as session:
            return await begun_under(session, principal, request, self._idempotency_time)

    def _check_serving(self) -> None:
        if self._runner.phase is Phase.STOPPING:
            raise ShuttingDown


def _new_row(
    principal: Principal, request: GenerationRequest, model: Model, replica_id: UUID, content_policy: ContentPolicy
) -> Generation:
    """Make the row of a generation that this replica is about to run.

    It is an object of no session, whose constructor would note each column as a change: 75 calls of some 2,000 for all
    of an answer.
    """
    row = Generation()
    vars(row).update(
        id=new_id(),
        user_id=principal.user_id,
        api_key_id=principal.api_key_id,
        model=model.name,
        backend=model.backend.name,
        replica_id=replica_id,
        fence=1,
        tags={tag.name: tag.value for tag in request.tags} or None,
        end_user=request.end_user,
        group_ids=[str(group_id) for group_id in principal.group_ids] or None,
        on_disconnect=request.on_disconnect,
        content_policy=content_policy,
        on_backend_loss=request.on_backend_loss,
        created_at=now(),
    )
    return row


def policy_of(principal: Principal, request: GenerationRequest, content_policy: ContentPolicy) -> ContentPolicy:
    """Give what may be kept of a request: the least of what the setting, the API key and the request itself allow."""
    return strictest((content_policy, principal.content_policy, request.content_policy))
