"""Rent from AutoDL through its two HTTP APIs: container instances Pro, and elastic deployments.

    money.py      1/1000 yuan, yuan, dollars; pure
    answers.py    what an answer means; pure
    command.py    the one line a machine is started with; pure
    client.py     HTTP
    account.py    token and balance
    pro.py        container instances Pro: `kind = "autodl-pro"`
    elastic.py    elastic deployments: `kind = "autodl-elastic"`
    simulator.py  a server that speaks both, for trying and for tests: `python -m flows.gpus.autodl.simulator`

From AutoDL's documentation: paths, bodies, the envelope `{"code", "msg", "data", "request_id"}`, the header
`Authorization` with the bare token, prices in 1/1000 yuan, specs, regions, container states, and that the
`shutdown` command inside a container instance powers it off. From people's reports of live calls: GET takes
its arguments in the query alone (the documentation shows a body), `release` is refused until a status of
`shutdown`, `shutting_down` and `starting` exist, a new instance runs at once, a released one leaves the
list, the balance holds a `blocked_asset`, and the codes `RecordNotFoundError`, `RequestParameterIsWrong`,
`TORealName`, `InternalError` for no stock, `BadRequest` for a missing right.

Not known, and nothing here rests on it: how long a token lives and with which code a wrong one is refused;
how calls are limited; how late a list may be; whether `payg_price` and `price_to` of several GPUs are for
one or for all; whether Pro takes public base images (reports differ; name one of your own); what
`sub_status` can be; whether a Job starts a container again whose command failed. There is no spot price in
either API, no log of what a program wrote, no end set on the server's side, and no idempotency key.
"""
