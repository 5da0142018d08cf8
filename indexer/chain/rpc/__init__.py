"""JSON-RPC endpoints: one question there and back, what is learned about an endpoint, and which one is asked.

An endpoint asks once and classifies what went wrong; the requester retries within bounds and fails over; the endpoint
pool chooses. What an endpoint refuses (ranges, lists, batches, methods, rates) is remembered with it.

* ``requester``: a question retried, failed over and learned from. ``endpoint_pool``: which endpoint is asked next.
* ``endpoint``, ``endpoint_status``: one endpoint; what an operator is told of it.
* ``transport``, ``open_sockets``, ``config``: bytes there and back, until they are wanted no more; settings.
* ``admission``, ``batch_size``, ``rate_control``, ``health``, ``retry``: which requests may be under way, how many
  calls a batch takes, how fast, whether the endpoint is worth asking, when a question is asked again.
* ``answers``, ``error_table``, ``refusals``, ``list_limits``: whose answer it is; what an error's text means; what a
  refusal means whose text does not say; how long the lists of a question may be.
* ``partial_answers``: several questions of which some fail: what came is kept.
* ``hedging``: questions that the head waits for, asked again elsewhere where one request is not answered.
"""
