"""Forming batches: a pure queue and cost model, the execution of one batch, and the asyncio shell around them."""
