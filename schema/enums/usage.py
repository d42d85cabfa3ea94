"""Of usage reports and limits."""

from gateway.limits import LimitDimension, LimitWindow, Measure
from gateway.streams import UsageSource
from gateway.usage import Granularity, UsageDimension, UsageOrder
from schema.enums.describing import describe

describe(
    UsageSource,
    "UsageSource",
    "Where a token count comes from.",
    {
        "BACKEND": "The model server reported it.",
        "COUNTED": "The gateway counted it as the answer streamed.",
        "ESTIMATED": "It was estimated from the text, or a part of it was not reported.",
    },
)
describe(
    Granularity,
    "Granularity",
    "How much time one row of a usage report covers, by the clock of the report's time zone.",
    {
        "HOUR": "An hour.",
        "DAY": "A day, from midnight to midnight; 23 or 25 hours when the clocks change.",
        "WEEK": "A week, from Monday to Sunday.",
        "MONTH": "A calendar month.",
        "NONE": "The whole time of the report.",
    },
)
describe(
    UsageDimension,
    "UsageDimension",
    "What the rows of a usage report are grouped by.",
    {
        "MODEL": "Each model.",
        "API_KEY": "Each API key, and one group for generations without a key.",
        "USER": "Each user that `filter` selects. Needs USAGE_READ_ALL.",
        "BACKEND": "Each backend.",
        "FINISH": "How generations ended: each pair of `state` and `finishReason`.",
        "TAG": "Each name and value of a tag, and one group for generations without tags. A generation counts in the "
        "group of each of its tags.",
        "END_USER": "Each `endUser`, and one group for generations without one.",
        "GROUP": "Each group of users, and one for users without groups. A generation counts in each of the groups "
        "that its user was in when it started.",
    },
)
describe(
    UsageOrder,
    "UsageOrder",
    "The order of the rows of a usage report. Equal rows are ordered by time, then by their dimensions.",
    {
        "OLDEST_FIRST": "The earliest first.",
        "NEWEST_FIRST": "The latest first.",
        "MOST_GENERATIONS": "The most generations first.",
        "MOST_TOKENS": "The most tokens first, prompt and completion together.",
    },
)
describe(
    Measure,
    "LimitMeasure",
    "What a limit counts.",
    {
        "REQUESTS": "Generations that started.",
        "TOKENS": "Tokens of prompts and answers.",
        "PARALLEL": "Generations that run or wait at the same time.",
        "COST": "What generations cost.",
    },
)
describe(
    LimitWindow,
    "LimitWindow",
    "How long what was used counts for a limit.",
    {
        "MINUTE": "60 seconds, from the first request on.",
        "DAY": "A calendar day in the limit's time zone.",
        "MONTH": "A calendar month in the limit's time zone.",
    },
)
describe(
    LimitDimension,
    "LimitDimension",
    "What a limit counts by: each has an amount of its own.",
    {
        "USER": "Each user.",
        "GROUP": "Each group; a generation counts for every group of its user.",
        "API_KEY": "Each API key; what is asked without a key does not count.",
        "MODEL": "Each model.",
        "END_USER": "Each of the callers' own users, `endUser`.",
        "TAG": "Each value of the tag that the limit names.",
    },
)
