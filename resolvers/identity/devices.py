"""The root fields of devices that sign in with a code."""

from typing import Annotated

import strawberry

from schema.access import PUBLIC, SIGNED_IN, requires
from schema.context import Info
from schema.identity import (
    ApproveDeviceInput,
    ApproveDeviceResult,
    ApproveDeviceSuccess,
    DenyDeviceInput,
    DenyDeviceResult,
    DenyDeviceSuccess,
    DeviceSignInInput,
    DeviceSignInRequest,
    DeviceSignInRequestResult,
    DeviceSignInRequestSuccess,
    DeviceSignInResult,
    DeviceSignInSuccess,
    StartDeviceSignInInput,
    StartDeviceSignInResult,
    StartDeviceSignInSuccess,
)


@strawberry.type
class DeviceQuery:
    @strawberry.field(
        description="The device that waits with a code, for the person who is asked to approve it. Needs an access "
        "token of a person and not an API key. Wrong codes are counted."
    )
    @requires(SIGNED_IN)
    async def device_sign_in_request(
        self,
        info: Info,
        user_code: Annotated[
            str, strawberry.argument(description="The code, in upper or lower case, with or without the hyphen.")
        ],
    ) -> DeviceSignInRequestResult | None:
        context = info.context
        row = await context.gateway.identity.device_approvals.request(context.caller, user_code, context.client)
        return DeviceSignInRequestSuccess(request=DeviceSignInRequest.of(row, user_code))


@strawberry.type
class DeviceMutation:
    @strawberry.mutation(
        description="Begin to sign in a program that a person approves in a browser, after RFC 8628: for command "
        "lines, and wherever nobody should type a password."
    )
    @requires(PUBLIC)
    async def start_device_sign_in(
        self,
        info: Info,
        input: Annotated[StartDeviceSignInInput, strawberry.argument(description="Who wants to sign in.")],
    ) -> StartDeviceSignInResult | None:
        context = info.context
        started = await context.gateway.identity.device_sign_ins.start(input.client_name, context.client)
        return StartDeviceSignInSuccess.of(started)

    @strawberry.mutation(
        description="Finish the sign-in of a device once a person has approved it, and get what `login` gives; the "
        "code works once. Call it every `intervalMs` until then: an earlier call is refused, and makes the interval "
        "longer."
    )
    @requires(PUBLIC)
    async def device_sign_in(
        self, info: Info, input: Annotated[DeviceSignInInput, strawberry.argument(description="The device's code.")]
    ) -> DeviceSignInResult | None:
        context = info.context
        signed_in = await context.gateway.identity.device_sign_ins.finish(input.device_code, context.client)
        return DeviceSignInSuccess.of(signed_in, in_cookie=False)

    @strawberry.mutation(
        description="Let the device that shows this code sign in as the caller. Show the person who asks, with "
        "`deviceSignInRequest`, and ask them first. Needs an access token of a person and not an API key."
    )
    @requires(SIGNED_IN)
    async def approve_device(
        self, info: Info, input: Annotated[ApproveDeviceInput, strawberry.argument(description="The device's code.")]
    ) -> ApproveDeviceResult | None:
        context, code = info.context, input.user_code
        row = await context.gateway.identity.device_approvals.approve(context.caller, code, context.client)
        return ApproveDeviceSuccess(request=DeviceSignInRequest.of(row, code))

    @strawberry.mutation(
        description="Refuse the device that shows this code. Needs an access token of a person and not an API key."
    )
    @requires(SIGNED_IN)
    async def deny_device(
        self, info: Info, input: Annotated[DenyDeviceInput, strawberry.argument(description="The device's code.")]
    ) -> DenyDeviceResult | None:
        context, code = info.context, input.user_code
        row = await context.gateway.identity.device_approvals.deny(context.caller, code, context.client)
        return DenyDeviceSuccess(request=DeviceSignInRequest.of(row, code))
