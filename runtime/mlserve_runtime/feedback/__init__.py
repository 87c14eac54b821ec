"""Learning later whether a prediction was right: signed prediction ids (tokens) and what they brought back (ledger)."""
